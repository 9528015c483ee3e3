// Making elements. Text that came from captions, metadata or messages only ever becomes a text node here.

/** An element. `props` sets properties, `aria-*` and other dashed names as attributes, `--x` as style variables. */
export function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("--")) node.style.setProperty(name, value);
    else if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const at = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element with attributes. */
export function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const PATHS = {
  close: "M6 6l12 12M18 6L6 18",
  back: "M14.5 5.5 8 12l6.5 6.5",
  on: "M9.5 5.5 16 12l-6.5 6.5",
  down: "M6 9.5l6 6 6-6",
  copy: "M9 9h10v11H9zM5 15V4h10",
  done: "M5 12.5l4.5 4.5L19 7.5",
  out: "M14 4.5h5.5V10M19.5 4.5 11 13M10 5.5H5v13.5h13.5V14",
  like: "M11 4.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M16 16l4.5 4.5M11 8.5v5M8.5 11h5",
  unlike: "M11 4.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M16 16l4.5 4.5M8.5 11h5",
};

/** A line icon by name. */
export const icon = (name) => draw("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", class: "icon" },
  draw("path", { d: PATHS[name] }));

/** A button; `props.label` names one that shows an icon alone. */
export function button(props, act, ...children) {
  const { label, ...rest } = props;
  const named = label ? { "aria-label": label, title: label } : {};
  const node = make("button", { type: "button", ...named, ...rest }, ...children);
  node.addEventListener("click", act);
  return node;
}

/** Words only a screen reader says. */
export const unseen = (text) => make("span", { className: "unseen" }, text);

/** A section under a small heading, with something beside the heading. */
export const section = (title, content, { beside = null, className = "", ...props } = {}) =>
  make("section", { className, ...props },
    make("div", { className: "overline-row" }, make("h3", { className: "overline" }, title), beside), content);
