/**
 * What the list is searched for. The server filters its pages; live events are compared here.
 *
 * @typedef {{q: string, operation: string, status: string, since: ?string, until: ?string, mine: boolean}} Filter
 *   times are ISO 8601; "" and null: any
 */

import { byId, el, sentence } from "./dom.js";

const TYPING_MS = 250;
const DAY_MS = 86_400_000;

/** @type {Filter} */
export const EVERYTHING = Object.freeze({ q: "", operation: "", status: "", since: null, until: null, mine: false });

export const isActive = (filter) => Object.keys(EVERYTHING).some((name) => filter[name] !== EVERYTHING[name]);

const folded = (text) => text.normalize("NFC").toLowerCase();

/** Whether a record belongs to the list. */
export function matches(filter, { job, name, mine, found }) {
  if (filter.mine && !mine) return false;
  if (!job) return !filter.status && (!filter.q || folded(name ?? "").includes(folded(filter.q)));
  return (!filter.operation || job.operation === filter.operation)
    && (!filter.status || job.status === filter.status)
    && (!filter.since || Date.parse(job.created_at) >= Date.parse(filter.since))
    && (!filter.until || Date.parse(job.created_at) < Date.parse(filter.until))
    // The server compares names by more rules than a browser does: what it has found, it has found.
    && (!filter.q || found === filter || folded(name ?? "").includes(folded(filter.q)));
}

/** The start of a day in the browser's time zone, `days` later. */
function dayStart(text, days = 0) {
  const [year, month, day] = text.split("-").map(Number);
  return new Date(year, month - 1, day + days).toISOString();
}

export class Filters {
  #form = byId("filters");
  #timer = null;

  /** @param {(filter: Filter) => void} changed */
  constructor(changed) {
    const { time } = this.#form.elements;
    const tell = () => {
      clearTimeout(this.#timer);
      byId("filter-days").hidden = time.value !== "days";
      changed(this.value);
    };
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#form.addEventListener("change", tell);
    this.#form.elements.q.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(tell, TYPING_MS);
    });
    byId("filter-clear").addEventListener("click", () => {
      this.#form.reset();
      tell();
      this.#form.elements.q.focus();
    });
  }

  /** The operations that can be searched for. */
  offer(operations) {
    const select = this.#form.elements.operation;
    const chosen = select.value;
    select.replaceChildren(select.options[0], ...operations.map(({ name }) => el("option", { value: name, text: sentence(name) })));
    select.value = chosen;
  }

  /** @returns {Filter} */
  get value() {
    const { q, operation, status, time, from, to, mine } = this.#form.elements;
    let [since, until] = [null, null];
    if (time.value === "today") since = new Date(new Date().setHours(0, 0, 0, 0)).toISOString();
    else if (time.value === "days") {
      since = from.value ? dayStart(from.value) : null;
      until = to.value ? dayStart(to.value, 1) : null;
    } else if (time.value) since = new Date(Date.now() - Number(time.value) * DAY_MS).toISOString();
    return { q: q.value.trim().slice(0, 200), operation: operation.value, status: status.value, since, until, mine: mine.checked };
  }
}
