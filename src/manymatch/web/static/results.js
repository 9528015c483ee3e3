// The results: a justified grid in two parts with the cut-off line between them, or one part for each group.

import { at, make, unseen } from "./dom.js";
import { count, duration, number, percent, valueText } from "./format.js";
import { tile } from "./photo.js";
import { hasChance, isLikely, rangeOf, rescale, score, scoreTitle } from "./score.js";

const SKELETON = [1.5, 1, 0.75, 1.33, 1.5, 0.8, 1.33, 1, 1.5, 1.2, 0.75, 1.4];
const parts = at("parts");

/** Where the line lies, in hits from the first; null where there is none. */
function cutOf({ answer, question }) {
  const known = answer.likely !== null && answer.likely !== undefined;
  return known && !answer.groups && question.confident === null ? answer.likely : null;
}

/** Take away what is shown. */
export function clear() {
  parts.replaceChildren();
}

/** Empty frames while the first answer is on its way. */
export function skeleton() {
  parts.replaceChildren(make("ol", { className: "grid", "aria-hidden": "true" }, SKELETON.map((ratio) =>
    make("li", { className: "tile is-waiting", "--ratio": ratio }, make("span", { className: "frame" })))));
}

/** Show hits from place `from` on; `shown` is {answer, hits, groups, question}. `hrefOf(hit)` is an item's address. */
export function append(shown, from, hrefOf) {
  if (from === 0) clear();
  if (shown.answer.groups) return appendGroups(shown, from, hrefOf);
  const cut = cutOf(shown);
  const range = rangeOf(shown.hits);
  shown.hits.slice(from).forEach((hit, n) => {
    if (from + n === cut) parts.append(line(shown, cut));
    grid(cut !== null && from + n >= cut ? "rest" : "likely").append(resultTile(hit, range, hrefOf));
  });
  rescale(parts, range);
}

function grid(name) {
  const there = parts.querySelector(`[data-part="${name}"]`);
  if (there) return there;
  const fresh = make("ol", { className: name === "rest" ? "grid is-rest" : "grid", "data-part": name });
  parts.append(fresh);
  return fresh;
}

function resultTile(hit, range, hrefOf, lazy = hit.rank > 24) {
  const link = make("a", { href: hrefOf(hit), "data-go": "", "data-id": hit.id, title: scoreTitle(hit) });
  const found = hit.modality === "caption" ? "over is-found" : "over";
  const words = hit.caption && hit.has_picture ? make("span", { className: found, "aria-hidden": "true" }, hit.caption) : null;
  return tile(hit, link, { over: words, below: score(hit, range), lazy, "data-testid": "tile" });
}

/** The cut-off line. It says so where the order has other terms than probability and mixes the two sides. */
function line({ answer, hits }, cut) {
  const below = answer.searched - cut;
  const mixed = hits.slice(0, cut).filter((hit) => !isLikely(hit)).length;
  const expected = Math.round(answer.expected_matches ?? 0);
  // Many that are each less likely than even may well hold right answers.
  const unsure = expected > 0 ? "None is certain" : "No likely match";
  const likely = cut ? count(cut, "likely match", "likely matches") : unsure;
  const doubtful = expected > 0 ? `about ${number(expected)} of these ${number(below)} should fit` : `${number(below)} less likely below`;
  const rest = cut ? `${number(below)} more below` : doubtful;
  const note = mixed
    ? `This order counts more than probability: ${count(mixed, "photo")} above the line ${mixed === 1 ? "is" : "are"} less likely than even, and as many below are likely.`
    : cut ? "" : "The best guesses come first. Short and general words are often promised too little.";
  return make("div", { className: "cutoff", "data-testid": "cutoff" },
    make("h2", {}, make("span", {}, make("b", {}, likely), `, ${rest}`)), note ? make("p", {}, note) : null);
}

function appendGroups({ answer, groups, question }, from, hrefOf) {
  const range = rangeOf(groups.flatMap((group) => group.hits));
  for (const group of groups.slice(from)) {
    const name = group.value === null ? `without ${question.groupBy}` : valueText(group.value);
    parts.append(make("section", { className: "group" },
      make("h2", {}, make("span", {}, question.groupBy), name),
      make("ol", { className: "grid is-strip" }, group.hits.map((hit) => resultTile(hit, range, hrefOf, true)))));
  }
}

/** Every tile's link, in order of rank. */
export const links = () => [...parts.querySelectorAll(".tile a[data-id]")];

/** Mark the tile whose panel is open. */
export function markCurrent(id) {
  for (const link of links()) {
    if (link.dataset.id === id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

/** One line of what was found, as nodes. */
export function summary({ answer, hits, groups, question }) {
  const kind = question.among === "captions" ? "caption" : "photo";
  const facts = [];
  if (typeof answer.expected_matches === "number") facts.push(`about ${number(Math.round(answer.expected_matches))} expected to match`);
  facts.push(answer.exact ? "exact" : `approximate${agreement(answer)}`, duration(answer.milliseconds));
  return [make("b", {}, headline(answer, hits, groups, kind, question)), ...facts.map((fact) => make("span", {}, fact))];
}

const agreement = ({ agreement: share }) =>
  share === null || share === undefined ? "" : `, finds ${percent(share)} of the exact first ten`;

function headline(answer, hits, groups, kind, question) {
  if (groups) return `${count(groups.length, "group")} by ${question.groupBy}`;
  if (question.confident !== null) return `${count(answer.likely ?? hits.length, kind)} at least ${percent(question.confident)} likely`;
  if (answer.likely > 0) return `${count(answer.likely, "likely match", "likely matches")} among ${count(answer.searched, kind)}`;
  return `${count(answer.searched, kind)}, best first`;
}

/** What the bars say. */
export const legend = ({ hits }) => (hits.length && hasChance(hits[0])
  ? ["Bars: how likely each is a match"]
  : ["Bars: similarity within these results"]);
