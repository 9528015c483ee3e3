// The search page: what the address asks for is drawn, what a visitor does changes the address.

import { ask, baseOf } from "./ask.js";
import { askBoth, namesOf, showCompare } from "./compare.js";
import { at, make } from "./dom.js";
import { counted, makeFilters } from "./filters.js";
import { count, number } from "./format.js";
import { busy, drawAsked, drawChips, drawNotes, waiting, ways } from "./frame.js";
import { listenForPictures } from "./intake.js";
import { showMeanings } from "./meanings.js";
import { hideMessage, showEmpty, showError, showKeyForm } from "./message.js";
import { makeOptions } from "./options.js";
import { Panel } from "./panel.js";
import { append, clear, legend, links, markCurrent, skeleton, summary } from "./results.js";
import { Searches } from "./search.js";
import { sheet } from "./sheet.js";
import { fillStart, makeStart } from "./start.js";
import { PAGE, address, asking, filterAddress, isAsked, keepPicture, keyOf, read, request } from "./state.js";
import { isPlain } from "./where.js";
import "./look.js";

const [AUTOMATIC, DEEPEST] = [8, 10_000];
const [form, words, more, status] = ["search", "words", "more", "status"].map(at);

let [info, shown, current] = [null, null, null];
let automatic = 0;
let filters = null;
let options = null;
let searches = null;
let compared = new Map();

// Addresses.

const searchHref = (from) => address(asking(read(), from));
const itemHref = (hit, side = "a") => address({ ...read(), item: hit.id, side });
const partHref = (parts) => address({ ...read(), item: null, ...parts });

const filterHref = (name, value) => filterAddress(read(), info.fields ?? [], name, value);

/** Go to an address. `state` is kept with it; what is left remembers where it was scrolled to. */
function go(to, state = {}, replace = false) {
  const same = new URL(to, location.href).href === location.href && !state.stamp;
  if (same && !replace) return render(true);
  remember();
  history[replace ? "replaceState" : "pushState"](state, "", to);
  render();
}

const carried = () => ({ stamp: history.state?.stamp, picture: history.state?.picture });

function remember() {
  history.replaceState({ ...history.state, y: scrollY, count: shown?.hits.length ?? 0 }, "");
}

/** `depth` counts the entries with an item on top of this search, so that closing goes back below all of them. */
const goItem = (to) => go(to, { ...carried(), depth: (history.state?.depth ?? 0) + 1, y: scrollY });

function leaveItem() {
  const depth = history.state?.depth;
  if (depth) history.go(-depth);
  else go(address({ ...read(), item: null }), history.state, true);
}

// Searching.

/** Do `work` for `key`; what fails is said, what was overtaken is dropped. Returns its result or null. */
async function doing(key, work, retry, failed = fail) {
  busy(true);
  const slow = setTimeout(() => status.childElementCount || (status.textContent = "Searching\u2026"), 150);
  try {
    const done = await work();
    return current === key ? done : null;
  } catch (error) {
    if (error.name === "AbortError" || current !== key) return null;
    if (error.status === 401) showKey();
    else failed(error, retry);
    return null;
  } finally {
    clearTimeout(slow);
    if (current === key) busy(false);
  }
}

async function search(question, key) {
  hideMessage();
  const kept = searches.kept(key);
  if (kept) return show(kept, history.state?.y ?? 0);
  searches.stop();
  status.replaceChildren();
  at("meanings").hidden = true;
  more.hidden = true;
  skeleton();
  if (question.stamp && !question.picture) return fail({ message: "The picture of this search is no longer here; choose it again.", kind: "Gone" });
  const wanted = history.state?.count ?? 0;
  const found = await doing(key, () => searches.first(key, question, wanted), () => search(question, key));
  if (found) show(found, wanted ? history.state?.y ?? 0 : 0);
}

function show(found, y) {
  shown = found;
  automatic = 0;
  showMeanings(at("meanings"), found.answer, found.key, (hit) => itemHref(hit));
  append(found, 0, (hit) => itemHref(hit));
  settle();
  scrollTo(0, y);
  recount(found);
}

/** After results came: what they are in words, whether there are more, what there is to know. */
function settle() {
  const { answer, hits, question } = shown;
  if (!hits.length) {
    clear();
    showEmpty(answer.notes ?? [], ways(question, partHref));
  }
  status.replaceChildren(...(hits.length ? summary(shown) : []));
  at("legend").replaceChildren(...(hits.length ? legend(shown) : []));
  more.hidden = shown.done || hits.length >= DEEPEST;
  more.textContent = `Show more of ${number(answer.searched)}`;
  drawNotes(hits.length ? answer.notes ?? [] : []);
  drawPanel(read());
}

async function showMore(byHand) {
  if (!shown || shown.done || document.body.classList.contains("is-busy")) return;
  automatic = byHand ? 0 : automatic + 1;
  const list = shown;
  const from = await doing(list.key, () => searches.next(list), () => (hideMessage(), showMore(true)), stay);
  if (from === null) return;
  append(list, from, (hit) => itemHref(hit));
  settle();
  if (byHand) links()[from]?.focus({ preventScroll: true });
}

/** Counts of the fields that are filtered by, of all their values. */
async function recount({ answer, question, key }) {
  filters.update(question.where, answer.facets ?? null);
  if (!at("filters").open) return;
  const own = searches.facets.filter((name) => question.where.some((one) => one.field === name));
  for (const name of own) {
    const facet = await searches.facet(question, name).catch(() => null);
    if (current === key && facet) filters.update(question.where, { [name]: facet });
  }
}

async function compare(question, key) {
  hideMessage();
  searches.stop();
  if (!compared.has(key)) {
    status.replaceChildren();
    at("compare").replaceChildren();
    const answers = await doing(key, () => askBoth(question, waiting), () => compare(question, key));
    if (!answers) return;
    compared = new Map([...compared, [key, answers]].slice(-4));
  }
  const sides = compared.get(key).map((answer, n) => ({ side: "ab"[n], name: namesOf(info)[n], answer }));
  status.replaceChildren();
  shown = null;
  showCompare(sides, itemHref);
  scrollTo(0, history.state?.y ?? 0);
}

/** A further page failed: what is there stays, and the next page is asked for by hand. */
function stay(error, retry) {
  automatic = AUTOMATIC;
  settle();
  showError(error, retry);
}

function fail(error, retry = () => render(true)) {
  busy(false);
  clear();
  shown = null;
  status.replaceChildren();
  for (const id of ["legend", "compare"]) at(id).replaceChildren();
  for (const id of ["meanings", "more", "notes"]) at(id).hidden = true;
  showError(error, retry);
}

// Drawing what the address says.

function render(again = false) {
  const question = read();
  const key = keyOf(question);
  const asked = isAsked(question);
  const comparing = asked && question.compare && Boolean(info?.compare);
  document.body.classList.toggle("at-start", !asked);
  document.body.classList.toggle("is-comparing", comparing);
  for (const [id, there] of [["start", !asked], ["results", asked], ["intro", !asked], ["compare", comparing], ["parts", !comparing]]) at(id).hidden = !there;
  if (!comparing) at("compare").replaceChildren();
  if (!info) return;
  if (key !== current || again) {
    current = key;
    words.value = question.q ?? "";
    shown = null;
    drawFrame(question);
    if (!asked) (searches.stop(), busy(false), hideMessage(), clear(), scrollTo(0, history.state?.y ?? 0), fillStart(searchHref));
    else if (comparing) (clear(), hideExtras(), compare(question, key));
    else search(question, key);
  }
  drawPanel(question);
}

function hideExtras() {
  for (const id of ["meanings", "more", "notes"]) at(id).hidden = true;
  at("legend").replaceChildren();
}

/** What stands around the results: title, chips, options, the thing asked with. */
function drawFrame(question) {
  const name = question.q ?? (question.like !== null ? `Like ${question.like}` : question.stamp ? "Search by picture" : null);
  document.title = name ? `${name} \u00b7 ${info.title}` : info.title;
  at("results-name").textContent = name ? `Results for ${name}` : "Results";
  drawAsked(question);
  drawChips(question, info.fields ?? [], partHref);
  at("compare-toggle").href = partHref({ compare: !question.compare });
  at("compare-toggle").setAttribute("aria-current", String(question.compare));
  filters.update(question.where, null);
  options.update(question);
}

function drawPanel(question) {
  const open = question.item !== null && info;
  markCurrent(open ? question.item : null);
  if (!open) return panel.close(links().find((link) => link.dataset.id === panel.id) ?? null);
  const list = listOf(question);
  const place = list.findIndex((hit) => hit.id === question.item);
  const side = info.compare ? question.side : "a";
  panel.open({ key: [question.item, side, current, place, place < list.length - 1].join("\n"), id: question.item, side, hit: list[place] ?? null, before: place > 0, after: place >= 0 && place < list.length - 1 });
}

/** The hits that the panel steps through. */
const listOf = (question) => (question.compare && info.compare ? compared.get(current)?.["ab".indexOf(question.side)]?.hits : shown?.hits) ?? [];

const panel = new Panel(at("panel"), {
  itemHref,
  likeHref: (id) => searchHref({ like: id }),
  unlikeHref: (id) => partHref({ unlikeItem: id, unlike: null }),
  canUnlike: () => isAsked(read()) && read().like !== read().item,
  filterHref,
  sides: () => info.compare && read().compare ? namesOf(info).map((name, n) => ({ side: "ab"[n], name })) : null,
  step(n) {
    const list = listOf(read());
    const place = list.findIndex((hit) => hit.id === panel.id);
    const next = place < 0 ? undefined : list[place + n];
    if (!next) return;
    go(itemHref(next, read().side), history.state, true);
    links().find((link) => link.dataset.id === next.id)?.scrollIntoView({ block: "nearest" });
  },
  leave: leaveItem,
  /** The hit's matches: asked for that place of the list alone. */
  async why({ id, side, hit }, signal) {
    if (hit.why) return hit.why;
    const question = read();
    if (question.groupBy) return null;
    const [url, rest] = request(question, { k: 1, offset: hit.rank - 1, explain: true }, side);
    const found = (await ask(url, { ...rest, signal })).hits[0];
    return found?.id === id ? found.why : null;
  },
  queryElements({ side }, signal) {
    const { q } = read();
    return q ? ask(`${baseOf(side)}/elements?${new URLSearchParams({ q })}`, { signal }) : Promise.resolve(null);
  },
});

// Doing.

const drawer = sheet(at("filters"), { leave: () => toggleFilters(false), mark: "has-filters" });

function toggleFilters(open) {
  if (open) drawer.show();
  else drawer.hide(at("filter-open"));
  at("filter-open").setAttribute("aria-expanded", String(open));
  if (open && shown) recount(shown);
}

async function searchPicture(picture) {
  const kept = await keepPicture(picture);
  go(address(asking({ ...read(), where: read().where.filter(isPlain) }, { stamp: kept.stamp })), kept);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const q = words.value.trim();
  if (!q) return words.focus();
  // On a touch screen the keyboard would cover the results.
  if (matchMedia("(pointer: coarse)").matches) words.blur();
  go(searchHref({ q }));
});
more.addEventListener("click", () => showMore(true));
new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && automatic < AUTOMATIC && showMore(false), { rootMargin: "500px" }).observe(more);
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-go]");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (link.dataset.go === "replace") go(link.href, history.state, true);
  else if (new URL(link.href).searchParams.has("item")) goItem(link.href);
  else go(link.href, new URL(link.href).searchParams.has("picture") ? carried() : {});
});
at("filter-open").addEventListener("click", () => toggleFilters(!drawer.isOpen()));
at("filter-close").addEventListener("click", () => toggleFilters(false));
at("options-open").addEventListener("click", (event) => {
  at("options").hidden = !at("options").hidden;
  event.currentTarget.setAttribute("aria-expanded", String(!at("options").hidden));
});
for (const id of ["filter-fields", "options-form"]) at(id).addEventListener("submit", (event) => event.preventDefault());
listenForPictures(() => info?.limits, searchPicture, (message) => fail({ message, kind: "PictureError" }));
addEventListener("popstate", () => render());
addEventListener("pagehide", remember);
addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.matches("input, textarea, select") && !event.ctrlKey && !event.metaKey) (event.preventDefault(), words.select());
});

// Beginning.

function showKey() {
  info = null;
  panel.close();
  for (const id of ["start", "results"]) at(id).hidden = true;
  document.body.classList.add("is-locked");
  showKeyForm(boot);
}

async function boot() {
  document.body.classList.remove("is-locked");
  hideMessage();
  try {
    info = await ask("api/info", { waiting: (seconds) => (at("about").textContent = `Busy, trying again in ${count(seconds, "second")}\u2026`) });
  } catch (error) {
    return error.status === 401 ? showKey() : showError(error, boot);
  }
  const fields = info.fields ?? [];
  searches = new Searches({ facets: counted(fields), waiting });
  filters = makeFilters(fields, (where) => go(partHref({ where }), carried()));
  options = makeOptions(info, (set) => go(partHref(set), carried()));
  at("filter-open").hidden = !filters.any;
  at("compare-toggle").hidden = !info.compare;
  at("brand").textContent = info.title;
  const pictures = info.image_input === "pixels";
  for (const node of [at("pick"), document.querySelector(".dropzone")]) node.hidden = !pictures;
  words.maxLength = info.limits?.query_length ?? 1000;
  makeStart(info, searchHref);
  render(true);
  if (!isAsked(read()) && document.activeElement === document.body) words.focus({ preventScroll: true });
}

history.scrollRestoration = "manual";
render();
boot();
