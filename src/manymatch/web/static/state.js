// What the address asks for, and the address that asks for it. A picture that was given lives in the history entry.

import { formsOf, isPlain, readForms, structured, toggled, truth } from "./where.js";
import { baseOf, json } from "./ask.js";

export const PAGE = 24;
const SWITCHES = ["exact", "hybrid", "bank"];
const HELD = 4_000_000;
const pictures = new Map();

/**
 * A question: `q` words, `like` an item or `picture` a file to search from; `unlike`, `unlikeItem`; `where`
 * conditions; options (null where they are left to the server); `compare` two columns; `item` in the panel, of `side`.
 */
export function read() {
  const params = new URLSearchParams(location.search);
  const stamp = params.has("picture") ? history.state?.stamp ?? "gone" : "";
  const share = (name) => {
    const value = Number.parseFloat(params.get(name));
    return value >= 0 && value <= 1 ? value : null;
  };
  return {
    q: params.get("q")?.trim() || null,
    like: params.get("like"),
    stamp,
    picture: stamp ? heldPicture(stamp) : null,
    unlike: params.get("unlike")?.trim() || null,
    unlikeItem: params.get("unlike_item"),
    where: readForms(params.getAll("where")),
    ...Object.fromEntries(SWITCHES.map((name) => [name, truth(params.get(name))])),
    diverse: share("diverse"),
    confident: share("confident"),
    among: ["images", "captions"].includes(params.get("among")) ? params.get("among") : null,
    groupBy: params.get("group_by"),
    compare: params.get("view") === "compare",
    item: params.get("item"),
    side: params.get("side") === "b" ? "b" : "a",
  };
}

export const isAsked = (question) => Boolean(question.q || question.like !== null || question.stamp);

function common(question) {
  const params = new URLSearchParams();
  const set = (name, value) => value !== null && value !== undefined && params.set(name, value);
  if (question.q) set("q", question.q);
  else if (question.like !== null) set("like", question.like);
  set("unlike", question.unlike);
  set("unlike_item", question.unlikeItem);
  for (const name of [...SWITCHES, "diverse", "confident", "among"]) set(name, question[name]);
  set("group_by", question.groupBy);
  return params;
}

/** The address of a question. */
export function address(question) {
  const params = common(question);
  if (question.stamp) params.set("picture", "1");
  for (const form of formsOf(question.where)) params.append("where", form);
  if (question.compare) params.set("view", "compare");
  if (question.item !== null) params.set("item", question.item);
  if (question.item !== null && question.side === "b") params.set("side", "b");
  return params.size ? `?${params}` : "./";
}

/** What makes one list of results another: the address without the panel. */
export const keyOf = (question) =>
  isAsked(question) ? `${address({ ...question, item: null })}\n${question.stamp}` : null;

/** A new search keeps how one searches, not what for. */
export const asking = (question, from) =>
  ({ ...question, q: null, like: null, stamp: "", picture: null, unlike: null, unlikeItem: null, item: null, ...from });

/**
 * Hold a picture, and say what its history entry keeps of it: its bytes, so that a reload still has it, since browsers
 * drop an entry that holds a file; of a large one the stamp alone, which lasts until the page is left.
 */
export async function keepPicture(picture) {
  const stamp = `${Date.now()}-${pictures.size}`;
  pictures.set(stamp, picture);
  if (picture.size > HELD) return { stamp };
  const { name, type } = picture;
  return { stamp, picture: { name, type, bytes: await picture.arrayBuffer() } };
}

function heldPicture(stamp) {
  const kept = history.state?.picture;
  if (!pictures.has(stamp) && kept) pictures.set(stamp, new File([kept.bytes], kept.name, { type: kept.type }));
  return pictures.get(stamp) ?? null;
}

/** What to fetch for a question: url and options. `extra` are more parameters; a list is repeated. */
export function request(question, extra = {}, side = "a") {
  const base = baseOf(side);
  const plain = question.where.every(isPlain);
  if (!question.stamp && !plain) return [`${base}/search`, json(body(question, extra))];
  const params = common(question);
  if (question.stamp) for (const name of ["q", "like"]) params.delete(name);
  if (!question.q) params.delete("hybrid");
  if (question.like !== null && !question.among) params.set("among", "images");
  for (const form of formsOf(question.where)) params.append("where", form);
  for (const [name, value] of Object.entries(extra)) for (const one of [value].flat()) params.append(name, one);
  if (!question.stamp) return [`${base}/search?${params}`, {}];
  const form = new FormData();
  form.append("image", question.picture);
  return [`${base}/search/image?${params}`, { method: "POST", body: form }];
}

function body(question, extra) {
  const params = Object.fromEntries(common(question));
  const { q, ...rest } = params;
  if (!q) delete rest.hybrid;
  for (const name of SWITCHES) if (name in rest) rest[name] = question[name];
  for (const name of ["diverse", "confident"]) if (question[name] !== null) rest[name] = question[name];
  const from = q ? { query: q } : { among: "images" };
  return { ...from, ...rest, ...extra, where: structured(question.where) };
}

/** The address with a metadata value of an item as one more filter; null where it cannot be one or is one already. */
export function filterAddress(question, fields, name, value) {
  const field = fields.find((one) => one.name === name);
  if (!field || value === null || typeof value === "object") return null;
  const key = String(field.kind === "boolean" ? Boolean(value) : value);
  if (question.where.some((one) => one.field === name && one.in?.includes(key))) return null;
  const from = isAsked(question) ? question : asking(question, { like: question.item });
  return address({ ...from, item: null, where: toggled(question.where, name, key) });
}
