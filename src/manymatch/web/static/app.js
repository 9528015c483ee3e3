// The search page. The address says what is shown (?q= words, ?like= an item, &item= the open panel), so that links
// and the back button work; a picture that was given lives in the history entry.

import { ask, bar, barLength, itemUrl, make, number, picture, similarity } from "./dom.js";
import { Panel } from "./panel.js";

const PAGE = 24;
const at = (id) => document.getElementById(id);
const [form, words, file, grid, more, message] = ["search", "words", "file", "grid", "more", "message"].map(at);

let shown = { key: null, hits: [] };
let running = null;

// What the address asks for: words, an item or a picture to search from, and the item in the panel.

function wanted() {
  const params = new URLSearchParams(location.search);
  const { image = null, stamp = "" } = (params.has("picture") && history.state) || {};
  return { q: params.get("q")?.trim() || null, like: params.get("like"), image, stamp, item: params.get("item") };
}

function address({ q, like, image, item }) {
  const from = q ? { q } : like ? { like } : image ? { picture: 1 } : {};
  const params = new URLSearchParams(item ? { ...from, item } : from);
  return params.size ? `?${params}` : "./";
}

const itemHref = (item) => address({ ...wanted(), item });

function go(to, state = null, replace = false) {
  history[replace ? "replaceState" : "pushState"](state, "", to);
  render();
}

/** An item on top of this search. `depth` counts such entries, so that closing goes back below all of them. */
const goItem = (to) => go(to, { ...history.state, depth: (history.state?.depth ?? 0) + 1 });

function leaveItem() {
  const depth = history.state?.depth;
  if (depth) history.go(-depth);
  else go(itemHref(null), history.state, true);
}

// Searching.

function request({ q, like, image }, offset) {
  if (image) {
    const body = new FormData();
    body.append("image", image);
    return [`api/search/image?k=${PAGE}&offset=${offset}`, { method: "POST", body }];
  }
  const params = new URLSearchParams({ ...(q ? { q } : { like, among: "images" }), k: PAGE, offset });
  return [`api/search?${params}`, {}];
}

async function search(query, key, offset = 0) {
  running?.abort();
  const mine = (running = new AbortController());
  document.body.classList.add("is-busy");
  grid.setAttribute("aria-busy", "true");
  const slow = setTimeout(() => offset === 0 && skeleton(), 150);
  try {
    const [url, options] = request(query, offset);
    const answer = await ask(url, { ...options, signal: mine.signal });
    clearTimeout(slow);
    if (offset === 0) (grid.replaceChildren(), (shown = { key, hits: [] }));
    add(answer);
    return answer;
  } catch (error) {
    clearTimeout(slow);
    if (error.name !== "AbortError") fail(error, () => search(query, key, offset));
  } finally {
    if (running === mine) {
      document.body.classList.remove("is-busy");
      grid.removeAttribute("aria-busy");
    }
  }
}

function add(answer) {
  shown.hits.push(...answer.hits);
  at("results").hidden = !shown.hits.length;
  more.hidden = answer.hits.length < PAGE || shown.hits.length >= answer.searched;
  if (!shown.hits.length) return say("Nothing to show", "This index has no photos that fit. Try other words.");
  message.hidden = true;
  grid.append(...answer.hits.map(tile));
  rescale();
  summarise(answer);
}

function rescale() {
  const scores = shown.hits.map((hit) => hit.score);
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  grid.querySelectorAll(".bar").forEach((node, n) =>
    node.style.setProperty("--length", barLength(scores[n], low, high)));
  at("legend").textContent = `Bars: similarity from ${similarity(low)} to ${similarity(high)}`;
}

function summarise(answer) {
  const count = shown.hits.length;
  const of = count < answer.searched ? ` of ${number(answer.searched)}` : "";
  const agreed = answer.agreement === null || answer.agreement === undefined
    ? "" : ` (agreement ${answer.agreement.toFixed(2)})`;
  const facts = [
    answer.exact ? "exact" : `approximate${agreed}`,
    `${answer.milliseconds < 10 ? answer.milliseconds.toFixed(1) : Math.round(answer.milliseconds)} ms`,
  ];
  if (typeof answer.expected_matches === "number") facts.push(`about ${Math.round(answer.expected_matches)} expected to match`);
  at("status").replaceChildren(
    make("b", {}, `${number(count)}${of} ${count === 1 && !of ? "photo" : "photos"}`),
    ...facts.map((fact) => make("span", {}, fact)));
}

function tile(hit) {
  const link = make("a", { href: itemHref(hit.id), "data-go": "", "data-id": hit.id });
  const node = make("li", { className: hit.has_picture ? "tile" : "tile is-words" }, link);
  const onRatio = (ratio) => node.style.setProperty("--ratio", Math.min(Math.max(ratio, 0.56), 2.4).toFixed(4));
  const raw = hit.raw_score === hit.score ? "" : ` (${similarity(hit.raw_score)} before hubness correction)`;
  link.title = `#${hit.rank}, similarity ${similarity(hit.score)}${raw}`;
  link.append(
    make("span", { className: "frame" }, picture(hit, { onRatio, lazy: hit.rank > PAGE })),
    make("span", { className: "score" }, bar("0%"), make("span", { className: "unseen" }, "similarity "), similarity(hit.score)));
  return node;
}

function skeleton() {
  at("results").hidden = false;
  at("status").textContent = "Searching\u2026";
  at("legend").textContent = "";
  more.hidden = true;
  const ratios = [1.5, 1, 0.75, 1.33, 1.5, 0.8, 1.33, 1, 1.5, 1.2, 0.75, 1.4];
  grid.replaceChildren(...ratios.map((ratio) =>
    make("li", { className: "tile is-waiting", "aria-hidden": "true", "--ratio": ratio }, make("span", { className: "frame" }))));
}

// Words to the user.

function say(title, detail, retry = null) {
  const [heading, text, button] = message.children;
  heading.textContent = title;
  text.textContent = detail;
  button.hidden = !retry;
  button.onclick = retry;
  message.hidden = false;
}

function fail(error, retry) {
  const theirs = !["Offline", "InternalError", "Unreadable"].includes(error.kind);
  at("results").hidden = true;
  grid.replaceChildren();
  shown = { key: null, hits: [] };
  say(theirs ? "That cannot be searched" : "Something went wrong", error.message, theirs ? null : retry);
}

function askedWith({ like, image }) {
  const asked = at("asked");
  asked.hidden = !(like || image);
  if (asked.hidden) return asked.replaceChildren();
  const source = image ? URL.createObjectURL(image) : itemUrl(like, "/thumbnail");
  const thumb = make("img", { alt: "", src: source });
  thumb.addEventListener("error", () => thumb.remove());
  const clear = make("a", { href: "./", "data-go": "", "aria-label": "Clear", title: "Clear" }, "\u00d7");
  asked.replaceChildren(thumb, make("span", {}, image ? "Photos like yours" : "Photos like this one"), clear);
}

// Drawing what the address says.

const panel = new Panel(at("panel"), {
  itemHref,
  likeHref: (like) => address({ like }),
  step(n) {
    const place = shown.hits.findIndex((hit) => hit.id === panel.id);
    const next = place < 0 ? undefined : shown.hits[place + n];
    if (!next) return;
    go(itemHref(next.id), history.state, true);
    [...grid.children][place + n]?.scrollIntoView({ block: "nearest" });
  },
  leave: leaveItem,
});

async function render() {
  const query = wanted();
  const kind = query.q ? "q" : query.like ? "like" : query.image ? "image" : null;
  const key = kind && `${kind}:${query[kind] instanceof Blob ? query.stamp : query[kind]}`;
  document.body.classList.toggle("at-start", !kind);
  document.title = query.q ? `${query.q} \u2013 manymatch` : "manymatch";
  at("start").hidden = at("intro").hidden = Boolean(kind);
  if (!query.item) panel.close(grid.querySelector("[aria-current]"));
  if (!kind) {
    running?.abort();
    // A picture lives in the entry of this visit only; its bare address asks for nothing.
    if (location.search) history.replaceState(null, "", "./");
    shown = { key: null, hits: [] };
    at("results").hidden = message.hidden = true;
    if (document.activeElement !== words) words.value = "";
  } else if (key !== shown.key) {
    words.value = query.q ?? "";
    message.hidden = true;
    askedWith(query);
    scrollTo({ top: 0 });
    await search(query, key);
  }
  const open = wanted().item;
  mark(open);
  if (!open) return;
  const place = shown.hits.findIndex((hit) => hit.id === open);
  panel.open(open, shown.hits[place], { before: place > 0, after: place >= 0 && place < shown.hits.length - 1 });
}

function mark(id) {
  grid.querySelectorAll("[data-id]").forEach((link) => {
    if (link.dataset.id === id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
}

async function start() {
  const info = await ask("api/info").catch((error) => void say("Something went wrong", error.message, () => location.reload()));
  if (!info) return;
  at("about").textContent = `Search ${number(info.images)} photos in your own words, or with a picture.`;
  const facts = [`${number(info.images)} photos`, `${number(info.captions)} captions`, info.method, info.engine];
  at("footer").replaceChildren(...facts.filter(Boolean).map((fact) => make("span", {}, fact)));
  if (info.image_input === "features") at("pick").hidden = true;
  at("tries-name").hidden = !info.examples.length;
  at("chips").replaceChildren(...info.examples.map((text) =>
    make("li", {}, make("a", { href: address({ q: text }), "data-go": "", title: text }, make("span", {}, text)))));
  for (const link of at("chips").querySelectorAll("a")) await preview(link);
}

/** An example shows the photo it finds. */
async function preview(link) {
  const found = await ask(`api/search?${new URLSearchParams({ q: link.title, k: 1 })}`).catch(() => null);
  const hit = found?.hits[0];
  if (!hit?.has_picture) return;
  const image = picture(hit, { lazy: false });
  image.alt = "";
  link.prepend(image);
}

// Doing.

function searchPicture(image) {
  if (image?.type.startsWith("image/")) go("?picture=1", { image, stamp: `${Date.now()}` });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const q = words.value.trim();
  if (!q) return words.focus();
  // On a touch screen the keyboard would cover the results.
  if (matchMedia("(pointer: coarse)").matches) words.blur();
  go(address({ q }));
});
file.addEventListener("change", () => (searchPicture(file.files[0]), (file.value = "")));
more.addEventListener("click", async () => {
  const from = shown.hits.length;
  await search(wanted(), shown.key, from);
  grid.children[from]?.querySelector("a").focus({ preventScroll: true });
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-go]");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (new URL(link.href).searchParams.has("item")) goItem(link.href);
  else go(link.href);
});
addEventListener("popstate", render);
addEventListener("paste", (event) => searchPicture(event.clipboardData?.files[0]));
addEventListener("dragover", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("is-dropping");
});
addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("is-dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("is-dropping");
  searchPicture(event.dataTransfer?.files[0]);
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.matches("input, textarea")) (event.preventDefault(), words.select());
});

start();
render();
