// Numbers and words as people read them.

export const number = (value) => value.toLocaleString("en");

export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

/** A similarity with as many digits as tell neighbours apart. */
export const similarity = (value) => value.toFixed(3).replace("-", "\u2212");

/** A probability or share in whole percent, never a false 0 or 100. */
export function percent(value) {
  if (value > 0 && value < 0.01) return "<1\u2009%";
  if (value < 1 && value > 0.99) return ">99\u2009%";
  return `${Math.round(100 * value)}\u2009%`;
}

export function ordinal(rank) {
  const last = rank % 100 > 10 && rank % 100 < 14 ? 0 : rank % 10;
  return `${number(rank)}${["th", "st", "nd", "rd"][last] ?? "th"}`;
}

export const duration = (milliseconds) =>
  milliseconds < 10 ? `${milliseconds.toFixed(1)} ms` : `${number(Math.round(milliseconds))} ms`;

/** Where `value` lies in low..high, as a bar's length; the lowest keeps a visible stub. */
export function barLength(value, low, high) {
  const share = high > low ? (value - low) / (high - low) : 1;
  return `${(6 + 94 * share).toFixed(1)}%`;
}

/** A metadata value of a field: booleans may come as 0 and 1. */
export function valueText(value, kind = "text") {
  if (kind === "boolean") return [true, 1, "1", "true"].includes(value) ? "yes" : "no";
  if (value === true || value === false) return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map((one) => valueText(one)).join(", ");
  return value !== null && typeof value === "object" ? JSON.stringify(value) : String(value ?? "none");
}
