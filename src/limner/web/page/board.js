/** The list of pictures: which jobs and uploads are in it, their order, and how live events change them. */

import * as api from "./api.js";
import { ended } from "./card.js";
import { byId, plural, say } from "./dom.js";
import { fewAtOnce } from "./few_at_once.js";
import { EVERYTHING, isActive, matches } from "./filters.js";
import { isSeen, Pages } from "./pages.js";
import { askPlaces } from "./places.js";
import { Record } from "./record.js";
import { VirtualList } from "./virtual_list.js";

const RECORDS_MAX = 20_000; // the oldest go, and are loaded again when they are scrolled to
const FLUSH_MS = 40;

export class Board {
  /** @type {Map<string, Record>} by job id, or by the upload's key until there is one */
  #records = new Map();
  /** @type {Record[]} all of them, newest first */
  #order = [];
  #pages = new Pages((id) => this.#records.get(id));
  #list = new VirtualList(byId("cards"), { left: (record) => record.dropCard(), nearEnd: () => this.#nearEnd() });
  #loaded = false;
  #loading = false;
  #stuck = false; // older ones could not be loaded: the button tries again
  #changed = new Set();
  #flush = null;
  /** Fetches the complete job. */
  #want = fewAtOnce(async (record) => { if (!record.whole && this.get(record.id) === record) await this.#recheck(record); });

  /** @param {object} actions for the cards: open, json, retry, again, erase, abort, changed, picked, left */
  constructor(actions) {
    this.actions = { ...actions, cancel: (record) => this.cancel(record), pictureLost: (record) => this.#lost(record),
      dismiss: (record) => this.drop(record) };
    byId("more").addEventListener("click", () => this.loadOlder());
    askPlaces(() => this.#order, (record) => this.#touch(record));
    byId("forget-mine").addEventListener("click", () => {
      this.#pages.history.forgetAll();
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

  /** Load what is new: add new jobs, update known ones, remove those that were erased elsewhere. */
  async refresh() {
    if (this.#pages.filter !== EVERYTHING && !this.#loaded) {
      await this.filter(this.#pages.filter); // which has failed
      return;
    }
    if (this.#pages.filter.mine) {
      if (this.shown.length === 0) await this.loadOlder();
      this.#layOut();
      return;
    }
    const { filter } = this.#pages;
    const known = this.#order.filter((each) => each.job); // what is sent meanwhile may be too new for the answer
    const { jobs, cursor, meets } = await this.#pages.newest(this.#order.some((record) => record.listed));
    if (filter !== this.#pages.filter) return;
    const listed = new Set(jobs.map(({ id }) => id));
    const oldest = cursor ? jobs.at(-1)?.created_at ?? "" : "";
    for (const record of known.filter((each) => !listed.has(each.id) && this.get(each.id) === each)) {
      const here = matches(filter, record) && (record.whole || record.listed);
      if (here && (record.job.created_at > oldest || (!meets && record.listed && !record.doomed))) this.#remove(record);
    }
    if (!meets || !cursor) this.#pages.cursor = cursor;
    this.#loaded = true;
    this.#add(jobs, filter);
  }

  /** Show what a filter finds. */
  async filter(filter) {
    this.#pages.filter = filter;
    this.#pages.cursor = undefined;
    this.#stuck = this.#loaded = false;
    byId("forget-mine").hidden = !filter.mine;
    byId("cards").setAttribute("aria-busy", "true");
    try {
      const page = await this.#pages.first();
      if (filter !== this.#pages.filter) return;
      const listed = new Set(page.jobs.map(({ id }) => id));
      // Nothing older stays: there would be gaps between it and what is loaded. What may be brought back is hidden.
      for (const record of [...this.#order]) {
        if (record.listed && !record.upload && !record.doomed && !listed.has(record.id)) this.#remove(record);
      }
      this.#pages.cursor = page.cursor;
      this.#loaded = true;
      this.#add(page.jobs, filter);
      if (filter.mine) await this.loadOlder();
      if (filter !== this.#pages.filter) return;
      scrollBy({ top: Math.min(0, byId("gallery").getBoundingClientRect().top), behavior: "instant" });
      const more = this.#pages.more ? " or more" : "";
      if (isActive(filter)) say(this.shown.length ? `${plural(this.shown.length, "picture")}${more} found.` : "No picture found.");
    } finally {
      if (filter === this.#pages.filter) byId("cards").removeAttribute("aria-busy");
    }
  }

  #add(jobs, filter) {
    for (const job of jobs) {
      if (!isSeen(job.operation)) continue;
      const record = this.put(job, "result" in job);
      record.listed = true;
      record.found = filter;
    }
    this.#layOut();
  }

  #nearEnd() {
    if (this.#loaded && !this.#loading && !this.#stuck && this.#pages.more) this.loadOlder();
  }

  /** @returns {Promise<boolean>} whether there are more now */
  async loadOlder() {
    if (this.#loading || !this.#pages.more) return false;
    const filter = this.#pages.filter;
    const before = this.shown.length;
    const pressed = document.activeElement === byId("more");
    this.#loading = true;
    this.#stuck = false;
    this.#outline();
    try {
      const jobs = filter.mine ? await this.#pages.olderOfMine() : await this.#pages.older();
      if (filter !== this.#pages.filter) return false;
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

  /** Apply an event of the live feed. */
  apply(event) {
    const { id, operation } = event.job;
    if (!isSeen(operation)) return;
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
      record = this.#enter(job.id, { job, whole, order: job.created_at ?? "", mine: this.#pages.history.has(job.id) });
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

  /** The server has accepted the upload as a job. */
  async sent(upload, job) {
    if (upload.unwanted && ended(job)) await this.#withdraw(upload, job);
    else if (upload.unwanted) await this.cancel(this.#accept(upload, job));
    else this.#accept(upload, job);
  }

  /** The job may have a card already. @returns {Record} */
  #accept(upload, job) {
    this.#pages.history.add(job.id);
    const record = this.#records.get(upload.key);
    const twin = this.#records.get(job.id);
    if (!record) return Object.assign(this.put(job, true), { mine: true });
    this.#records.delete(upload.key);
    if (twin) {
      // The event came before the answer, or the same photo was sent before: keep one card, at the newer position.
      Object.assign(record, { job: twin.job, whole: twin.whole, lastEvent: twin.lastEvent, listed: twin.listed, doomed: twin.doomed });
      this.#leave(twin);
    }
    this.#records.set(job.id, record);
    if (twin && !ended(job)) this.put({ ...job, ...twin.job }, twin.whole); // the events are newer than the answer
    else this.put(job, true);
    if (ended(record.job)) this.#announceEnd(record);
    return record;
  }

  /** A job that this page has made of one that there is. @returns {Record} */
  made(job) {
    this.#pages.history.add(job.id);
    const record = Object.assign(this.put(job, true), { mine: true });
    this.#layOut();
    return record;
  }

  /** Remove the card of an upload that was cancelled. */
  forget(upload) {
    const record = this.#records.get(upload.key);
    if (record) this.#remove(record);
  }

  async cancel(record) {
    if (!record.job) {
      this.actions.abort(record.upload); // what has become of it is told by an event
      return;
    }
    try {
      const job = await api.cancel(record.job.id);
      if (job?.id) this.put(job, true);
      say("Cancelled.");
    } catch (problem) {
      if (problem.status === 404) this.drop(record);
      else if (problem.status !== 409) say(problem.message);
      else if (record.upload?.unwanted) await this.#withdraw(record.upload, record.job);
      else await this.#recheck(record);
    }
  }

  /** Erase a job that has finished, although its upload was cancelled. */
  async #withdraw(upload, job) {
    try {
      await api.erase(job.id);
    } catch (problem) {
      if (problem.status !== 404) {
        const record = this.#records.has(upload.key) ? this.#accept(upload, job) : this.put(job, false);
        await this.#recheck(record);
        this.trouble(record, `It had finished before it could be cancelled, and was not deleted. ${problem.message}`);
        say(record.trouble);
        return;
      }
    }
    this.forget(upload);
    this.drop(job);
    say("Cancelled.");
  }

  /** Leave these out, until they are brought back or dropped. */
  hide(records) {
    const heir = this.#list.heir(new Set(records));
    for (const record of records) record.doomed = true;
    this.#layOut();
    this.#inherit(heir);
  }

  /** @param {string} trouble what the cards tell about it @returns {Record[]} those that still exist */
  bringBack(records, trouble = "") {
    const back = records.map(({ id }) => this.get(id)).filter(Boolean);
    for (const record of back) {
      Object.assign(record, { doomed: false, trouble });
      record.render();
    }
    this.#layOut();
    if (back[0] && !trouble) this.focus(back[0]);
    return back;
  }

  /** It is deleted. The list may have another record of the same job by now. */
  drop({ id }) {
    const record = this.get(id);
    if (record) this.#remove(record);
  }

  /** Tell on the card what could not be done. */
  trouble(record, words) {
    record.trouble = words;
    record.render();
  }

  /** The complete job. */
  async whole(record) {
    while (!record.whole) {
      const job = await api.job(record.job.id);
      if (this.get(job.id) === record) this.put(job, true); // it is not whole if it has ended after that answer
      else Object.assign(record, { job, whole: true }); // it has left the list
    }
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
    // A cursor is the last job's id. What is kept further down does not count: there is a gap before it.
    if (over.length) this.#pages.cursor = this.#order.slice(0, RECORDS_MAX).findLast((record) => record.listed)?.id;
  }

  #inherit(heir) {
    if (heir) this.focus(heir);
    else if (heir === null) byId("drop").focus();
  }

  #remove(record) {
    const heir = this.#list.heir(new Set([record]));
    this.#leave(record);
    if (heir === undefined) this.#later();
    else {
      this.#layOut();
      this.#inherit(heir);
    }
  }

  #leave(record) {
    for (const key of [record.id, record.key]) if (this.get(key) === record) this.#records.delete(key);
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
    const shown = this.#order.filter((record) => !record.doomed && matches(this.#pages.filter, record));
    this.#list.set(shown, this.#pages.more ? -1 : shown.length);
    this.#outline();
  }

  #outline() {
    const none = this.shown.length === 0 && this.#loaded && !this.#loading;
    const searched = isActive(this.#pages.filter) && !(this.#pages.filter.mine && !isActive({ ...this.#pages.filter, mine: false }));
    byId("empty").hidden = !none || searched;
    byId("none-found").hidden = !none || !searched;
    byId("more").hidden = !this.#stuck;
    byId("loading-older").hidden = !this.#loading;
  }

  #announceEnd(record) {
    if (!record.mine || record.upload?.unwanted) return;
    record.render();
    say(`${record.name ?? "A photo"}: ${record.card.title.textContent}.`, { many: true });
  }

  // ---- complete jobs ----------------------------------------------------------------------------------------------

  /** Its picture did not load: it may have been erased. */
  #lost(record) {
    record.whole = false;
    this.#want(record);
  }

  async #recheck(record) {
    try {
      this.put(await api.job(record.job.id), true);
    } catch (problem) {
      if (problem.status === 404) this.drop(record);
    }
  }
}
