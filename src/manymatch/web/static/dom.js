// Making elements and asking the API: what the page and the panel share.

/** An element. `props` sets properties, `aria-*` and other dashed names as attributes, `--x` as style variables. */
export function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("--")) node.style.setProperty(name, value);
    else if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** A line icon from one path. */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

export const itemUrl = (id, part = "") => `api/items/${encodeURIComponent(id)}${part}`;

/** JSON of the API. Throws an Error with the server's message, and `kind`, its type. */
export async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The server does not answer. Is it still running?"), { kind: "Offline" });
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const said = body.error ?? { type: "Unreadable", message: `The server answered ${response.status}.` };
  throw Object.assign(new Error(said.message), { kind: said.type });
}

export const number = (value) => value.toLocaleString("en");

/** A similarity with as many digits as tell neighbours apart. */
export const similarity = (value) => value.toFixed(3).replace("-", "\u2212");

/** Where `value` lies in low..high, as a bar's length; the lowest keeps a visible stub. */
export function barLength(value, low, high) {
  const share = high > low ? (value - low) / (high - low) : 1;
  return `${(6 + 94 * share).toFixed(1)}%`;
}

export const bar = (length) => make("span", { className: "bar", "aria-hidden": "true", "--length": length }, make("i"));

/** The photo of an item, or its first caption on a plain tile where there is none. */
export function picture(hit, { part = "/thumbnail", onRatio = null, lazy = true } = {}) {
  const caption = hit.caption ?? hit.id;
  const words = () => make("span", { className: "words" }, make("span", {}, caption));
  if (!hit.has_picture) return words();
  const image = make("img", { alt: caption, loading: lazy ? "lazy" : "eager", decoding: "async" });
  image.addEventListener("load", () => {
    image.classList.add("is-there");
    onRatio?.(image.naturalWidth / image.naturalHeight);
  });
  image.addEventListener("error", () => image.replaceWith(words()));
  image.src = itemUrl(hit.id, part);
  return image;
}
