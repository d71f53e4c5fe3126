/** The pages of the list, from the newest to the oldest, for one filter at a time. */

import * as api from "./api.js";
import { EVERYTHING } from "./filters.js";
import { History } from "./history.js";

const FIRST_PAGE = 30;
const PAGE = 100;
const MINE_PAGE = 30;
const CATCH_UP_PAGES = 5; // more new jobs than that: the list begins anew
const UNSEEN = new Set(["samples"]); // operations whose jobs have no card

/** Whether jobs of that operation are in the list. */
export const isSeen = (operation) => !UNSEEN.has(operation);

export class Pages {
  /** @type {import("./filters.js").Filter} */
  filter = EVERYTHING;
  history = new History();
  /** Of the next older page; undefined: from the newest; null: there is none. @type {?string|undefined} */
  cursor = undefined;

  /** @param {(id: string) => ?import("./record.js").Record} known the record of a job in the list */
  constructor(known) {
    this.known = known;
  }

  #page(cursor, limit) {
    const { q, operation, status, since, until } = this.filter;
    return api.jobs({ limit, cursor, q, operation, status, since, until });
  }

  /** Whether there are older ones. */
  get more() {
    return this.filter.mine ? this.history.next(1, this.known).length > 0 : this.cursor !== null;
  }

  /** The first page. @returns {Promise<{jobs: import("./api.js").Job[], cursor: ?string|undefined}>} */
  async first() {
    if (this.filter.mine) return { jobs: [], cursor: undefined };
    const page = await this.#page(null, FIRST_PAGE);
    return { jobs: page.jobs, cursor: page.next_cursor };
  }

  /**
   * What is new, back to a job that a list had before.
   * @param {boolean} any whether a list had any
   * @returns {Promise<{jobs: import("./api.js").Job[], cursor: ?string, meets: boolean}>} `meets`: there is no gap
   */
  async newest(any) {
    const jobs = [];
    let cursor = null;
    let meets = false;
    for (let pages = 0; pages < CATCH_UP_PAGES && !meets; pages += 1) {
      const page = await this.#page(cursor, pages ? PAGE : FIRST_PAGE);
      jobs.push(...page.jobs);
      cursor = page.next_cursor;
      meets = page.jobs.some(({ id }) => this.known(id)?.listed);
      if (!cursor || !any) break;
    }
    return { jobs, cursor, meets };
  }

  /** Older ones that are not in the list, [] if another filter was chosen meanwhile. */
  async older() {
    const { filter } = this;
    let fresh = [];
    do {
      const page = await this.#page(this.cursor, PAGE);
      if (filter !== this.filter) return [];
      this.cursor = page.next_cursor;
      fresh = page.jobs.filter((job) => !this.known(job.id)?.listed && isSeen(job.operation));
    } while (fresh.length === 0 && this.cursor);
    return fresh;
  }

  /** Of the jobs sent from this browser that are not in the list: the newest that still exist. */
  async olderOfMine() {
    const found = [];
    for (const id of this.history.next(MINE_PAGE, this.known)) {
      try {
        found.push(await api.job(id));
      } catch (problem) {
        if (problem.status !== 404) throw problem;
        this.history.forget(id);
      }
    }
    return found;
  }
}
