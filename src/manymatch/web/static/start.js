// The start page: what lies here, and examples of it in words and pictures.

import { ask } from "./ask.js";
import { at, make, unseen } from "./dom.js";
import { count, number } from "./format.js";
import { photo, pictured, tile } from "./photo.js";

const EACH = 12;
const PICTURES = 16;
let filled = false;

/** Fill in what `info` says; `hrefOf({q} or {like})` is the address of a search. */
export function makeStart(info, hrefOf) {
  at("title").textContent = info.title;
  at("about").textContent = `Search ${count(info.images, "photo")} in your own words, or with a picture.`;
  at("words").placeholder = info.examples?.[0] ? `Describe a photo: \u201c${info.examples[0]}\u201d` : "Describe a photo";
  at("footer-facts").textContent = [info.method, info.similarity, info.captions ? `${number(info.captions)} captions` : null, `manymatch ${info.version}`].filter(Boolean).join(" \u00b7 ");
  const links = (info.examples ?? []).map((text) =>
    make("a", { className: "example", href: hrefOf({ q: text }), "data-go": "", "data-testid": "example", title: text }, make("span", {}, text)));
  at("examples").replaceChildren(...links.map((link) => make("li", {}, link)));
  at("tries").hidden = !links.length;
}

/** Photos for the examples, once and only where the start page is looked at: they are searches like any other. */
export async function fillStart(hrefOf) {
  if (filled) return;
  filled = true;
  const seen = new Set();
  const links = at("examples").querySelectorAll("a");
  for (const link of links) await example(link, hrefOf, seen);
  if (!links.length) await uncaptioned(hrefOf, seen);
}

/** Where photos have no captions there are no examples in words: some of the photos are, whatever they show. */
async function uncaptioned(hrefOf, seen) {
  const found = await ask(`api/search?${new URLSearchParams({ q: "a photo", k: PICTURES })}`).catch(() => null);
  begin((found?.hits ?? []).filter((hit) => hit.has_picture), hrefOf, seen);
}

/** An example shows the photo whose caption it is; photos of captions near it are pictures to begin with. */
async function example(link, hrefOf, seen) {
  const asked = new URLSearchParams({ q: link.title, among: "captions", k: EACH });
  const found = await ask(`api/search?${asked}`).catch(() => null);
  const owned = (found?.hits ?? []).filter((hit) => hit.has_picture && hit.owner);
  const own = owned.filter((hit) => hit.caption === link.title);
  const hits = [...own, ...owned].map((hit) => ({ ...hit, id: hit.owner, owner: null, modality: "image" }));
  if (hits[0]) link.prepend(photo(hits[0], { alt: "", lazy: false }));
  begin(hits, hrefOf, seen);
}

/** Pictures to begin with, each once, until there are enough. */
function begin(hits, hrefOf, seen) {
  const fresh = hits.filter((hit) => !seen.has(hit.id) && seen.add(hit.id)).slice(0, Math.max(0, PICTURES - at("pictures").childElementCount));
  at("pictures").append(...fresh.map((hit) => {
    const link = make("a", { href: hrefOf({ like: pictured(hit) }), "data-go": "", "data-testid": "example" }, unseen("Photos like: "));
    return tile(hit, link, { lazy: false });
  }));
  at("begin").hidden = !at("pictures").childElementCount;
}
