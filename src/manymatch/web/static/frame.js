// What stands around the results: the thing asked with, the chips, and the notes below.

import { itemUrl } from "./ask.js";
import { at, icon, make } from "./dom.js";
import { showChips } from "./filters.js";
import { count, valueText } from "./format.js";
import { chosen } from "./options.js";
import { address, asking } from "./state.js";
import { partsOf } from "./where.js";

/** The photo or picture that was asked with, and a way to be without it. */
export function drawAsked(question) {
  const asked = at("asked");
  asked.hidden = question.like === null && !question.stamp;
  if (asked.hidden) return asked.replaceChildren();
  const source = question.picture ? URL.createObjectURL(question.picture) : question.like !== null ? itemUrl(question.like, "/thumbnail") : null;
  const preview = source && make("img", { alt: "", src: source });
  preview?.addEventListener("error", () => preview.remove());
  preview?.addEventListener("load", () => question.picture && URL.revokeObjectURL(source));
  asked.replaceChildren(preview ?? "", make("span", {}, question.stamp ? "Photos like your picture" : "Photos like this one"),
    make("a", { href: address(asking({ ...question, where: [] }, {})), "data-go": "", "aria-label": "Clear", title: "Clear" }, icon("close")));
}

/** Chips for the filters and options in force; `hrefOf(change)` is the address without them. */
export function drawChips(question, fields, hrefOf) {
  const kinds = new Map(fields.map((field) => [field.name, field.kind]));
  const active = partsOf(question.where, (field, value) => valueText(value, kinds.get(field)));
  const set = chosen(question);
  showChips(at("chips"), [...active.map(({ field, text, without }) => ({ field, text, href: hrefOf({ where: without }) })),
    ...set.map(({ field, text, set: without }) => ({ field, text, href: hrefOf(without) }))],
  hrefOf({ where: [], ...Object.assign({}, ...set.map(({ set: without }) => without)) }));
  at("filter-count").textContent = active.length;
  at("filter-count").hidden = !active.length;
}

/** What the server notes of an answer, below it. */
export function drawNotes(notes) {
  at("notes").replaceChildren(...notes.map((note) => make("li", {}, note)));
  at("notes").hidden = !notes.length;
}

/** Show that work is under way. */
export function busy(is) {
  document.body.classList.toggle("is-busy", is);
  at("parts").toggleAttribute("aria-busy", is);
  if (is) at("parts").setAttribute("aria-busy", "true");
}

/** Say when a busy server will be asked again. */
export function waiting(seconds) {
  at("status").replaceChildren(make("b", {}, "The server is busy"), make("span", {}, `trying again in ${count(seconds, "second")}\u2026`));
}

/** What could be let go of where nothing was found. */
export function ways(question, hrefOf) {
  const found = [];
  if (question.where.length) found.push({ text: "Without the filters", href: hrefOf({ where: [] }) });
  if (question.confident !== null) found.push({ text: "Less likely ones too", href: hrefOf({ confident: null }) });
  return found;
}
