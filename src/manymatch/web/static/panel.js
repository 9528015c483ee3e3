// The panel of one item: its photo with what its elements look at, why it was found, the captions it would match,
// photos like it, its metadata.

import { ask, baseOf, itemUrl } from "./ask.js";
import { button, icon, make, section, unseen } from "./dom.js";
import { makeElements } from "./elements.js";
import { percent, similarity, valueText } from "./format.js";
import { matchRows } from "./match.js";
import { photo, pictured, ratioOf } from "./photo.js";
import { hasChance, rangeOf, score } from "./score.js";
import { sheet } from "./sheet.js";

export class Panel {
  #sheet;
  #doing;
  #stop = null;
  #shown = null;

  /**
   * `doing`: hrefs of an item, of searches like and unlike it, of a filter and of the other side's panel; `step(n)` and
   * `leave()` navigate; `why(hit)` fetches the hit's matches and `queryElements()` the words of the query's elements.
   */
  constructor(dialog, doing) {
    this.dialog = dialog;
    this.#doing = doing;
    this.#sheet = sheet(dialog, { leave: doing.leave, mark: "has-panel" });
    addEventListener("keydown", (event) => this.#key(event));
  }

  get id() {
    return this.#shown?.id ?? null;
  }

  /** Show `item`: {id, side, hit (null where it is not among the results), before, after (whether there are)}. */
  async open(item) {
    if (this.#shown?.key === item.key) return;
    const fresh = this.#shown === null;
    this.#stop?.abort();
    const stop = (this.#stop = new AbortController());
    this.#shown = item;
    const waiting = make("p", { className: "waiting", role: "status" }, unseen("Loading"));
    const lead = item.hit ? makeStage(item.hit, baseOf(item.side)) : { node: waiting };
    this.#fill(item, lead.node, item.hit ? waiting : null);
    this.#sheet.show();
    if (fresh) this.dialog.querySelector(".close").focus({ preventScroll: true });
    try {
      const found = await ask(itemUrl(item.id, "", baseOf(item.side)), { signal: stop.signal });
      const { stage, node } = item.hit ? lead : makeStage(asHit(found.item), baseOf(item.side));
      const elements = make("div", { className: "elements-place" });
      this.#fill(item, node, this.#sides(item), elements, ...this.#parts(item, found));
      await this.#elements(item, elements, stage, stop.signal);
    } catch (error) {
      if (error.name !== "AbortError") this.#fill(item, item.hit ? lead.node : null, make("p", { className: "trouble", role: "alert", "data-testid": "error" }, error.message));
    }
  }

  /** `then` takes the focus; without it the element that had it before. */
  close(then = null) {
    if (this.#shown === null) return;
    this.#stop?.abort();
    this.#shown = null;
    this.#sheet.hide(then);
  }

  #key(event) {
    if (this.#shown === null || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.matches?.("input, textarea, select")) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    this.#doing.step(step);
  }

  /** Draw anew, keeping the focus on the button that has it. */
  #fill(item, lead, ...parts) {
    const held = this.dialog.contains(document.activeElement) ? document.activeElement.dataset.name ?? "close" : null;
    this.dialog.replaceChildren(this.#bar(item),
      make("div", { className: "panel-body", tabIndex: -1 }, lead, item.hit ? rankLine(item.hit) : null, ...parts));
    if (held === null) return;
    const again = this.dialog.querySelector(`button[data-name="${held}"]:not(:disabled)`);
    (again ?? this.dialog.querySelector(".close")).focus({ preventScroll: true });
  }

  #bar(item) {
    const part = (name, label, shape, act, disabled = false) =>
      button({ className: `${name} icon-button`, label, disabled, "data-name": name, "data-testid": `panel-${name}` }, act, icon(shape));
    return make("div", { className: "panel-bar" },
      make("h2", { id: "panel-title", title: item.id }, item.id),
      part("before", "Previous result", "back", () => this.#doing.step(-1), !item.before),
      part("after", "Next result", "on", () => this.#doing.step(1), !item.after),
      part("close", "Close", "close", this.#doing.leave));
  }

  #parts(item, { item: data, captions, like }) {
    const own = make("ul", { className: "captions" }, (data.captions ?? []).map((text) => make("li", {}, text)));
    return [
      this.#actions(item, data),
      data.captions?.length ? section(data.captions.length === 1 ? "Its caption" : "Its captions", own) : null,
      captions?.hits.length ? section("Captions it matches here", matched(captions.hits)) : null,
      like?.hits.length ? this.#alike(item, like.hits) : null,
      this.#details(data),
    ];
  }

  /** Which of two compared runs looks at it. */
  #sides(item) {
    const sides = this.#doing.sides();
    if (!sides) return null;
    return make("nav", { className: "segments", "aria-label": "Seen by" }, sides.map(({ side, name }) =>
      make("a", { href: this.#doing.itemHref({ id: item.id }, side), "data-go": "replace", "aria-current": side === item.side ? "true" : undefined }, name)));
  }

  #actions(item, data) {
    const id = item.id;
    const link = (props, shape, text) => make("a", { className: "action", ...props }, icon(shape), text);
    return make("div", { className: "actions" },
      link({ href: this.#doing.likeHref(id), "data-go": "" }, "like", "Search from this"),
      this.#doing.canUnlike() ? link({ href: this.#doing.unlikeHref(id), "data-go": "" }, "unlike", "Less like this") : null,
      data.has_picture ? link({ href: itemUrl(pictured(data), "/picture", baseOf(item.side)), target: "_blank", rel: "noopener" }, "out", "Original") : null);
  }

  #alike(item, hits) {
    const all = make("a", { href: this.#doing.likeHref(item.id), className: "text-button", "data-go": "" }, "See all");
    const row = make("ul", { className: "alike" }, hits.map((hit) => {
      const link = make("a", { href: this.#doing.itemHref(hit, item.side), "data-go": "" }, photo(hit, { base: baseOf(item.side) }));
      return make("li", { "--ratio": ratioOf(pictured(hit)) }, link);
    }));
    return section("More like this", row, { beside: all, "data-testid": "more-like-this" });
  }

  #details(data) {
    const entries = Object.entries(data.metadata ?? {});
    if (data.labels?.length && !entries.some(([name]) => name === "labels")) entries.unshift(["labels", data.labels]);
    if (!entries.length) return null;
    const one = (name, value) => {
      const href = this.#doing.filterHref(name, value);
      return href ? make("a", { href, "data-go": "", title: `Only ${name} ${valueText(value)}` }, valueText(value)) : make("span", {}, valueText(value));
    };
    return section("Details", make("dl", {}, entries.flatMap(([name, value]) =>
      [make("dt", {}, name), make("dd", {}, [value].flat().map((each) => one(name, each)))])));
  }

  async #elements(item, place, stage, signal) {
    const quietly = (promise) => promise.catch((error) => (error.name === "AbortError" ? Promise.reject(error) : null));
    const [own, why, query] = await Promise.all([
      quietly(ask(itemUrl(item.id, "/elements", baseOf(item.side)), { signal })),
      item.hit ? quietly(this.#doing.why(item, signal)) : null,
      item.hit ? quietly(this.#doing.queryElements(item, signal)) : null,
    ]);
    const drawn = own?.elements > 1 || own?.kind ? makeElements(own, stage) : null;
    if (drawn) place.append(section(own.elements > 1 ? `Its ${own.elements} elements` : "What it looks at", drawn.node));
    if (!drawn && own?.why) place.append(make("p", { className: "hint" }, own.why));
    if (why?.length && (why.length > 1 || query?.kind)) place.append(section("How it answers the query", matchRows(why, query, drawn?.show)));
  }
}

const asHit = (data) => ({ ...data, caption: data.captions?.[0] ?? data.caption });

/** The photo as large as fits, in a box of its own shape so that layers lie exactly over it. */
function makeStage(hit, base) {
  const stage = make("div", { className: "stage" });
  const onRatio = (_, ratio) => stage.style.setProperty("--ratio", ratio);
  stage.style.setProperty("--ratio", ratioOf(pictured(hit)));
  stage.classList.toggle("is-words", !hit.has_picture);
  stage.append(photo(hit, { part: "/picture", base, lazy: false, onRatio }));
  return { stage, node: make("div", { className: "photo" }, stage) };
}

function rankLine(hit) {
  const chance = hasChance(hit) ? make("span", {}, `${percent(hit.probability)} chance to fit`) : null;
  return make("p", { className: "rank" }, make("b", {}, `#${hit.rank}`), chance, make("span", {}, `similarity ${similarity(hit.score)}`));
}

function matched(hits) {
  const range = rangeOf(hits);
  return make("ol", { className: "matched" }, hits.map((hit) =>
    make("li", { className: hit.own ? "is-own" : "" },
      make("span", { className: "text" }, hit.caption, hit.own ? make("em", {}, "own") : null), score(hit, range))));
}
