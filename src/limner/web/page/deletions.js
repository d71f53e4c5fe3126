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

export class Deletions {
  /** @type {Set<import("./board.js").Record>} */
  #pending = new Set();
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
    addEventListener("pagehide", () => this.#send({ leaving: true }));
    addEventListener("beforeunload", (event) => this.#pending.size > KEPT_ALIVE && event.preventDefault());
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
    const back = [...this.#pending];
    this.#close();
    this.board.bringBack(back);
    say(`${plural(back.length, "picture")} kept.`);
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

  async #send({ leaving = false } = {}) {
    const wanted = [...this.#pending];
    if (wanted.length === 0) return;
    this.#close();
    let failed = 0;
    const one = async (record) => {
      try {
        await api.erase(record.job.id);
      } catch (problem) {
        if (problem.status !== 404) {
          failed += 1;
          this.board.bringBack([record], `It was not deleted. ${problem.message}`);
          return;
        }
      }
      this.board.drop(record);
    };
    // When the page is left, no second request follows an answer: all are sent now.
    await forEachFew(wanted, leaving ? wanted.length : AT_ONCE, one);
    if (failed < wanted.length) say(`${plural(wanted.length - failed, "picture")} deleted.`);
    if (failed) say(`${plural(failed, "picture")} could not be deleted.`);
  }
}
