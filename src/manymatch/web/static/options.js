// How one searches, for those who want to know: tucked away below a button.

import { at, make } from "./dom.js";
import { percent } from "./format.js";

/** Fill the options for this index. `change(options)` is called with what a visitor sets. */
export function makeOptions(info, change) {
  const controls = [
    toggle("exact", "Exact", "Score every item by the run\u2019s own similarity", change),
    toggle("hybrid", "Words too", "Fuse with a search by the words of captions", change),
    info.bank ? toggle("bank", "Query bank", "Correct for photos that fit everything", change, true) : null,
    slider("diverse", "Variety", "From plain order to as unlike as can be", { off: 1, start: 1, turned: true }, change),
    info.calibrated ? slider("confident", "At least this likely", "Leave out what is less likely", { off: 0, start: 0 }, change) : null,
    choice("among", "Look among", [["", "photos"], ["captions", "captions"]], change),
    info.fields?.length ? choice("groupBy", "Group by", [["", "nothing"], ...info.fields.map(({ name }) => [name, name])], change) : null,
    words("unlike", "But not like", "words to keep away from", change),
  ].filter(Boolean);
  at("options-form").replaceChildren(...controls.map((control) => control.node));
  return { update: (question) => controls.forEach((control) => control.update(question)) };
}

function row(input, title, hint, className) {
  const id = `option-${input.name}`;
  input.id = id;
  const about = make("span", { className: "hint", id: `${id}-hint` }, hint);
  if (hint) input.setAttribute("aria-describedby", about.id);
  return make("div", { className: `option ${className}` }, make("label", { htmlFor: id }, title), hint ? about : null, input);
}

function toggle(name, title, hint, change, usually = false) {
  const input = make("input", { type: "checkbox", name, className: "switch" });
  input.addEventListener("change", () => change({ [name]: input.checked === usually ? null : input.checked }));
  return { node: row(input, title, hint, "is-switch"), update: (question) => (input.checked = question[name] ?? usually) };
}

function slider(name, title, hint, { off, start, turned = false }, change) {
  const input = make("input", { type: "range", name, min: 0, max: 1, step: 0.05 });
  const shown = make("output", {});
  const own = () => (turned ? 1 - Number(input.value) : Number(input.value));
  const tell = () => {
    const value = own();
    shown.textContent = Math.abs(value - off) < 0.001 ? "off" : percent(Number(input.value));
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", tell);
  input.addEventListener("change", () => {
    const value = Math.round(own() * 100) / 100;
    change({ [name]: value === off ? null : value, ...(name === "diverse" && value !== off ? { groupBy: null } : {}) });
  });
  const node = row(input, title, hint, "is-slider");
  node.append(shown);
  return {
    node,
    update(question) {
      const value = question[name] ?? start;
      input.value = turned ? 1 - value : value;
      tell();
    },
  };
}

function choice(name, title, values, change) {
  const input = make("select", { name }, values.map(([value, text]) => make("option", { value }, text)));
  input.addEventListener("change", () =>
    change({ [name]: input.value || null, ...(name === "groupBy" && input.value ? { diverse: null } : {}) }));
  return { node: row(input, title, "", "is-choice"), update: (question) => (input.value = question[name] ?? "") };
}

function words(name, title, placeholder, change) {
  const input = make("input", { type: "search", name, placeholder, maxLength: 1000, autocomplete: "off" });
  input.addEventListener("change", () => change({ [name]: input.value.trim() || null, unlikeItem: null }));
  return {
    node: row(input, title, "", "is-words"),
    update: (question) => document.activeElement !== input && (input.value = question[name] ?? ""),
  };
}

/** The options that are set, as chips: {field, text, set} with what takes each away. */
export function chosen(question) {
  const found = [];
  const add = (field, text, set) => found.push({ field, text, set });
  if (question.unlikeItem !== null) add("not like", question.unlikeItem, { unlikeItem: null });
  if (question.unlike) add("not like", `\u201c${question.unlike}\u201d`, { unlike: null });
  if (question.exact !== null) add("exact", question.exact ? "on" : "off", { exact: null });
  if (question.hybrid !== null) add("words too", question.hybrid ? "on" : "off", { hybrid: null });
  if (question.bank !== null) add("query bank", question.bank ? "on" : "off", { bank: null });
  if (question.diverse !== null) add("variety", percent(1 - question.diverse), { diverse: null });
  if (question.confident !== null) add("likely", `at least ${percent(question.confident)}`, { confident: null });
  if (question.among === "captions") add("among", "captions", { among: null });
  if (question.groupBy !== null) add("grouped by", question.groupBy, { groupBy: null });
  return found;
}
