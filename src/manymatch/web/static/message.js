// Words to the visitor where results would be: what went wrong or is empty, what helps, and the form for a key.

import { ask, json } from "./ask.js";
import { at, make } from "./dom.js";

const OURS = new Set(["Offline", "InternalError", "Unreadable", "Overloaded", "TooManyRequests", "Stopping", "Timeout"]);
const root = at("message");

export function hideMessage() {
  root.hidden = true;
  root.replaceChildren();
}

function showMessage(testid, title, lines, ...actions) {
  root.replaceChildren(make("h2", {}, title), ...lines.map((text) => make("p", {}, text)),
    actions.some(Boolean) ? make("div", { className: "message-actions" }, actions) : "");
  root.dataset.testid = testid;
  root.hidden = false;
}

/** Nothing was found. `notes` are the server's lines, `ways` links that would find something: {text, href}. */
export function showEmpty(notes, ways) {
  const hint = ways.length ? "Nothing here passes everything that was asked for." : "Nothing here fits what was asked. Try other words.";
  const hints = [hint, ...notes];
  showMessage("empty", "Nothing found", hints, ...ways.map(({ text, href }) => make("a", { className: "more", href, "data-go": "" }, text)));
}

/** What the server refused, or why it was not reached; `retry` asks again. */
export function showError(error, retry) {
  const busy = error.status === 429 || error.status === 503;
  const title = busy ? "The server is busy" : OURS.has(error.kind) || !error.kind ? "Something went wrong" : "That cannot be searched";
  const again = make("button", { type: "button", className: "more" }, "Try again");
  again.addEventListener("click", retry);
  showMessage("error", title, [error.message], OURS.has(error.kind) || !error.kind ? again : make("a", { className: "more", href: "./", "data-go": "" }, "Start again"));
}

/** Ask for a key; `done()` is called once the server took it and set its cookie. */
export function showKeyForm(done) {
  const input = make("input", { type: "password", name: "key", id: "key", autocomplete: "current-password", required: true, className: "key-input" });
  const said = make("p", { className: "key-said", role: "alert", id: "key-said" });
  const form = make("form", { className: "key-form", "data-testid": "key-form" },
    make("label", { htmlFor: "key" }, "Key"), input, make("button", { type: "submit", className: "primary" }, "Open"), said);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    said.textContent = "";
    try {
      await ask("api/session", json({ key: input.value.trim() }));
      done();
    } catch (error) {
      said.textContent = error.status === 401 ? "That key does not open this collection." : error.message;
      input.setAttribute("aria-describedby", "key-said");
      input.select();
    }
  });
  root.replaceChildren(make("h2", {}, "This collection asks for a key"),
    make("p", {}, "Whoever runs it can give you one. It stays in this browser."), form);
  root.dataset.testid = "key";
  root.hidden = false;
  input.focus();
}
