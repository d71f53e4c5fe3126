/** The list of pictures: which jobs and uploads are in it, their order, and how live events change them. */

import * as api from "./api.js";
import { ended } from "./card.js";
import { byId, plural, say } from "./dom.js";
import { EVERYTHING, isActive, matches } from "./filters.js";
import { History } from "./history.js";
import { askPlaces } from "./places.js";
import { Record } from "./record.js";
import { VirtualList } from "./virtual_list.js";

const FIRST_PAGE = 30;
const PAGE = 100;
const MINE_PAGE = 30;
const RECORDS_MAX = 20_000; // the oldest go, and are loaded again when they are scrolled to
const CATCH_UP_PAGES = 5; // more new jobs than that: the list begins anew
const FETCHES_AT_ONCE = 3;
const UNSEEN = new Set(["samples"]); // operations whose jobs have no card
const FLUSH_MS = 40;

export class Board {
  /** @type {Map<string, Record>} by job id, or by the upload's key until there is one */
  #records = new Map();
  /** @type {Record[]} all of them, newest first */
  #order = [];
  /** @type {import("./filters.js").Filter} */
  #filter = EVERYTHING;
  #list = new VirtualList(byId("cards"), { left: (record) => record.dropCard(), nearEnd: () => this.#nearEnd() });
  #cursor = undefined; // of the next older page; undefined: from the newest; null: there is none
  #loaded = false;
  #loading = false;
  #stuck = false; // older ones could not be loaded: the button tries again
  #history = new History();
  #changed = new Set();
  #flush = null;
  #wanted = [];
  #fetching = 0;

  /** @param {object} actions for the cards: open, json, retry, again, erase, abort, changed, picked, left */
  constructor(actions) {
    this.actions = { ...actions, cancel: (record) => this.cancel(record), pictureLost: (record) => this.#lost(record),
      dismiss: (record) => this.drop(record) };
    byId("more").addEventListener("click", () => this.loadOlder());
    askPlaces(() => this.#order, (record) => this.#touch(record));
    byId("forget-mine").addEventListener("click", () => {
      this.#history.forgetAll();
      for (const record of this.#order) {
        record.mine = Boolean(record.upload) && !record.job;
        record.render();
      }
      this.#layOut();
      byId("mine-only").focus();
      say("This browser has forgotten which pictures are yours.");
    });
  }

  get(id) { return this.#records.get(id); }

  /** What the list shows, newest first. @returns {Record[]} */
  get shown() { return this.#list.shown; }

  /** The one whose card has the focus. @returns {?Record} */
  get focused() { return this.#list.focused; }

  get columns() { return this.#list.columns; }

  /** The job beside another one in the list, older for 1 and newer for -1; loads older ones. @returns {Promise<?Record>} */
  async beside(record, step) {
    let place = this.#list.placeOf(record) + step;
    while (place >= this.shown.length && (this.#loading || await this.loadOlder()) && this.#list.placeOf(record) >= 0) {
      if (this.#loading) await new Promise((resolve) => { setTimeout(resolve, FLUSH_MS); });
      place = this.#list.placeOf(record) + step;
    }
    const found = this.#list.placeOf(record) < 0 ? null : this.shown[place] ?? null;
    return found && !found.job ? this.beside(found, step) : found;
  }

  /** Bring the card into the window and focus its picture. */
  focus(record) {
    const place = this.#list.placeOf(record);
    if (place < 0) return;
    this.#list.reveal(place);
    const { frame, tools } = record.card;
    (frame.disabled ? tools.querySelector("button") : frame)?.focus({ preventScroll: true });
  }

  // ---- from the server -------------------------------------------------------------------------------------------

  #page(cursor, limit) {
    const { q, operation, status, since, until } = this.#filter;
    return api.jobs({ limit, cursor, q, operation, status, since, until });
  }

  /** Load what is new: add new jobs, update known ones, remove those that were erased elsewhere. */
  async refresh() {
    if (this.#filter !== EVERYTHING && !this.#loaded) {
      await this.filter(this.#filter); // which has failed
      return;
    }
    if (this.#filter.mine) {
      if (this.shown.length === 0) await this.loadOlder();
      this.#layOut();
      return;
    }
    const filter = this.#filter;
    const known = this.#order.filter((record) => record.listed);
    const jobs = [];
    let cursor = null;
    for (let pages = 0; pages < CATCH_UP_PAGES; pages += 1) {
      const page = await this.#page(cursor, pages ? PAGE : FIRST_PAGE);
      if (filter !== this.#filter) return;
      jobs.push(...page.jobs);
      cursor = page.next_cursor;
      if (!cursor || known.length === 0 || page.jobs.some(({ id }) => this.#records.get(id)?.listed)) break;
    }
    const listed = new Set(jobs.map(({ id }) => id));
    const meets = jobs.some(({ id }) => this.#records.get(id)?.listed);
    const oldest = cursor ? jobs.at(-1)?.created_at ?? "" : "";
    for (const record of this.#order.filter((each) => each.job && !listed.has(each.id))) {
      const here = matches(filter, record) && (record.whole || record.listed);
      if (here && (record.job.created_at > oldest || (!meets && record.listed))) this.#remove(record);
    }
    if (!meets || !cursor) this.#cursor = cursor;
    this.#loaded = true;
    this.#add(jobs, filter);
  }

  /** Show what a filter finds. */
  async filter(filter) {
    this.#filter = filter;
    this.#cursor = undefined;
    this.#stuck = this.#loaded = false;
    byId("forget-mine").hidden = !filter.mine;
    byId("cards").setAttribute("aria-busy", "true");
    try {
      const page = filter.mine ? { jobs: [], next_cursor: undefined } : await this.#page(null, FIRST_PAGE);
      if (filter !== this.#filter) return;
      const listed = new Set(page.jobs.map(({ id }) => id));
      // Nothing older stays: there would be gaps between it and what is loaded.
      for (const record of [...this.#order]) if (record.listed && !record.upload && !listed.has(record.id)) this.#remove(record);
      this.#cursor = page.next_cursor;
      this.#loaded = true;
      this.#add(page.jobs, filter);
      if (filter.mine) await this.loadOlder();
      if (filter !== this.#filter) return;
      scrollBy({ top: Math.min(0, byId("gallery").getBoundingClientRect().top), behavior: "instant" });
      const more = this.#more() ? " or more" : "";
      if (isActive(filter)) say(this.shown.length ? `${plural(this.shown.length, "picture")}${more} found.` : "No picture found.");
    } finally {
      if (filter === this.#filter) byId("cards").removeAttribute("aria-busy");
    }
  }

  #add(jobs, filter) {
    for (const job of jobs) {
      if (UNSEEN.has(job.operation)) continue;
      const record = this.put(job, "result" in job);
      record.listed = true;
      record.found = filter;
    }
    this.#layOut();
  }

  #nearEnd() {
    if (this.#loaded && !this.#loading && !this.#stuck && this.#more()) this.loadOlder();
  }

  /** @returns {Promise<boolean>} whether there are more now */
  async loadOlder() {
    if (this.#loading || !this.#more()) return false;
    const filter = this.#filter;
    const before = this.shown.length;
    const pressed = document.activeElement === byId("more");
    this.#loading = true;
    this.#stuck = false;
    this.#outline();
    try {
      const jobs = filter.mine ? await this.#olderOfMine() : await this.#older();
      if (filter !== this.#filter) return false;
      this.#add(jobs, filter);
      if (pressed && this.shown[before]) this.focus(this.shown[before]);
      return this.shown.length > before;
    } catch (problem) {
      this.#stuck = true;
      say(problem.message);
      return false;
    } finally {
      this.#loading = false;
      this.#outline();
      if (!this.#stuck) setTimeout(() => this.#list.render()); // it may be near the end still
    }
  }

  async #older() {
    const filter = this.#filter;
    let fresh = [];
    do {
      const page = await this.#page(this.#cursor, PAGE);
      if (filter !== this.#filter) return [];
      this.#cursor = page.next_cursor;
      fresh = page.jobs.filter((job) => !this.#records.get(job.id)?.listed && !UNSEEN.has(job.operation));
    } while (fresh.length === 0 && this.#cursor);
    return fresh;
  }

  /** Of the jobs sent from this browser that are not in the list: the newest that still exist. */
  async #olderOfMine() {
    const found = [];
    for (const id of this.#history.next(MINE_PAGE, (each) => this.#records.has(each))) {
      try {
        found.push(await api.job(id));
      } catch (problem) {
        if (problem.status !== 404) throw problem;
        this.#history.forget(id);
      }
    }
    return found;
  }

  #more() {
    return this.#filter.mine ? this.#history.next(1, (id) => this.#records.has(id)).length > 0 : this.#cursor !== null;
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
    if (record.upload && !record.whole && ended(record.job)) this.#want(record); // a list and an event tell less of it
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
      Object.assign(record, { job: twin.job, whole: twin.whole, lastEvent: twin.lastEvent, listed: twin.listed });
      this.#leave(twin);
    }
    this.#records.set(job.id, record);
    if (twin && !ended(job)) this.put({ ...job, ...twin.job }, twin.whole); // the events are newer than the answer
    else this.put(job, true);
    if (ended(record.job)) this.#announceEnd(record);
  }

  /** A job that this page has made of one that there is. */
  made(job) {
    this.#history.add(job.id);
    this.put(job, true).mine = true;
    this.#layOut();
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

  /** Leave these out, until they are brought back or dropped. */
  hide(records) {
    const heir = this.#heir(new Set(records));
    for (const record of records) record.doomed = true;
    this.#layOut();
    this.#inherit(heir);
  }

  /** @param {string} trouble what the cards tell about it */
  bringBack(records, trouble = "") {
    for (const record of records) {
      Object.assign(record, { doomed: false, trouble });
      record.render();
    }
    this.#layOut();
    if (records[0] && !trouble) this.focus(records[0]);
  }

  /** It is deleted. */
  drop(record) { if (this.#records.has(record.id)) this.#remove(record); }

  /** Tell on the card what could not be done. */
  trouble(record, words) {
    record.trouble = words;
    record.render();
  }

  /** The complete job. */
  async whole(record) {
    if (!record.whole) this.put(await api.job(record.job.id), true);
    return record.job;
  }

  /** Called once a second: update the countdown of uploads that wait for the next try. */
  tick() {
    for (const record of this.#order) if (record.upload?.state === "held") this.#touch(record);
  }

  // ---- the order ---------------------------------------------------------------------------------------------------

  #enter(key, given) {
    const record = new Record({ key, ...given }, this.actions);
    let [low, high] = [0, this.#order.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#order[middle].order > record.order) low = middle + 1;
      else high = middle;
    }
    this.#order.splice(low, 0, record);
    this.#records.set(key, record);
    this.#touch(record);
    return record;
  }

  /** A sort key for a card that must be first, even if the server's clock is ahead of this computer's. */
  #newest() {
    const first = this.#order[0]?.order ?? "";
    const now = new Date().toISOString();
    return now > first ? now : first;
  }

  #trim() {
    if (this.#order.length <= RECORDS_MAX || scrollY > innerHeight) return; // further down, somebody may look at them
    const over = this.#order.slice(RECORDS_MAX).filter((record) => record.job && !record.upload && !record.selected && !record.doomed);
    for (const record of over) this.#leave(record);
    if (over.length) this.#cursor = this.#order.findLast((record) => record.listed)?.id; // a cursor is the last job's id
  }

  /** The record that gets the focus when others are taken away that have it now. */
  #heir(going) {
    const holder = this.focused;
    if (!holder || !going.has(holder)) return undefined;
    const place = this.#list.placeOf(holder);
    return this.shown.slice(place).find((record) => !going.has(record))
      ?? this.shown.slice(0, place).findLast((record) => !going.has(record)) ?? null;
  }

  #inherit(heir) {
    if (heir) this.focus(heir);
    else if (heir === null) byId("drop").focus();
  }

  #remove(record) {
    const heir = this.#heir(new Set([record]));
    this.#leave(record);
    if (heir === undefined) this.#later();
    else {
      this.#layOut();
      this.#inherit(heir);
    }
  }

  #leave(record) {
    this.#records.delete(record.id);
    this.#records.delete(record.key);
    const at = this.#order.indexOf(record);
    if (at >= 0) this.#order.splice(at, 1);
    this.#changed.delete(record);
    this.actions.left(record);
    if (record.localUrl) URL.revokeObjectURL(record.localUrl);
    record.localUrl = null;
  }

  /** Render later, so that many events render a card once. */
  #touch(record) {
    this.#changed.add(record);
    this.#later();
  }

  /** A timer, because a hidden tab has no animation frames. */
  #later() {
    this.#flush ??= setTimeout(() => {
      this.#flush = null;
      const changed = [...this.#changed];
      this.#changed.clear();
      this.#layOut();
      for (const record of changed) {
        record.render();
        this.actions.changed(record);
      }
    }, FLUSH_MS);
  }

  /** Show what belongs to the list now. */
  #layOut() {
    this.#trim();
    const shown = this.#order.filter((record) => !record.doomed && matches(this.#filter, record));
    this.#list.set(shown, this.#more() ? -1 : shown.length);
    this.#outline();
  }

  #outline() {
    const none = this.shown.length === 0 && this.#loaded && !this.#loading;
    const searched = isActive(this.#filter) && !(this.#filter.mine && !isActive({ ...this.#filter, mine: false }));
    byId("empty").hidden = !none || searched;
    byId("none-found").hidden = !none || !searched;
    byId("more").hidden = !this.#stuck;
    byId("loading-older").hidden = !this.#loading;
  }

  #announceEnd(record) {
    if (!record.mine) return;
    record.render();
    say(`${record.name ?? "A photo"}: ${record.card.title.textContent}.`);
  }

  // ---- complete jobs ----------------------------------------------------------------------------------------------

  #want(record) {
    if (record.whole || this.#wanted.includes(record)) return;
    this.#wanted.push(record);
    this.#fetchWanted();
  }

  #fetchWanted() {
    while (this.#fetching < FETCHES_AT_ONCE && this.#wanted.length) {
      const record = this.#wanted.shift();
      if (record.whole || !this.#records.has(record.id)) continue;
      this.#fetching += 1;
      this.#recheck(record).finally(() => {
        this.#fetching -= 1;
        this.#fetchWanted();
      });
    }
  }

  /** Its picture did not load: it may have been erased. */
  #lost(record) {
    record.whole = false;
    this.#want(record);
  }

  async #recheck(record) {
    try {
      this.put(await api.job(record.job.id), true);
    } catch (problem) {
      if (problem.status === 404) this.#remove(record);
    }
  }
}
