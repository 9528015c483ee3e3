// A JSON schema as people read it: a type in a line with its bounds, an object as a list of its fields.

import { make } from "./dom.js";

const DEEPEST = 4;

/** Follow `$ref`s of the description. */
export function resolve(spec, schema) {
  let at = schema ?? {};
  for (let n = 0; at.$ref && n < 20; n++) {
    at = at.$ref.split("/").slice(1).reduce((node, name) => node?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], spec) ?? {};
  }
  return at;
}

const nameOf = (schema) => schema?.$ref?.split("/").at(-1) ?? null;

/** The alternatives of a schema, null left out; more than one only where they really differ. */
function kinds(spec, schema) {
  const at = resolve(spec, schema);
  const several = at.anyOf ?? (at.type === undefined && !at.properties ? at.oneOf : undefined);
  return several ? several.flatMap((one) => (one.required && Object.keys(one).length === 1 ? [] : kinds(spec, one))) : [{ ...at, named: nameOf(schema) }];
}

/** The type in words: "whole number, 1 to 200", "list of text or null". */
export function typeWords(spec, schema) {
  const found = kinds(spec, schema).map((one) => [word(spec, one), bounds(one)].filter(Boolean).join(", "));
  return [...new Set(found)].join(" or ") || "anything";
}

const WORDS = { integer: "whole number", number: "number", string: "text", boolean: "true or false", object: "object", null: "null" };

function word(spec, at) {
  if (at.enum) return at.enum.map(String).join(" | ");
  if (at.const !== undefined) return JSON.stringify(at.const);
  if (at.type === "array") return `list of ${typeWords(spec, at.items ?? {})}`;
  if (at.format === "binary" || at.contentMediaType) return "file";
  if (Array.isArray(at.type)) return at.type.map((one) => WORDS[one] ?? one).join(" or ");
  return at.named ?? WORDS[at.type] ?? (at.properties ? "object" : "anything");
}

function bounds(at) {
  const [low, high] = [at.minimum ?? at.exclusiveMinimum, at.maximum ?? at.exclusiveMaximum];
  const say = (value) => value.toLocaleString("en");
  const parts = [];
  if (low !== undefined && high !== undefined) parts.push(`${say(low)} to ${say(high)}`);
  else if (low !== undefined) parts.push(`at least ${say(low)}`);
  else if (high !== undefined) parts.push(`at most ${say(high)}`);
  if (at.maxLength !== undefined) parts.push(`up to ${say(at.maxLength)} characters`);
  if (at.maxItems !== undefined) parts.push(`up to ${say(at.maxItems)}`);
  return parts.join(", ");
}

/** The fields of an object schema (or of a list's members), nested ones to be opened; null where it has none. */
export function fieldsOf(spec, schema, depth = 0) {
  const at = objectIn(spec, schema);
  if (!at?.properties || depth > DEEPEST) return null;
  const needed = new Set(at.required ?? []);
  return make("ul", { className: "schema" }, Object.entries(at.properties).map(([name, one]) => {
    const about = one.description ?? resolve(spec, one).description;
    const line = [make("code", {}, name), make("span", { className: "type" }, typeWords(spec, one)),
      needed.size && !needed.has(name) ? make("span", { className: "optional" }, "optional") : null,
      about ? make("span", { className: "about" }, about) : null];
    const inner = fieldsOf(spec, one, depth + 1);
    return make("li", {}, inner ? make("details", {}, make("summary", {}, line), inner) : make("div", { className: "line" }, line));
  }));
}

function objectIn(spec, schema) {
  for (const one of kinds(spec, schema)) {
    if (one.properties) return one;
    if (one.type === "array") return objectIn(spec, one.items);
    if (one.type === "object" && typeof one.additionalProperties === "object") return objectIn(spec, one.additionalProperties);
  }
  return null;
}
