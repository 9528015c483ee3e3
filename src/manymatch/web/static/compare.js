// The researcher's view: two runs side by side on one question, each list with what the other makes of its items.

import { at, make, unseen } from "./dom.js";
import { count, duration, ordinal } from "./format.js";
import { ask, baseOf } from "./ask.js";
import { PAGE, request } from "./state.js";
import { tile } from "./photo.js";
import { rangeOf, score, scoreTitle } from "./score.js";

const DEPTH = 100;
const TOP = 10;

/** The answers of both sides. `waiting(seconds)` hears that a busy server will be asked again. */
export const askBoth = (question, waiting) => Promise.all(["a", "b"].map((side) => {
  const [url, options] = request(question, { k: DEPTH }, side);
  return ask(url, { ...options, waiting });
}));

/** What to call the two sides: their methods, or where these are the same their titles. */
export function namesOf(info) {
  const [a, b] = [info.method, info.compare.method];
  return a === b ? [info.title, info.compare.title] : [a, b];
}

/** Draw both answers; `sides` are {side, name, answer}, `hrefOf(hit, side)` an item's address. */
export function showCompare(sides, hrefOf) {
  const ranks = sides.map(({ answer }) => new Map(answer.hits.map((hit) => [hit.id, hit.rank])));
  const root = at("compare");
  root.replaceChildren(
    make("p", { className: "common", role: "status" }, ...common(sides)),
    make("div", { className: "columns" }, sides.map((one, n) => column(one, ranks[1 - n], sides[1 - n], hrefOf))));
  twin(root);
}

function common(sides) {
  const [a, b] = sides.map(({ answer }) => answer.hits.slice(0, TOP).map((hit) => hit.id));
  const size = Math.max(a.length, b.length);
  const shared = a.filter((id) => b.includes(id)).length;
  const dots = Array.from({ length: size }, (_, n) => make("i", { className: n < shared ? "is-shared" : "" }));
  return [make("span", { className: "dots", "aria-hidden": "true" }, dots), make("b", {}, `${shared} of the first ${size}`), " in common, ", make("span", { className: "badge-note" }, "\u21c4 marks its place in the other list")];
}

function column({ side, name, answer }, others, other, hrefOf) {
  const heading = `column-${side}`;
  const list = make("ol", { className: "grid" });
  const range = rangeOf(answer.hits);
  const more = make("button", { type: "button", className: "more", "data-testid": "load-more" }, "Show more");
  const grow = () => {
    const from = list.childElementCount;
    list.append(...answer.hits.slice(from, from + PAGE).map((hit) => compared(hit, side, others, other, range, hrefOf)));
    more.hidden = list.childElementCount >= answer.hits.length;
    return from;
  };
  more.addEventListener("click", () => {
    const from = grow();
    twin(at("compare"));
    list.children[from]?.querySelector("a").focus({ preventScroll: true });
  });
  grow();
  const likely = answer.likely === null || answer.likely === undefined ? "" : `${count(answer.likely, "likely match", "likely matches")}, `;
  return make("section", { className: "column", "aria-labelledby": heading, "data-testid": "compare-column", "data-side": side },
    make("header", {}, make("h2", { id: heading }, name), make("p", {}, `${likely}${answer.exact ? "exact" : "approximate"}, ${duration(answer.milliseconds)}`)),
    list, more);
}

function compared(hit, side, others, other, range, hrefOf) {
  const link = make("a", { href: hrefOf(hit, side), "data-go": "", "data-id": hit.id, title: scoreTitle(hit) });
  const there = others.get(hit.id);
  const gap = there === undefined ? null : there - hit.rank;
  const kind = gap === null ? "is-absent" : Math.abs(gap) <= 2 ? "is-near" : "is-far";
  const badge = make("span", { className: `ranks ${kind}` },
    make("b", {}, ordinal(hit.rank)), unseen(" here"), make("span", {}, there === undefined ? beyond(other) : ordinal(there)), unseen(` by ${other.name}`));
  badge.title = `${ordinal(hit.rank)} here, ${there === undefined ? beyond(other) : ordinal(there)} by ${other.name}`;
  return tile(hit, link, { base: baseOf(side), below: [badge, score(hit, range)], lazy: hit.rank > 12, "data-testid": "tile" });
}

const beyond = ({ answer }) => (answer.hits.length < DEPTH ? "not found" : `beyond ${ordinal(DEPTH)}`);

/** The same item is marked in both columns while the pointer or the focus is on one. */
function twin(root) {
  const mark = (id) => {
    for (const link of root.querySelectorAll("a[data-id]")) link.classList.toggle("is-twin", link.dataset.id === id);
  };
  const idAt = (event) => event.target.closest?.("a[data-id]")?.dataset.id ?? null;
  root.onpointerover = (event) => mark(idAt(event));
  root.onpointerleave = () => mark(null);
}
