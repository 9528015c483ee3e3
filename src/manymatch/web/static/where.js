// Filters: conditions of the page, the API's `where` forms and its structured `where`, from one to the other.
// The forms have no quoting, so a value such as "a|b" travels in the address as JSON and to the API in a body.

const FORM = /^([^=<>~!]+)(>=|<=|>|<|=|~)(.*)$/s;
const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/;
const SIGNS = { gt: ">", gte: ">=", lt: "<", lte: "<=" };
const NAMES = Object.fromEntries(Object.entries(SIGNS).map(([name, sign]) => [sign, name]));

/**
 * Conditions from the forms of an address: `{field, in: [text]}`, `{field, range: {gte: text, ...}}`,
 * `{field, text: words}` or `{field, exists: bool}`. What cannot be read is left out.
 */
export function readForms(forms) {
  const found = [];
  for (const form of forms) {
    const one = form.startsWith("{") ? readJson(form) : readForm(form.trim());
    const range = one?.range && found.find((other) => other.range && other.field === one.field);
    if (range) Object.assign(range.range, one.range);
    else if (one) found.push(one);
  }
  return found;
}

function readJson(form) {
  try {
    const one = JSON.parse(form);
    const lists = Array.isArray(one.in) && one.in.every((value) => typeof value === "string");
    return typeof one.field === "string" && lists ? { field: one.field, in: one.in } : null;
  } catch {
    return null;
  }
}

function readForm(form) {
  const [, field, sign, value] = FORM.exec(form) ?? [];
  if (!field) return readExists(form);
  const [name, wanted] = [field.trim(), value.trim()];
  if (!name || !wanted) return null;
  if (sign === "=") return { field: name, in: wanted.split("|").map((one) => one.trim()) };
  return sign === "~" ? { field: name, text: wanted } : { field: name, range: { [NAMES[sign]]: wanted } };
}

function readExists(form) {
  const field = form.replace(/^!/, "").trim();
  return field && !/[=<>~!]/.test(field) ? { field, exists: !form.startsWith("!") } : null;
}

const plainValue = (value) => value !== "" && value.trim() === value && !value.includes("|") && !/^[=<>~]/.test(value);
const plainField = (field) => field !== "" && field.trim() === field && !/[=<>~!]/.test(field) && !field.startsWith("{");

/** Whether a condition can be said as forms, which is all that a search by picture takes. */
export const isPlain = (one) => plainField(one.field) && (one.in ?? []).every(plainValue);

export function formsOf(conditions) {
  return conditions.flatMap((one) => {
    if (!isPlain(one)) return [JSON.stringify(one)];
    if (one.in) return [`${one.field}=${one.in.join("|")}`];
    if (one.range) return Object.entries(one.range).map(([name, value]) => `${one.field}${SIGNS[name]}${value}`);
    return [one.text === undefined ? `${one.exists ? "" : "!"}${one.field}` : `${one.field}~${one.text}`];
  });
}

/** As the API takes it in a body: field -> operators. Text that looks like a number or a truth stands for both. */
export function structured(conditions) {
  // Without the names that every object has, which a field may have too.
  const where = Object.create(null);
  for (const one of conditions) {
    const operators = (where[one.field] ??= {});
    if (one.in) operators.in = one.in.flatMap(meanings);
    else if (one.range) for (const [name, value] of Object.entries(one.range)) operators[name] = numeric(value) ?? value;
    else if (one.text !== undefined) operators.text = one.text;
    else operators.exists = one.exists;
  }
  return where;
}

/** The truth that a text says, or null. */
export const truth = (text) => (text === "true" || text === "false" ? text === "true" : null);

const numeric = (text) => (NUMBER.test(text) ? Number(text) : null);

function meanings(text) {
  const other = truth(text.toLowerCase()) ?? numeric(text);
  return other === null ? [text] : [text, other];
}

/** The conditions with `value` of `field` taken in, or out where it was in. */
export function toggled(conditions, field, value) {
  const old = conditions.find((one) => one.field === field && one.in);
  const values = old?.in ?? [];
  const next = values.includes(value) ? values.filter((other) => other !== value) : [...values, value];
  const rest = conditions.filter((one) => one !== old);
  return next.length ? [...rest, { field, in: next }] : rest;
}

/** The conditions with the range of `field` set; a bound that is empty is none. */
export function bounded(conditions, field, bounds) {
  const range = Object.fromEntries(Object.entries(bounds).filter(([, value]) => value !== ""));
  const rest = conditions.filter((one) => !(one.field === field && one.range));
  return Object.keys(range).length ? [...rest, { field, range }] : rest;
}

/** The conditions with the words looked for in `field` set; without words, none. */
export function worded(conditions, field, text) {
  const rest = conditions.filter((one) => !(one.field === field && one.text !== undefined));
  return text ? [...rest, { field, text }] : rest;
}

/** Each part of the conditions that can be taken away by itself: its words, and the conditions without it. */
export function partsOf(conditions, show = (field, value) => value) {
  return conditions.flatMap((one) => {
    const without = conditions.filter((other) => other !== one);
    if (one.in) {
      return one.in.map((value) => ({ field: one.field, text: show(one.field, value), without: toggled(conditions, one.field, value) }));
    }
    if (one.range) {
      const text = Object.entries(one.range).map(([name, value]) => `${{ gte: "from", lte: "to", gt: "over", lt: "under" }[name]} ${value}`);
      return [{ field: one.field, text: text.join(" "), without }];
    }
    if (one.text !== undefined) return [{ field: one.field, text: `has \u201c${one.text}\u201d`, without }];
    return [{ field: one.field, text: one.exists ? "given" : "not given", without }];
  });
}
