// Small things of the frame: the theme's button, and copying the address.

import { at, icon } from "./dom.js";

const THEMES = ["system", "light", "dark"];
const root = document.documentElement;

const theme = () => root.dataset.theme ?? "system";

function setTheme(next) {
  if (next === "system") delete root.dataset.theme;
  else root.dataset.theme = next;
  try {
    if (next === "system") localStorage.removeItem("manymatch-theme");
    else localStorage.setItem("manymatch-theme", next);
  } catch {
    // Where storage is forbidden the choice holds until the page is left.
  }
  tellTheme();
}

function tellTheme() {
  const words = `Theme: ${theme()}`;
  at("theme").setAttribute("aria-label", words);
  at("theme").title = words;
}

at("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]));
tellTheme();

at("share")?.addEventListener("click", async (event) => {
  const node = event.currentTarget;
  const before = [...node.childNodes];
  try {
    await navigator.clipboard.writeText(location.href);
  } catch {
    // Without leave to write there, or over plain http, the address can be copied by hand.
    prompt("The link to this search", location.href);
    return;
  }
  node.replaceChildren(icon("done"), "Copied");
  setTimeout(() => node.replaceChildren(...before), 1600);
});
