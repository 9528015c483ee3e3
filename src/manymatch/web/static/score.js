// How well something fits, as a bar: its probability where the index is calibrated, else its score among its neighbours.

import { make, unseen } from "./dom.js";
import { barLength, percent, similarity } from "./format.js";

export const isLikely = (hit) => (hit.probability ?? 0) >= 0.5;
export const hasChance = (hit) => hit.probability !== null && hit.probability !== undefined;

const bar = (length) => make("span", { className: "bar", "aria-hidden": "true", "--length": length }, make("i"));

/** The lowest and highest score of some hits. */
export function rangeOf(hits) {
  const scores = hits.map((hit) => hit.score);
  return [Math.min(...scores), Math.max(...scores)];
}

/** Bar and number of a hit; `range` is of the scores around it. */
export function score(hit, range) {
  if (hasChance(hit)) {
    return make("span", { className: isLikely(hit) ? "score is-likely" : "score" },
      bar(`${(100 * hit.probability).toFixed(1)}%`), unseen("likely with "), make("span", { className: "figure" }, percent(hit.probability)));
  }
  // Without a probability nothing is said to be likely, so the bar has no colour of its own.
  return make("span", { className: "score", "data-score": hit.score },
    bar(barLength(hit.score, ...range)), unseen("similarity "), make("span", { className: "figure" }, similarity(hit.score)));
}

/** Draw score bars again for a range that has grown. */
export function rescale(root, range) {
  for (const node of root.querySelectorAll(".score[data-score]")) {
    node.querySelector(".bar").style.setProperty("--length", barLength(Number(node.dataset.score), ...range));
  }
}

/** All there is to know of a hit's score in a line. */
export function scoreTitle(hit) {
  const chance = hasChance(hit) ? `${percent(hit.probability)} chance to fit, ` : "";
  const raw = hit.raw_score === hit.score ? "" : ` (${similarity(hit.raw_score)} before other terms of the order)`;
  return `#${hit.rank}, ${chance}similarity ${similarity(hit.score)}${raw}`;
}
