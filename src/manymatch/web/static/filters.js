// Filters from metadata: a box for each value with its count, bounds for numbers, words for long texts.

import { at, button, icon, make, unseen } from "./dom.js";
import { number, valueText } from "./format.js";
import { bounded, toggled, worded } from "./where.js";

const FEW = 12;
const FIRST = 6;

/** Fields whose values are offered one by one, which are those whose counts are asked for. */
export function counted(fields) {
  return fields.filter(isCounted).map((field) => field.name).slice(0, 24);
}

function isCounted(field) {
  if (!field.values?.length) return false;
  if (field.kind === "number") return field.values.length <= FEW && isWhole(field);
  // Values that occur once each tell items, not kinds.
  return field.kind === "boolean" || field.values.length < field.items;
}

/** Whether the values named are all there are; at most thirty are. */
const isWhole = (field) => field.values.length < 30;

/** The box of fields. `change(conditions)` is called with the conditions a visitor wants. */
export function makeFilters(fields, change) {
  let where = [];
  const set = (next) => change(next);
  const boxes = fields.map((field) => fieldBox(field, () => where, set)).filter(Boolean);
  const root = at("filter-fields");
  root.replaceChildren(...boxes.map((box) => box.node));
  if (!boxes.length) root.append(make("p", { className: "soft" }, "This collection has no metadata to filter by."));
  return {
    any: boxes.length > 0,
    /** Show what is chosen, and `facets` (field -> counted values) of the answer; null leaves the counts as they are. */
    update(conditions, facets) {
      where = conditions;
      for (const box of boxes) box.update(conditions, facets?.[box.name]);
    },
  };
}

function fieldBox(field, where, set) {
  const rows = isCounted(field) ? valueRows(field, where, set) : null;
  const range = field.kind === "number" && !rows ? bounds(field, where, set) : null;
  const words = field.kind === "text" && (!rows || !isWhole(field)) ? wordsInput(field, where, set) : null;
  const parts = [rows, range, words].filter(Boolean);
  if (!parts.length) return null;
  const node = make("fieldset", { className: "field" }, make("legend", {}, field.name), parts.map((part) => part.node));
  return { name: field.name, node, update: (conditions, facet) => parts.forEach((part) => part.update(conditions, facet)) };
}

function valueRows(field, where, set) {
  const list = make("ul", { className: "values" });
  const rows = new Map();
  const add = (value, total) => {
    const key = String(value);
    if (rows.has(key)) return rows.get(key);
    const box = make("input", { type: "checkbox", "data-testid": "filter-value", "data-field": field.name, "data-value": key });
    const figure = make("span", { className: "figure" }, total === null ? "" : number(total));
    box.addEventListener("change", () => set(toggled(where(), field.name, key)));
    const node = make("li", {}, make("label", {}, box, make("span", { className: "value" }, valueText(value, field.kind)), figure));
    list.append(node);
    rows.set(key, { box, figure, node });
    return rows.get(key);
  };
  for (const { value, count } of field.values) add(value, count);
  const all = button({ className: "text-button", "aria-expanded": "false" }, () => {
    const open = all.getAttribute("aria-expanded") === "false";
    all.setAttribute("aria-expanded", String(open));
    fold();
  });
  const fold = () => {
    const open = all.getAttribute("aria-expanded") === "true";
    [...rows.values()].forEach(({ node, box }, n) => (node.hidden = !open && n >= FIRST && !box.checked));
    all.hidden = rows.size <= FIRST;
    all.textContent = open ? "Show fewer" : `Show ${isWhole(field) ? "all" : "the most frequent"} ${rows.size}`;
  };
  fold();
  return {
    node: make("div", {}, list, all),
    update(conditions, facet) {
      const chosen = conditions.find((one) => one.field === field.name && one.in)?.in ?? [];
      for (const value of chosen) add(value, null);
      const counts = facet && new Map(facet.map(({ value, count }) => [same(value, field), count]));
      for (const [key, { box, figure, node }] of rows) {
        box.checked = chosen.includes(key);
        if (counts) figure.textContent = number(counts.get(same(key, field)) ?? 0);
        if (counts) node.classList.toggle("is-none", !counts.has(same(key, field)) && !box.checked);
      }
      fold();
    },
  };
}

/** One name of a value: booleans are counted as 0 and 1. */
const same = (value, field) => (field.kind === "boolean" ? valueText(value, "boolean") : String(value));

function bounds(field, where, set) {
  const [low, high] = ["gte", "lte"].map((name) => {
    const words = name === "gte" ? "from" : "to";
    return make("input", {
      type: "number", step: "any", inputMode: "decimal", placeholder: String((name === "gte" ? field.low : field.high) ?? ""),
      "aria-label": `${field.name} ${words}`, "data-testid": "filter-value", "data-field": field.name, "data-bound": words,
    });
  });
  // What is being typed is not yet a condition, so an answer that comes meanwhile must not take it away.
  const typing = new Set();
  const send = () => {
    typing.clear();
    set(bounded(where(), field.name, { gte: low.value, lte: high.value }));
  };
  for (const input of [low, high]) {
    input.addEventListener("input", () => typing.add(input));
    input.addEventListener("change", send);
  }
  return {
    node: make("div", { className: "bounds" }, low, make("span", { "aria-hidden": "true" }, "to"), high),
    update(conditions) {
      const range = conditions.find((one) => one.field === field.name && one.range)?.range ?? {};
      for (const [input, value] of [[low, range.gte], [high, range.lte]]) if (!typing.has(input)) input.value = value ?? "";
    },
  };
}

function wordsInput(field, where, set) {
  const input = make("input", {
    type: "search", placeholder: "has the words\u2026", "aria-label": `${field.name} has the words`, "data-testid": "filter-value",
    "data-field": field.name, className: "words-input",
  });
  input.addEventListener("change", () => set(worded(where(), field.name, input.value.trim())));
  return {
    node: input,
    update(conditions) {
      if (document.activeElement !== input) input.value = conditions.find((one) => one.field === field.name && one.text !== undefined)?.text ?? "";
    },
  };
}

/** Chips for what is active. `parts` are {field, text, href}; the last chip clears all. */
export function showChips(root, parts, clearHref) {
  const chip = ({ field, text, href }) => make("li", {}, make("a", {
    className: "chip", href, "data-go": "", "data-testid": "filter-chip",
  }, unseen("Remove "), field ? make("span", { className: "chip-field" }, field) : null, make("span", { className: "chip-text" }, text), icon("close")));
  root.replaceChildren(...parts.map(chip));
  if (parts.length > 1) root.append(make("li", {}, make("a", { className: "text-button", href: clearHref, "data-go": "" }, "Clear all")));
  root.hidden = !parts.length;
}
