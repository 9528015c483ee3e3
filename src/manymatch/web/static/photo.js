// A photo wherever one is shown: its thumbnail or original, its words where there is none, its shape once known.

import { itemUrl } from "./ask.js";
import { make } from "./dom.js";

const ratios = new Map();
const EXTREMES = [0.56, 2.4];

/** The id whose picture shows a hit: a caption is shown by its image. */
export const pictured = (hit) => hit.owner ?? hit.id;

/** Width over height, kept to what a row can hold; before it is known, the usual one of this collection. */
export function ratioOf(id) {
  const known = ratios.get(id) ?? usual();
  return Math.min(Math.max(known, EXTREMES[0]), EXTREMES[1]);
}

function usual() {
  if (!ratios.size) return 1;
  const sorted = [...ratios.values()].slice(-60).sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

/** The photo of a hit or item. `onRatio` hears its shape when it is there; where it cannot be shown its words are. */
export function photo(hit, { part = "/thumbnail", base = "api", onRatio = null, lazy = true, alt = null } = {}) {
  const words = () => make("span", { className: "words" }, make("span", {}, hit.caption ?? hit.id));
  if (!hit.has_picture) return words();
  const id = pictured(hit);
  const image = make("img", { alt: alt ?? hit.caption ?? id, loading: lazy ? "lazy" : "eager", decoding: "async" });
  image.addEventListener("load", () => {
    const ratio = image.naturalWidth / image.naturalHeight;
    if (Number.isFinite(ratio)) ratios.set(id, ratio);
    image.classList.add("is-there");
    onRatio?.(ratioOf(id), ratio);
  });
  image.addEventListener("error", () => image.replaceWith(words()));
  image.src = itemUrl(id, part, base);
  return image;
}

/** A framed photo that keeps its place in a justified row. `props` are of the list item. */
export function tile(hit, link, { below = null, over = null, base = "api", lazy = true, ...props } = {}) {
  const node = make("li", { className: hit.has_picture ? "tile" : "tile is-words", "--ratio": shape(hit), ...props }, link);
  const onRatio = (ratio) => node.style.setProperty("--ratio", ratio.toFixed(4));
  link.append(make("span", { className: "frame" }, photo(hit, { base, lazy, onRatio }), over), ...[below].flat().filter(Boolean));
  return node;
}

const shape = (hit) => (hit.has_picture ? ratioOf(pictured(hit)).toFixed(4) : "1.33");
