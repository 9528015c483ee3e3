// "What it could mean": the query's meanings as rows that open and close, each with its words, share and photos.

import { icon, make, unseen } from "./dom.js";
import { count, percent } from "./format.js";
import { photo, tile } from "./photo.js";
import { rangeOf, score, scoreTitle } from "./score.js";

const PREVIEWS = 5;
const opened = new Map();

/** Show the meanings of an answer; nothing where there are fewer than two. `key` remembers which were open. */
export function showMeanings(root, answer, key, hrefOf) {
  const meanings = [...(answer?.meanings ?? [])].sort((one, other) => other.share - one.share);
  root.hidden = meanings.length < 2;
  if (root.hidden) return root.replaceChildren();
  if (!opened.has(key)) opened.set(key, new Set());
  const open = opened.get(key);
  root.replaceChildren(
    make("div", { className: "overline-row" },
      make("h2", { id: "meanings-name" }, "What it could mean"),
      make("p", { className: "meant-by" }, answer.meant_by ?? "")),
    make("ul", { className: "meanings-rows" }, meanings.map((meant, n) => row(meant, n, open, hrefOf))));
}

function row(meant, n, open, hrefOf) {
  const body = make("div", { className: "meaning-body", id: `meaning-${n}`, hidden: !open.has(n) });
  const words = meant.words?.length ? meant.words.join(" \u00b7 ") : `Meaning ${n + 1}`;
  const toggle = make("button", {
    type: "button", className: "meaning-toggle", "aria-expanded": String(open.has(n)), "aria-controls": body.id, "data-testid": "meaning-toggle",
  },
  icon("down"), make("span", { className: "meaning-words" }, words),
  make("span", { className: "meaning-share", "--length": `${100 * meant.share}%` }, make("i", { "aria-hidden": "true" }),
    make("span", {}, percent(meant.share)), unseen(" of the answers")),
  make("span", { className: "meaning-count" }, count(meant.count, "photo")),
  make("span", { className: "meaning-previews", "aria-hidden": "true" }, meant.hits.slice(0, PREVIEWS).map((hit) => photo(hit, { alt: "" }))));
  const fill = () => body.childElementCount || body.append(photos(meant, words, hrefOf));
  if (open.has(n)) fill();
  toggle.addEventListener("click", () => {
    const now = body.hidden;
    if (now) (open.add(n), fill());
    else open.delete(n);
    body.hidden = !now;
    toggle.setAttribute("aria-expanded", String(now));
  });
  return make("li", { className: "meaning", "data-testid": "meaning" }, toggle, body);
}

function photos(meant, words, hrefOf) {
  const range = rangeOf(meant.hits);
  return make("ul", { className: "grid is-strip", "aria-label": words }, meant.hits.map((hit) => {
    const link = make("a", { href: hrefOf(hit), "data-go": "", title: scoreTitle(hit) });
    return tile(hit, link, { below: score(hit, range) });
  }));
}

