// The start page: what lies here, and examples of it in words and pictures.

import { ask } from "./ask.js";
import { at, make, unseen } from "./dom.js";
import { count, number } from "./format.js";
import { photo, pictured, tile } from "./photo.js";

const EACH = 4;
const PICTURES = 16;

/** Fill in what `info` says; `hrefOf({q} or {like})` is the address of a search. */
export async function makeStart(info, hrefOf, signal = undefined) {
  at("title").textContent = info.title;
  at("about").textContent = `Search ${count(info.images, "photo")} in your own words, or with a picture.`;
  at("words").placeholder = info.examples?.[0] ? `Describe a photo: \u201c${info.examples[0]}\u201d` : "Describe a photo";
  at("footer-facts").textContent = [info.method, info.similarity, `${number(info.captions)} captions`, `manymatch ${info.version}`].filter(Boolean).join(" \u00b7 ");
  const links = (info.examples ?? []).map((text) =>
    make("a", { className: "example", href: hrefOf({ q: text }), "data-go": "", "data-testid": "example", title: text }, make("span", {}, text)));
  at("examples").replaceChildren(...links.map((link) => make("li", {}, link)));
  at("tries").hidden = !links.length;
  const seen = new Set();
  for (const link of links) await example(link, hrefOf, seen, signal);
}

/** An example shows the photo it finds; what else it finds are pictures to begin with. */
async function example(link, hrefOf, seen, signal) {
  const found = await ask(`api/search?${new URLSearchParams({ q: link.title, k: EACH })}`, { signal }).catch(() => null);
  const hits = (found?.hits ?? []).filter((hit) => hit.has_picture && hit.modality === "image");
  if (hits[0]) link.prepend(photo(hits[0], { alt: "", lazy: false }));
  const fresh = hits.filter((hit) => !seen.has(hit.id) && seen.add(hit.id)).slice(0, Math.max(0, PICTURES - at("pictures").childElementCount));
  at("pictures").append(...fresh.map((hit) => {
    const begin = make("a", { href: hrefOf({ like: pictured(hit) }), "data-go": "", "data-testid": "example" }, unseen("Photos like: "));
    return tile(hit, begin, { lazy: false });
  }));
  at("begin").hidden = !at("pictures").childElementCount;
}
