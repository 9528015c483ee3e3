// "Try it": a form for a GET endpoint that sends it from this page and shows what came back.

import { button, make } from "./dom.js";
import { resolve } from "./schema.js";

const LONGEST = 40_000;

/** A form for the parameters of an endpoint; `path` has {names} in braces. */
export function trial(spec, path, parameters) {
  const id = `try-${path.replaceAll(/\W+/g, "-")}`;
  const inputs = parameters.map((one) => [one, inputOf(spec, one, `${id}-${one.name}`)]);
  const answer = make("div", { className: "answer", role: "status" });
  const form = make("form", { className: "trial" },
    inputs.length ? make("div", { className: "trial-fields" }, inputs.map(([one, input]) =>
      make("label", { htmlFor: input.id }, make("span", {}, one.name, one.required ? make("b", { "aria-hidden": "true" }, " *") : null), input))) : null,
    make("button", { type: "submit", className: "primary" }, "Send"), answer);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(addressOf(path, inputs), answer);
  });
  return make("details", { className: "try" }, make("summary", {}, "Try it"), form);
}

function inputOf(spec, one, id) {
  const at = resolve(spec, one.schema);
  const kind = (at.anyOf ?? [at]).map((each) => resolve(spec, each)).find((each) => each.type !== "null") ?? {};
  const choices = kind.enum ?? (kind.type === "boolean" ? ["true", "false"] : null);
  if (choices) return make("select", { id, name: one.name }, make("option", { value: "" }, ""), choices.map((value) => make("option", { value }, value)));
  const hint = kind.type === "array" ? "one a line" : at.default ?? "";
  const start = one.example ?? (one.required ? at.example ?? "" : "");
  if (kind.type === "array") return make("textarea", { id, name: one.name, rows: 2, placeholder: hint });
  return make("input", { id, name: one.name, type: "text", placeholder: String(hint), value: String(start), required: Boolean(one.required) });
}

function addressOf(path, inputs) {
  const query = new URLSearchParams();
  let filled = path;
  for (const [one, input] of inputs) {
    const values = input.tagName === "TEXTAREA" ? input.value.split("\n").filter(Boolean) : input.value ? [input.value] : [];
    if (one.in === "path") filled = filled.replace(`{${one.name}}`, encodeURIComponent(input.value));
    else if (one.in === "query") for (const value of values) query.append(one.name, value);
  }
  // The page may lie below a prefix of a proxy, so addresses stay relative to it.
  return filled.slice(1) + (query.size ? `?${query}` : "");
}

async function send(address, root) {
  root.replaceChildren(make("p", { className: "hint" }, "Asking\u2026"));
  const began = performance.now();
  try {
    const response = await fetch(address);
    const took = `${response.status} ${response.statusText}, ${Math.round(performance.now() - began)} ms`;
    root.replaceChildren(make("p", { className: response.ok ? "went-well" : "went-wrong" }, make("b", {}, took), ` ${decodeURI(new URL(response.url).pathname)}`),
      await bodyOf(response));
  } catch (error) {
    root.replaceChildren(make("p", { className: "went-wrong" }, `Not answered: ${error.message}`));
  }
}

async function bodyOf(response) {
  const type = response.headers.get("Content-Type") ?? "";
  if (type.startsWith("image/")) {
    const source = URL.createObjectURL(await response.blob());
    const image = make("img", { src: source, alt: "The picture that was answered" });
    image.addEventListener("load", () => URL.revokeObjectURL(source));
    return image;
  }
  const text = await response.text();
  const shown = type.includes("json") ? JSON.stringify(JSON.parse(text), null, 2) : text;
  const cut = shown.length > LONGEST ? `${shown.slice(0, LONGEST)}\n\u2026 ${(shown.length - LONGEST).toLocaleString("en")} more characters` : shown;
  return make("pre", { tabIndex: 0, "aria-label": "Answer" }, cut);
}

/** A line for the terminal, with a button that copies it. */
export function curlLine(text) {
  const copy = button({ className: "text-button copy" }, async () => {
    await navigator.clipboard?.writeText(text).catch(() => null);
    copy.textContent = navigator.clipboard ? "Copied" : "Select and copy";
    setTimeout(() => (copy.textContent = "Copy"), 1600);
  }, "Copy");
  return make("div", { className: "curl" }, make("pre", { tabIndex: 0, "aria-label": "For the terminal" }, text), copy);
}
