// Asking the API: errors with their type, a busy server asked again after the time it names.

const TRIES = 6;
const LONGEST = 20;
const BUSY = new Set([429, 503]);

/** A refusal: `kind` is the error's type, `status` 0 where the server was not reached. */
export class Refused extends Error {
  constructor(message, kind, status) {
    super(message);
    Object.assign(this, { kind, status, name: "Refused" });
  }
}

/**
 * JSON of the API, null of an empty answer. `waiting(seconds)` is told each time a busy server will be asked again.
 * Throws Refused, or AbortError when `signal` says so.
 */
export async function ask(url, { waiting = null, ...options } = {}) {
  for (let turn = 1; ; turn++) {
    const response = await reach(url, options);
    if (response.ok) return response.status === 204 ? null : response.json();
    if (!BUSY.has(response.status) || turn === TRIES) throw await refusal(response);
    const seconds = pause(response, turn);
    waiting?.(Math.ceil(seconds));
    await sleep(seconds * 1000, options.signal);
  }
}

async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is it still running, and are you connected?", "Offline", 0);
  }
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  const said = body?.error ?? { type: "Unreadable", message: `The server answered ${response.status}.` };
  return new Refused(said.message, said.type, response.status);
}

/** Seconds to wait; the random part keeps many pages from coming back at the same instant. */
function pause(response, turn) {
  const asked = Number(response.headers.get("Retry-After"));
  const seconds = Number.isFinite(asked) && asked > 0 ? asked : 2 ** (turn - 2);
  return Math.min(LONGEST, seconds) + Math.random() * 0.4;
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => (clearTimeout(timer), reject(new DOMException("stopped", "AbortError")));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", stop), resolve()), milliseconds);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
  });
}

export const json = (body, method = "POST") =>
  ({ method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** Where the API of a side lies: the index served, or the one compared with. */
export const baseOf = (side) => (side === "b" ? "api/compare" : "api");

export const itemUrl = (id, part = "", base = "api") => `${base}/items/${encodeURIComponent(id)}${part}`;
