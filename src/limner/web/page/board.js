/**
 * The list of pictures: which jobs and uploads have a card, their order, and how live events change them.
 *
 * @typedef {object} Record
 * @property {?import("./api.js").Job} job once the server has it
 * @property {?import("./uploads.js").Upload} upload if this page sent it
 * @property {boolean} mine
 * @property {boolean} whole whether `job` is complete; an event contains only a part of it, and a list no result
 * @property {boolean} listed whether a list had it
 * @property {?string} localUrl the photo itself, for an upload
 * @property {?string} name the file's name, for an upload
 * @property {number} lastEvent
 * @property {string} order sort key, an ISO 8601 time: the newest card is first
 * @property {Card} card
 */

import * as api from "./api.js";
import { Card, ended } from "./card.js";
import { byId, plural, say } from "./dom.js";
import { History } from "./history.js";

const PAGE = 30;
const CARDS_LIVE = 60; // a new card beyond this number removes the oldest one
const CARDS_MAX = 300; // also after "Show older"
const FETCHES_AT_ONCE = 3;
const UNSEEN = new Set(["samples"]); // operations whose jobs have no card
const FLUSH_MS = 40;
const PLACES_MS = 2000; // how often queued jobs are asked for their place
const PLACES_AT_ONCE = 5;

export class Board {
  /** @type {Map<string, Record>} by job id, or by the upload's key until there is one */
  #records = new Map();
  #byElement = new WeakMap();
  #list = byId("cards");
  #capacity = CARDS_LIVE;
  #cursor = undefined; // of the next older page; undefined: from the newest; null: there is none
  #history = new History();
  #changed = new Set();
  #flush = null;
  #wanted = [];
  #fetching = 0;
  #watch = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) this.#want(this.#byElement.get(target));
  }, { rootMargin: "200px" });
  #loaded = false;

  /** @param {object} actions for the cards: open, json, retry, again, abort, changed */
  constructor(actions) {
    this.actions = { ...actions, erase: (record) => this.erase(record), cancel: (record) => this.cancel(record),
      pictureLost: (record) => this.#recheck(record) };
    byId("more").addEventListener("click", () => this.loadOlder());
    setInterval(() => this.#askPlaces(), PLACES_MS);
    const mineOnly = byId("mine-only");
    mineOnly.addEventListener("change", () => {
      this.#list.classList.toggle("mine-only", mineOnly.checked);
      byId("forget-mine").hidden = !mineOnly.checked;
      this.#outline();
      if (mineOnly.checked) this.loadOlder();
    });
    byId("forget-mine").addEventListener("click", () => {
      this.#history.forgetAll();
      for (const record of this.#records.values()) {
        record.mine = Boolean(record.upload) && !record.job;
        this.#touch(record);
      }
      this.#outline();
      mineOnly.focus();
      say("This browser has forgotten which pictures are yours.");
    });
  }

  get(id) { return this.#records.get(id); }

  /** The record of the job next to this one in the list (1: older, -1: newer) that can be shown. @returns {Promise<?Record>} */
  async beside(record, step) {
    const way = step > 0 ? "nextElementSibling" : "previousElementSibling";
    let element = record.card.element[way];
    while (element && (!this.#byElement.get(element)?.job || element.getClientRects().length === 0)) element = element[way];
    return element ? this.#byElement.get(element) : null;
  }

  /** Focus the picture on the job's card. */
  focus(record) { record.card.frame.focus({ preventScroll: true }); }

  // ---- from the server -------------------------------------------------------------------------------------------

  /** Load the newest page: add new jobs, update known ones, remove those that were erased elsewhere. */
  async refresh() {
    const known = new Set(this.#records.keys());
    const page = await api.jobs({ limit: PAGE });
    this.#loaded = true;
    const listed = new Set(page.jobs.map((job) => job.id));
    const oldest = page.next_cursor ? page.jobs.at(-1)?.created_at ?? "" : "";
    for (const id of known) {
      const record = this.#records.get(id);
      if (record?.job && !listed.has(id) && (record.whole || record.listed) && record.job.created_at > oldest) this.#remove(record);
    }
    for (const job of page.jobs) if (!UNSEEN.has(job.operation)) this.put(job, false).listed = true;
    this.#cursor = page.next_cursor;
    this.#outline();
  }

  async loadOlder() {
    const button = byId("more");
    button.disabled = true;
    try {
      const fresh = byId("mine-only").checked ? await this.#olderOfMine() : await this.#older();
      if (fresh.length === 0) return;
      this.#capacity = Math.min(CARDS_MAX, Math.max(this.#capacity, this.#records.size + fresh.length));
      for (const job of fresh) this.put(job, "result" in job).listed = true;
      this.#records.get(fresh[0]?.id)?.card.frame.focus({ preventScroll: true });
      say(`${plural(fresh.length, "older picture")} added.`);
    } catch (problem) {
      say(problem.message);
    } finally {
      button.disabled = false;
      this.#outline();
    }
  }

  async #older() {
    let fresh = [];
    do {
      const page = await api.jobs({ cursor: this.#cursor, limit: PAGE });
      this.#cursor = page.next_cursor;
      fresh = page.jobs.filter((job) => !this.#records.has(job.id) && !UNSEEN.has(job.operation));
    } while (fresh.length === 0 && this.#cursor);
    return fresh;
  }

  /** Of the jobs sent from this browser that have no card: the newest that still exist. */
  async #olderOfMine() {
    const found = [];
    for (const id of this.#history.next(PAGE, (each) => this.#records.has(each))) {
      try {
        found.push(await api.job(id));
      } catch (problem) {
        if (problem.status !== 404) throw problem;
        this.#history.forget(id);
      }
    }
    return found;
  }

  /** Apply an event of the live feed. */
  apply(event) {
    const { id, operation } = event.job;
    if (UNSEEN.has(operation)) return;
    const record = this.#records.get(id);
    if (!event.job.status) { // the job was erased: its old events have no content
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

  /** Add or update a job from the server; `whole` if it is complete. @returns {Record} */
  put(job, whole) {
    let record = this.#records.get(job.id);
    if (!record) {
      record = this.#enter(job.id, { job, whole, order: job.created_at ?? "", mine: this.#history.has(job.id) });
    } else if (ended(job) || !ended(record.job)) { // an older state must not replace a final one
      const wasEnded = ended(record.job);
      record.job = { ...record.job, ...job };
      record.whole = whole || (record.whole && wasEnded); // the event of a job's end does not contain its result
      if (!wasEnded && ended(job)) this.#announceEnd(record);
    }
    this.#touch(record);
    if (!record.whole && ended(record.job)) this.#watch.observe(record.card.element);
    return record;
  }

  // ---- from this page ---------------------------------------------------------------------------------------------

  /** Add an upload, or show its new state. */
  upload(upload) {
    const record = this.#records.get(upload.key) ?? (upload.state === "sent" ? null : this.#enter(upload.key, {
      upload, mine: true, name: upload.name, order: this.#newest(),
      localUrl: upload.file ? URL.createObjectURL(upload.file) : null,
    }));
    if (record) this.#touch(record);
  }

  /** The server has accepted the upload as a job, which may have a card already. */
  sent(upload, job) {
    this.#history.add(job.id);
    const record = this.#records.get(upload.key);
    const twin = this.#records.get(job.id);
    if (!record) {
      Object.assign(this.put(job, true), { mine: true });
      return;
    }
    this.#records.delete(upload.key);
    if (twin) {
      // The event came before the answer, or the same photo was sent before: keep one card, at the newer position.
      Object.assign(record, { job: twin.job, whole: twin.whole, lastEvent: twin.lastEvent });
      this.#leave(twin);
    }
    this.#records.set(job.id, record);
    if (twin && !ended(job)) this.put({ ...job, ...twin.job }, twin.whole); // the events are newer than the answer
    else this.put(job, true);
    if (ended(record.job)) this.#announceEnd(record);
  }

  /** Remove the card of an upload that was cancelled before it was sent. */
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
          record.card.detail.textContent = `It was not deleted. ${problem.message}`;
          say(`It was not deleted. ${problem.message}`);
          return;
        }
      }
    }
    this.#remove(record);
    say("Deleted.");
  }

  /** The complete job. */
  async whole(record) {
    if (!record.whole) this.put(await api.job(record.job.id), true);
    return record.job;
  }

  /** Called once a second: update the countdown of uploads that wait for the next try. */
  tick() {
    for (const record of this.#records.values()) if (record.upload?.state === "held") this.#touch(record);
  }

  // ---- the cards -------------------------------------------------------------------------------------------------

  #enter(key, given) {
    /** @type {Record} */
    const record = { key, job: null, upload: null, mine: false, whole: false, listed: false, localUrl: null, name: null, lastEvent: 0, ...given };
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

  /** A sort key for a card that must be first, even if the server's clock is ahead of this computer's. */
  #newest() {
    const first = this.#byElement.get(this.#list.firstElementChild)?.order ?? "";
    const now = new Date().toISOString();
    return now > first ? now : first;
  }

  #trim() {
    if (this.#records.size <= this.#capacity) return;
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

  /** Render later, so that many events render a card once. A timer, because a hidden tab has no animation frames. */
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
    const more = mineOnly ? this.#history.next(1, (id) => this.#records.has(id)).length > 0 : this.#cursor !== null;
    const older = this.#loaded && more && (mineOnly || this.#records.size > 0);
    byId("more").hidden = !older || this.#capacity >= CARDS_MAX;
    byId("more-end").hidden = !older || this.#capacity < CARDS_MAX;
  }

  #announceEnd(record) {
    if (!record.mine) return;
    record.card.render();
    say(`${record.name ?? "A photo"}: ${record.card.title.textContent}.`);
  }

  /** Fetch the complete job of a card that is visible. */
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

  /** Ask for the place of a few queued jobs, those from here first. */
  #askPlaces() {
    if (document.hidden) return;
    const queued = [...this.#records.values()].filter((record) => record.job?.status === "queued");
    queued.sort((one, other) => Number(other.mine) - Number(one.mine) || (one.order < other.order ? -1 : 1));
    for (const record of queued.slice(0, PLACES_AT_ONCE)) this.#askPlace(record);
  }

  async #askPlace(record) {
    let queue = null;
    try {
      ({ queue } = await api.job(record.job.id));
    } catch {
      return; // the live events say what has become of it
    }
    if (record.job.status !== "queued") return; // it was started meanwhile
    record.job = { ...record.job, queue };
    this.#touch(record);
  }

  async #recheck(record) {
    try {
      this.put(await api.job(record.job.id), true);
    } catch (problem) {
      if (problem.status === 404) this.#remove(record);
    }
  }
}
