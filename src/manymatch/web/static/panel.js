// The panel of one item: its photo, its captions, the captions it would match, and photos like it.
// Beside the results on a desk (they stay usable), a modal sheet from below on a phone.

import { ask, bar, barLength, icon, itemUrl, make, picture, similarity } from "./dom.js";

const CLOSE = "M6 6l12 12M18 6L6 18";
const BACK = "M14.5 5.5 8 12l6.5 6.5";
const ON = "M9.5 5.5 16 12l-6.5 6.5";
const phone = matchMedia("(max-width: 899px)");

export class Panel {
  /** `itemHref(id)` is the address of an item, `likeHref(id)` of a search from it; `step(n)` and `leave()` navigate. */
  constructor(dialog, { itemHref, likeHref, step, leave }) {
    Object.assign(this, { dialog, itemHref, likeHref, step, leave, id: null, before: null });
    dialog.addEventListener("cancel", (event) => (event.preventDefault(), leave()));
    dialog.addEventListener("click", (event) => event.target === dialog && leave());
    addEventListener("keydown", (event) => this.#key(event));
    phone.addEventListener("change", () => dialog.open && this.#appear(true));
  }

  /** Show the item; `hit` is its result where it is among them, `place` says whether there is one before and after. */
  async open(id, hit, place) {
    if (this.id === id) return;
    const fresh = this.id === null;
    this.id = id;
    if (fresh) this.before = document.activeElement;
    const lead = hit ? photo(hit) : make("div", { className: "waiting" });
    this.#fill(id, hit, place, lead, make("p", { className: "unseen", role: "status" }, "Loading its captions"));
    this.#appear(false);
    if (fresh) this.dialog.querySelector(".close").focus({ preventScroll: true });
    try {
      const found = await ask(itemUrl(id));
      if (this.id === id) this.#fill(id, hit, place, hit ? lead : photo(found.item), ...this.#parts(found));
    } catch (error) {
      if (this.id === id) this.#fill(id, hit, place, make("p", { className: "trouble", role: "alert" }, error.message));
    }
  }

  /** `then` takes the focus; without it the element that had it before. */
  close(then = null) {
    if (this.id === null) return;
    this.id = null;
    this.dialog.close();
    document.body.classList.remove("has-panel");
    const next = then ?? this.before;
    if (next?.isConnected) next.focus({ preventScroll: true });
  }

  #appear(again) {
    if (again) this.dialog.close();
    document.body.classList.toggle("has-panel", !phone.matches);
    if (this.dialog.open) return;
    if (phone.matches) this.dialog.showModal();
    else this.dialog.show();
  }

  #key(event) {
    if (this.id === null || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.matches?.("input, textarea")) return;
    if (event.key === "Escape" && !phone.matches) this.leave();
    else if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else return;
    event.preventDefault();
  }

  #fill(id, hit, place, lead, ...parts) {
    const held = this.dialog.contains(document.activeElement) ? document.activeElement.className : null;
    const button = (className, label, path, act, disabled = false) => {
      const node = make("button", { type: "button", className, "aria-label": label, title: label, disabled }, icon(path));
      node.addEventListener("click", act);
      return node;
    };
    this.dialog.replaceChildren(
      make("div", { className: "panel-bar" },
        make("h2", { id: "panel-title", title: id }, id),
        button("before", "Previous result", BACK, () => this.step(-1), !place.before),
        button("after", "Next result", ON, () => this.step(1), !place.after),
        button("close", "Close", CLOSE, this.leave)),
      make("div", { className: "panel-body" }, lead, hit ? this.#rank(hit) : "", ...parts.filter(Boolean)));
    if (held === null) return;
    const again = held && this.dialog.querySelector(`button.${held.split(" ")[0]}:not(:disabled)`);
    (again || this.dialog.querySelector(".close")).focus({ preventScroll: true });
  }

  #rank(hit) {
    const chance = hit.probability === null || hit.probability === undefined
      ? null : make("span", {}, `${Math.round(100 * hit.probability)} % likely a match`);
    return make("p", { className: "rank" },
      make("b", {}, `#${hit.rank}`), make("span", {}, `similarity ${similarity(hit.score)}`), chance);
  }

  #parts({ item, captions, like }) {
    const own = make("ul", { className: "captions" }, ...item.captions.map((text) => make("li", {}, text)));
    const several = item.captions.length === 1 ? "Its caption" : "Its captions";
    return [
      item.captions.length ? section(several, own) : null,
      captions.hits.length ? section("Captions it would match here", this.#matched(captions.hits)) : null,
      like.hits.length ? this.#alike(item.id, like.hits) : null,
      this.#details(item),
    ];
  }

  #matched(hits) {
    const scores = hits.map((hit) => hit.score);
    const [low, high] = [Math.min(...scores), Math.max(...scores)];
    return make("ol", { className: "matched" }, ...hits.map((hit) =>
      make("li", { className: hit.own ? "is-own" : "" },
        make("span", { className: "text" }, hit.caption, hit.own ? make("em", {}, "own") : null),
        make("span", { className: "score" }, bar(barLength(hit.score, low, high)),
          make("span", { className: "unseen" }, "similarity "), similarity(hit.score)))));
  }

  #alike(id, hits) {
    const all = make("a", { href: this.likeHref(id), className: "all", "data-go": "" }, "See all");
    const row = make("ul", { className: "alike" }, ...hits.map((hit) =>
      make("li", {}, make("a", { href: this.itemHref(hit.id), "data-go": "" }, picture(hit)))));
    return section("More like this", row, all);
  }

  #details(item) {
    const entries = Object.entries(item.metadata ?? {});
    if (item.labels?.length) entries.unshift(["labels", item.labels.join(", ")]);
    if (!entries.length) return null;
    const words = (value) => (typeof value === "string" ? value : JSON.stringify(value));
    return section("Details", make("dl", {}, ...entries.flatMap(([name, value]) =>
      [make("dt", {}, name), make("dd", {}, words(value))])));
  }
}

function photo(item) {
  const shown = picture({ caption: item.captions?.[0], ...item }, { part: "/picture", lazy: false });
  return make("div", { className: "photo" }, shown);
}

function section(title, content, beside = null) {
  return make("section", {}, make("div", { className: "overline-row" },
    make("h3", { className: "overline" }, title), beside), content);
}
