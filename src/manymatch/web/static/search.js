// Running a question: the first page with its meanings and counts, further pages, and lists seen before at once.

import { ask } from "./ask.js";
import { PAGE, request } from "./state.js";

const KEPT = 12;
const AT_ONCE = 200;

/** Lists of results, the ones seen last kept, so that the back button shows them at once. */
export class Searches {
  #kept = new Map();
  #running = null;

  /** `facets` are the fields to count; `waiting(seconds)` hears that a busy server will be asked again. */
  constructor({ facets, waiting }) {
    Object.assign(this, { facets, waiting });
  }

  kept(key) {
    const found = this.#kept.get(key) ?? null;
    if (found) (this.#kept.delete(key), this.#kept.set(key, found));
    return found;
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
  }

  /** The first `count` results of a question: {key, question, answer, hits, groups, done}. */
  async first(key, question, count = PAGE) {
    const more = { k: Math.min(Math.max(count, PAGE), AT_ONCE), offset: 0 };
    const counted = this.facets.length ? { facets: this.facets } : {};
    const meanings = question.groupBy || question.among === "captions" ? {} : { meanings: true, per_group: 10 };
    const grouped = question.groupBy ? { per_group: 8 } : {};
    const answer = await this.#ask(question, { ...more, ...counted, ...meanings, ...grouped });
    const shown = { key, question, answer, hits: [], groups: answer.groups ? [] : null, done: false };
    take(shown, answer, more.k);
    this.#kept.set(key, shown);
    if (this.#kept.size > KEPT) this.#kept.delete(this.#kept.keys().next().value);
    return shown;
  }

  /** One page more; returns the place the new ones begin at. */
  async next(shown) {
    const from = (shown.groups ?? shown.hits).length;
    const grouped = shown.question.groupBy ? { per_group: 8 } : {};
    take(shown, await this.#ask(shown.question, { k: PAGE, offset: from, ...grouped }), PAGE);
    return from;
  }

  /** Counts of a field as they would be without its own condition, so that its other values can be chosen too. */
  async facet(question, field) {
    const open = { ...question, where: question.where.filter((one) => one.field !== field) };
    const [url, options] = request(open, { k: 1, facets: [field] });
    return (await ask(url, options)).facets?.[field] ?? null;
  }

  async #ask(question, extra) {
    this.stop();
    const mine = (this.#running = new AbortController());
    const [url, options] = request(question, extra);
    return ask(url, { ...options, signal: mine.signal, waiting: this.waiting });
  }
}

function take(shown, answer, asked) {
  const known = new Set(shown.hits.map((hit) => hit.id));
  shown.groups?.push(...(answer.groups ?? []));
  // Deeper pages of an approximate search may repeat an item.
  shown.hits.push(...answer.hits.filter((hit) => !known.has(hit.id)));
  shown.done = answer.hits.length < asked || (!shown.groups && shown.hits.length >= answer.searched);
}
