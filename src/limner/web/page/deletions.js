/**
 * Deleting with a few seconds to undo it. The server deletes for good, so it is asked only after that time, or when the
 * page is left; until then the pictures are hidden here alone.
 */

import * as api from "./api.js";
import { byId, plural, say } from "./dom.js";
import { forEachFew } from "./few_at_once.js";

const UNDO_MS = 8000;
const AT_ONCE = 4;
const KEPT_ALIVE = 40; // requests that a browser surely sends after the page is left
const PATIENCE_MS = 10_000; // for the answers before the log-out; what was sent is deleted without them, too

export class Deletions {
  /** @type {Set<import("./board.js").Record>} */
  #pending = new Set();
  /** @type {import("./board.js").Record[]} those whose time is over, but whose request is not sent yet */
  #queue = [];
  /** @type {Set<Promise<number>>} of requests, which tell how many failed */
  #sending = new Set();
  #timer = null;
  #toast = byId("toast");

  /** @param {import("./board.js").Board} board */
  constructor(board) {
    this.board = board;
    this.#toast.style.setProperty("--undo-time", `${UNDO_MS}ms`);
    byId("toast-undo").addEventListener("click", () => this.undo());
    byId("toast-now").addEventListener("click", () => this.#send());
    // Who reads or has reached the button has the time that it takes.
    for (const event of ["mouseenter", "focusin"]) this.#toast.addEventListener(event, () => this.#pause());
    for (const event of ["mouseleave", "focusout"]) this.#toast.addEventListener(event, () => this.#start());
    addEventListener("pagehide", () => this.#send(Infinity)); // no second request would follow an answer
    addEventListener("beforeunload", (event) => this.#pending.size + this.#queue.length > KEPT_ALIVE && event.preventDefault());
  }

  /** Whether there is something that `undo` brings back. */
  get any() { return this.#pending.size > 0; }

  /** Hide pictures, and delete them soon. @param {import("./board.js").Record[]} records each with a job */
  ask(records) {
    for (const record of records) this.#pending.add(record);
    this.board.hide(records);
    const what = records.length === 1 && this.#pending.size === 1 ? records[0].name ?? "1 picture" : plural(this.#pending.size, "picture");
    byId("toast-words").textContent = `${what} will be deleted.`;
    this.#toast.hidden = false;
    this.#pause();
    this.#start();
    say(`${what} will be deleted in ${UNDO_MS / 1000} seconds. Press Control and Z to undo it.`);
  }

  undo() {
    const wanted = [...this.#pending];
    this.#close();
    const back = this.board.bringBack(wanted); // others may have been erased by another client
    say(`${plural(back.length, "picture")} kept.`);
  }

  /** Delete now what waits. @returns {Promise<number>} how many could not be deleted, as far as the server has answered */
  async finish() {
    this.#send(Infinity);
    const late = new Promise((resolve) => { setTimeout(resolve, PATIENCE_MS, []); });
    const failed = await Promise.race([Promise.all(this.#sending), late]);
    return failed.reduce((sum, count) => sum + count, 0);
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#toast.classList.remove("running");
  }

  #start() {
    if (this.#toast.matches(":hover, :focus-within") || !this.any) return;
    clearTimeout(this.#timer);
    this.#toast.classList.add("running");
    this.#timer = setTimeout(() => this.#send(), UNDO_MS);
  }

  #close() {
    this.#pause();
    const had = this.#toast.contains(document.activeElement);
    this.#pending.clear();
    this.#toast.hidden = true;
    if (had) byId("gallery").focus();
  }

  /** Send what waits and what is queued, some at once. */
  #send(atOnce = AT_ONCE) {
    this.#queue.push(...this.#pending);
    if (this.any) this.#close();
    const sending = this.#work(atOnce);
    this.#sending.add(sending);
    sending.finally(() => this.#sending.delete(sending));
  }

  /** @returns {Promise<number>} how many failed */
  async #work(atOnce) {
    let [deleted, failed] = [0, 0];
    await forEachFew(this.#queue, atOnce, async (record) => {
      if (await this.#erase(record)) deleted += 1;
      else failed += 1;
    });
    if (deleted) say(`${plural(deleted, "picture")} deleted.`);
    if (failed) say(`${plural(failed, "picture")} could not be deleted.`);
    return failed;
  }

  /** @returns {Promise<boolean>} whether it is deleted */
  async #erase(record) {
    try {
      await api.erase(record.job.id);
    } catch (problem) {
      if (problem.status !== 404) {
        this.board.bringBack([record], `It was not deleted. ${problem.message}`);
        return false;
      }
    }
    this.board.drop(record);
    return true;
  }
}
