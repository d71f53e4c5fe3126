/**
 * The pictures: which jobs and uploads have a card, in which order, and what the live feed changes on them.
 *
 * @typedef {object} Record
 * @property {?import("./api.js").Job} job once the server has it
 * @property {?import("./uploads.js").Upload} upload when this page sent it
 * @property {boolean} mine
 * @property {boolean} whole whether `job` is all that the server knows (an event carries less)
 * @property {?string} localUrl the photo itself, for an upload
 * @property {?string} name the file's name, for an upload
 * @property {number} lastEvent
 * @property {string} order its time, ISO 8601: the newest stands first
 * @property {Card} card
 */

import * as api from "./api.js";
import { Card, ended } from "./card.js";
import { byId, memory, plural, say } from "./dom.js";

const PAGE = 30;
const CARDS_LIVE = 60; // beyond these, a new card makes the oldest one leave
const CARDS_MOST = 300; // also when asked for older ones
const FETCHES_AT_ONCE = 3;
const MINE_REMEMBERED = 300;
const FLUSH_MS = 40;

export class Board {
  /** @type {Map<string, Record>} by job id, or by the upload's key until there is one */
  #records = new Map();
  #byElement = new WeakMap();
  #list = byId("cards");
  #room = CARDS_LIVE;
  #cursor = undefined; // of the next older page; undefined: from the newest; null: there is none
  #mine = new Set(memory.get("mine", []));
  #changed = new Set();
  #flush = null;
  #wanted = [];
  #fetching = 0;
  #watch = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) this.#want(this.#byElement.get(target));
  }, { rootMargin: "200px" });
  #loaded = false;

  /** @param {object} actions for the cards: open, json, again, abort, changed */
  constructor(actions) {
    this.actions = { ...actions, erase: (record) => this.erase(record), cancel: (record) => this.cancel(record),
      pictureLost: (record) => this.#recheck(record) };
    byId("more").addEventListener("click", () => this.loadOlder());
    const mineOnly = byId("mine-only");
    mineOnly.addEventListener("change", () => {
      this.#list.classList.toggle("mine-only", mineOnly.checked);
      this.#outline();
    });
  }

  get(id) { return this.#records.get(id); }

  // ---- what the server tells -------------------------------------------------------------------------------------

  /** The newest page: new ones enter, known ones are set right, ones erased elsewhere leave. */
  async refresh() {
    const known = new Set(this.#records.keys());
    const page = await api.jobs({ limit: PAGE });
    this.#loaded = true;
    const listed = new Set(page.jobs.map((job) => job.id));
    const oldest = page.next_cursor ? page.jobs.at(-1)?.created_at ?? "" : "";
    for (const id of known) {
      const record = this.#records.get(id);
      if (record?.job && !listed.has(id) && record.whole && record.job.created_at > oldest) this.#remove(record);
    }
    for (const job of page.jobs) this.put(job, true);
    this.#cursor = page.next_cursor;
    this.#outline();
  }

  async loadOlder() {
    const button = byId("more");
    button.disabled = true;
    try {
      let fresh = [];
      do {
        const page = await api.jobs({ cursor: this.#cursor, limit: PAGE });
        this.#cursor = page.next_cursor;
        fresh = page.jobs.filter((job) => !this.#records.has(job.id));
      } while (fresh.length === 0 && this.#cursor);
      this.#room = Math.min(CARDS_MOST, Math.max(this.#room, this.#records.size + fresh.length));
      for (const job of fresh) this.put(job, true);
      this.#records.get(fresh[0]?.id)?.card.frame.focus({ preventScroll: true });
      say(`${plural(fresh.length, "older picture")} added.`);
    } catch (problem) {
      say(problem.message);
    } finally {
      button.disabled = false;
      this.#outline();
    }
  }

  /** An Event of the live feed. */
  apply(event) {
    const { id } = event.job;
    const record = this.#records.get(id);
    if (!event.job.status) { // the job was erased; of its events only the skeleton is left
      if (record && !record.upload) this.#remove(record);
      return;
    }
    if (record && Number.isFinite(event.id)) {
      if (event.id <= record.lastEvent) return;
      record.lastEvent = event.id;
    }
    const times = { "job.queued": "created_at", "job.running": "started_at", "job.succeeded": "finished_at",
      "job.failed": "finished_at", "job.cancelled": "finished_at" };
    const stamp = times[event.type];
    const job = { ...event.job };
    if (stamp && !job[stamp] && !record?.job?.[stamp]) job[stamp] = event.time;
    if (!record && !job.created_at) job.created_at = event.time;
    const put = this.put(job, false);
    if (Number.isFinite(event.id)) put.lastEvent = Math.max(put.lastEvent, event.id);
  }

  /** A job as the server has it; `whole` when it is all of it. @returns {Record} */
  put(job, whole) {
    let record = this.#records.get(job.id);
    if (!record) {
      record = this.#enter(job.id, { job, whole, order: job.created_at ?? "", mine: this.#mine.has(job.id) });
    } else if (ended(job) || !ended(record.job)) { // what has ended does not begin again
      const wasEnded = ended(record.job);
      record.job = { ...record.job, ...job };
      record.whole = whole || (record.whole && wasEnded); // an event that ends a job does not bring its result
      if (!wasEnded && ended(job)) this.#tellEnd(record);
    }
    this.#touch(record);
    if (!record.whole && ended(record.job)) this.#watch.observe(record.card.element);
    return record;
  }

  // ---- what this page sends --------------------------------------------------------------------------------------

  /** Enter an upload, or show that it has changed. */
  upload(upload) {
    const record = this.#records.get(upload.key) ?? (upload.state === "sent" ? null : this.#enter(upload.key, {
      upload, mine: true, name: upload.name, order: this.#newest(),
      localUrl: upload.file ? URL.createObjectURL(upload.file) : null,
    }));
    if (record) this.#touch(record);
  }

  /** The upload has become a job, perhaps one that has a card already. */
  sent(upload, job) {
    this.#mine.add(job.id);
    memory.set("mine", [...this.#mine].slice(-MINE_REMEMBERED));
    const record = this.#records.get(upload.key);
    const twin = this.#records.get(job.id);
    if (!record) {
      Object.assign(this.put(job, true), { mine: true });
      return;
    }
    this.#records.delete(upload.key);
    if (twin) {
      // The feed was quicker than the answer, or the same photo had been sent before: one card, the newer place.
      Object.assign(record, { job: twin.job, whole: twin.whole, lastEvent: twin.lastEvent });
      this.#leave(twin);
    }
    this.#records.set(job.id, record);
    if (twin && !ended(job)) this.put({ ...job, ...twin.job }, twin.whole); // events told more than the answer
    else this.put(job, true);
    if (ended(record.job)) this.#tellEnd(record);
  }

  /** The upload was dropped before its turn came. */
  forget(upload) {
    const record = this.#records.get(upload.key);
    if (record) this.#remove(record);
  }

  async cancel(record) {
    if (!record.job) {
      this.actions.abort(record.upload);
      this.#remove(record);
      say("Cancelled.");
      return;
    }
    try {
      const job = await api.cancel(record.job.id);
      if (job?.id) this.put(job, true);
      say("Cancelled.");
    } catch (problem) {
      if (problem.status === 404) this.#remove(record);
      else if (problem.status === 409) await this.#recheck(record);
      else say(problem.message);
    }
  }

  async erase(record) {
    if (record.job) {
      try {
        await api.erase(record.job.id);
      } catch (problem) {
        if (problem.status !== 404) {
          record.card.detail.textContent = `Not deleted: ${problem.message}`;
          say(`Not deleted: ${problem.message}`);
          return;
        }
      }
    }
    this.#remove(record);
    say("Deleted.");
  }

  /** All that the server knows of a job. */
  async whole(record) {
    if (!record.whole) this.put(await api.job(record.job.id), true);
    return record.job;
  }

  /** Show once a second how long a held upload still waits. */
  tick() {
    for (const record of this.#records.values()) if (record.upload?.state === "held") this.#touch(record);
  }

  // ---- the cards -------------------------------------------------------------------------------------------------

  #enter(key, given) {
    /** @type {Record} */
    const record = { key, job: null, upload: null, mine: false, whole: false, localUrl: null, name: null, lastEvent: 0, ...given };
    record.card = new Card(record, this.actions);
    this.#byElement.set(record.card.element, record);
    const older = [...this.#list.children].find((element) => this.#byElement.get(element).order <= record.order);
    this.#list.insertBefore(record.card.element, older ?? null);
    this.#records.set(key, record);
    record.card.render();
    this.#trim();
    this.#outline();
    return record;
  }

  /** Own clock or the server's, whichever is ahead: what was just added stands first. */
  #newest() {
    const first = this.#byElement.get(this.#list.firstElementChild)?.order ?? "";
    const now = new Date().toISOString();
    return now > first ? now : first;
  }

  #trim() {
    if (this.#records.size <= this.#room) return;
    const ownWork = (record) => record.mine && !ended(record.job);
    const last = [...this.#list.children].reverse().map((element) => this.#byElement.get(element)).find((record) => !ownWork(record));
    if (!last) return;
    this.#leave(last);
    this.#records.delete(last.job?.id ?? last.key);
    this.#cursor = undefined;
  }

  #remove(record) {
    const had = record.card.element.contains(document.activeElement);
    const next = record.card.element.nextElementSibling ?? record.card.element.previousElementSibling;
    this.#records.delete(record.job?.id ?? record.key);
    this.#records.delete(record.key);
    this.#leave(record);
    if (had) (next?.querySelector(".frame:enabled, .tools button") ?? byId("drop")).focus();
    this.#outline();
  }

  #leave(record) {
    this.#watch.unobserve(record.card.element);
    this.#changed.delete(record);
    record.card.element.remove();
    if (record.localUrl) URL.revokeObjectURL(record.localUrl);
    record.localUrl = null;
  }

  /** Many events in a burst change the page once. A timer, because a hidden tab has no animation frames. */
  #touch(record) {
    this.#changed.add(record);
    this.#flush ??= setTimeout(() => {
      this.#flush = null;
      for (const changed of this.#changed) {
        changed.card.render();
        this.actions.changed(changed);
      }
      this.#changed.clear();
    }, FLUSH_MS);
  }

  #outline() {
    const mineOnly = byId("mine-only").checked;
    const shown = [...this.#records.values()].filter((record) => !mineOnly || record.mine).length;
    byId("empty").hidden = shown > 0 || !this.#loaded;
    const older = this.#loaded && this.#cursor !== null && this.#records.size > 0;
    byId("more").hidden = !older || this.#room >= CARDS_MOST;
    byId("more-end").hidden = !older || this.#room < CARDS_MOST;
  }

  #tellEnd(record) {
    if (!record.mine) return;
    record.card.render();
    say(`${record.name ?? "A photo"}: ${record.card.title.textContent}.`);
  }

  /** Fetch the rest of a job whose card is in sight. */
  #want(record) {
    this.#watch.unobserve(record.card.element);
    if (record.whole || this.#wanted.includes(record)) return;
    this.#wanted.push(record);
    this.#fetchWanted();
  }

  #fetchWanted() {
    while (this.#fetching < FETCHES_AT_ONCE && this.#wanted.length) {
      const record = this.#wanted.shift();
      if (record.whole || !record.card.element.isConnected) continue;
      this.#fetching += 1;
      this.#recheck(record).finally(() => {
        this.#fetching -= 1;
        this.#fetchWanted();
      });
    }
  }

  async #recheck(record) {
    try {
      this.put(await api.job(record.job.id), true);
    } catch (problem) {
      if (problem.status === 404) this.#remove(record);
    }
  }
}
