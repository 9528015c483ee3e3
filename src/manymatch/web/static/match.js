// Why an item was found: each element of the query, its words, and the element of the item it met.

import { make, unseen } from "./dom.js";
import { percent, similarity } from "./format.js";
import { hue, listen } from "./elements.js";

const MARK = /^\[.*\]$/;

/** Rows of `why`, strongest first. `query` tells the words of the query's elements (kind "words") or is null. */
export function matchRows(why, query, show) {
  const several = new Set(why.map((match) => match.item_element)).size > 1 || why.length > 1;
  return make("ol", { className: "matches" }, why.map((match) => {
    const words = queryWords(match, query);
    const row = make("li", { tabIndex: several ? 0 : -1 },
      make("span", { className: "match-words" }, words),
      make("span", { className: "match-to" }, make("span", { "aria-hidden": "true" }, "\u2192"), unseen("met"),
        make("span", { className: "dot", "--hue": hue(match.item_element) }, `${match.item_element + 1}`)),
      make("span", { className: "match-score", title: `cosine ${similarity(match.cosine)}, ${percent(match.share)} of the match` },
        make("span", { className: "bar", "aria-hidden": "true", "--length": `${Math.max(0, 100 * match.cosine)}%`, "--hue": hue(match.item_element) }, make("i")),
        unseen("cosine "), make("span", { className: "figure" }, similarity(match.cosine))));
    if (show) listen(row, match.item_element, show);
    return row;
  }));
}

/** The query's element: its words, the weightier the bolder; else the word the match names, else its number. */
function queryWords(match, query) {
  const shares = query?.kind === "words" ? query.shares[match.query_element] : null;
  if (!shares) return match.word ?? `Query element ${match.query_element + 1}`;
  const shown = query.words.map((word, n) => [word, shares[n] ?? 0]).filter(([word]) => !MARK.test(word));
  const most = Math.max(...shown.map(([, share]) => share), 1e-9);
  return shown.map(([word, share]) =>
    make("span", { className: "weighed", "--weight": (share / most).toFixed(3), title: percent(share) }, word));
}
