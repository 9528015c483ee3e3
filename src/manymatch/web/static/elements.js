// The elements of an item: a chip for each, and where it looks painted over the photo.

import { make, draw, unseen } from "./dom.js";
import { percent } from "./format.js";

const HUES = [[224, 82, 99], [45, 134, 224], [233, 160, 38], [140, 92, 214], [30, 158, 120], [226, 108, 42], [22, 162, 184], [201, 76, 167]];
const DARK = [10, 12, 16];
const STEPS = 24;

/** The colour of an element, as style text. */
export const hue = (element) => `rgb(${HUES[element % HUES.length].join(" ")})`;

/**
 * Chips that paint: hovering or focusing one shows where it looks, choosing one keeps it.
 * Returns {node, show(element)}; `show(null)` goes back to the one kept.
 */
export function makeElements(found, stage) {
  let kept = null;
  const layer = found.kind === "regions" ? regions(found) : found.kind === "grid" ? heat(found) : null;
  if (layer) stage.append(layer.node);
  const chips = Array.from({ length: found.elements }, (_, n) => chip(found, n));
  const show = (element) => {
    const now = element ?? kept;
    layer?.paint(now);
    chips.forEach((node, n) => node.classList.toggle("is-shown", n === now));
  };
  const keep = (element) => {
    kept = kept === element ? null : element;
    chips.forEach((node, n) => node.setAttribute("aria-pressed", String(n === kept)));
    show(null);
  };
  chips.forEach((node, n) => {
    listen(node, n, show);
    node.addEventListener("click", () => keep(n));
  });
  const bars = layer || !found.shares?.length ? null : shareBars(found);
  const node = make("div", { className: "elements" },
    make("div", { className: "element-chips", role: "group", "aria-label": "Elements" }, chips),
    layer ? make("p", { className: "hint" }, "Choose an element to see which part of the photo it reads.") : null,
    found.why ? make("p", { className: "hint" }, found.why) : null, bars);
  return { node, show, keep };
}

/** Have `node` show `element` while the pointer or the focus is on it. */
export function listen(node, element, show) {
  for (const name of ["pointerenter", "focusin"]) node.addEventListener(name, () => show(element));
  for (const name of ["pointerleave", "focusout"]) node.addEventListener(name, () => show(null));
}

function chip(found, n) {
  const where = found.kind === "grid" ? whereWords(found, n) : "";
  return make("button", {
    type: "button", className: "element", "--hue": hue(n), "aria-pressed": "false", "data-testid": "element", title: where || `Element ${n + 1}`,
  }, make("i", { "aria-hidden": "true" }), `Element ${n + 1}`, where ? unseen(`, looks ${where}`) : null);
}

/** Where an element looks most, in words: a screen reader has no heat map. */
function whereWords({ rows, columns, shares }, n) {
  const best = shares[n].indexOf(Math.max(...shares[n]));
  const [row, column] = [(Math.floor(best / columns) + 0.5) / rows, ((best % columns) + 0.5) / columns];
  const third = (at, names) => names[Math.min(2, Math.floor(at * 3))];
  const [down, across] = [third(row, ["top", "middle", "bottom"]), third(column, ["left", "middle", "right"])];
  return `most at the ${down === across ? "middle" : `${down} ${across}`}`;
}

/** A canvas over the photo: what an element reads is left clear in its colour, the rest is dimmed. */
function heat({ rows, columns, shares }) {
  const small = make("canvas", { width: columns, height: rows });
  const node = make("canvas", { className: "heatmap", width: columns * STEPS, height: rows * STEPS, "aria-hidden": "true", "data-testid": "heatmap" });
  return {
    node,
    paint(element) {
      node.classList.toggle("is-there", element !== null);
      if (element === null) return;
      node.dataset.element = element;
      small.getContext("2d").putImageData(pixels(shares[element], rows, columns, HUES[element % HUES.length]), 0, 0);
      const context = node.getContext("2d");
      context.clearRect(0, 0, node.width, node.height);
      context.imageSmoothingQuality = "high";
      context.drawImage(small, 0, 0, node.width, node.height);
    },
  };
}

function pixels(shares, rows, columns, colour) {
  const most = Math.max(...shares, 1e-9);
  const image = new ImageData(columns, rows);
  shares.slice(0, rows * columns).forEach((share, n) => {
    const level = share / most;
    const [dim, tint] = [0.64 * (1 - level) ** 1.5, 0.45 * level];
    const alpha = Math.min(1, dim + tint);
    image.data.set([...DARK.map((dark, c) => (dark * dim + colour[c] * tint) / Math.max(alpha, 1e-6)), 255 * alpha], 4 * n);
  });
  return image;
}

/** Rectangles over the photo, the stronger the more an element reads of them. `boxes` are shares of its sides. */
function regions({ boxes, shares }) {
  const node = draw("svg", { class: "heatmap", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true", "data-testid": "heatmap" });
  return {
    node,
    paint(element) {
      node.classList.toggle("is-there", element !== null);
      if (element === null) return;
      node.dataset.element = element;
      const most = Math.max(...shares[element], 1e-9);
      const order = boxes.map((_, n) => n).sort((a, b) => shares[element][a] - shares[element][b]);
      node.replaceChildren(...order.filter((n) => boxes[n]).map((n) => {
        const [x0, y0, x1, y1] = boxes[n];
        const level = shares[element][n] / most;
        return draw("rect", {
          x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0), "vector-effect": "non-scaling-stroke",
          stroke: hue(element), fill: hue(element), "stroke-opacity": level.toFixed(3), "fill-opacity": (0.3 * level).toFixed(3),
        });
      }));
    },
  };
}

/** Where there is no place in the photo to paint: the strongest fragments of each element, by number. */
function shareBars({ shares, words }) {
  return make("ol", { className: "share-rows" }, shares.map((row, n) => {
    const most = Math.max(...row, 1e-9);
    const best = row.map((share, place) => [share, place]).sort((a, b) => b[0] - a[0]).slice(0, 4);
    return make("li", { "--hue": hue(n) }, best.map(([share, place]) =>
      make("span", { className: "share-bar", "--length": `${(100 * share) / most}%` },
        make("i", { "aria-hidden": "true" }), `${words?.[place] ?? `fragment ${place + 1}`} ${percent(share)}`)));
  }));
}
