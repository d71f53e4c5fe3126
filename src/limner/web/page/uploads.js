/**
 * Photos on their way to the server: a few at once, the rest in line, tried again when the server asks for patience or
 * is out of reach.
 *
 * @typedef {"waiting"|"sending"|"held"|"refused"|"sent"} UploadState
 * @typedef {{key: string, token: string, file: ?Blob, name: string, form: {operation: string, fields: Array},
 *   state: UploadState, progress: number, problem: ?import("./api.js").Problem, retryAt: ?number, abort: ?Function,
 *   tries: number, unchecked: boolean, dropped: boolean}} Upload
 */

import { Problem, randomKey, submit } from "./api.js";

const AT_ONCE = 4;
const SIZE_LIMIT = 20_000_000; // the server's default; the server has the last word
const BROKEN_TRIES = 3;
const BUSY_TRIES = 40;
const LONGEST_WAIT_MS = 30_000;

export class Uploads extends EventTarget {
  /** @type {Upload[]} */
  #line = [];
  #sending = new Set();
  #holdUntil = 0;
  #timer = null;

  /** @param {() => boolean} reachable whether the server is known to answer */
  constructor(reachable) {
    super();
    this.reachable = reachable;
  }

  /** How many wait their turn. */
  get waiting() { return this.#line.length; }

  /** Whether closing the page now would lose a photo. */
  get busy() { return this.#line.length + this.#sending.size > 0; }

  /** @returns {Upload} */
  add(file, name, form) {
    /** @type {Upload} */
    const upload = { key: randomKey(), token: randomKey(), file, name, form, state: "waiting", progress: 0, problem: null, retryAt: null,
      abort: null, tries: 0, unchecked: false, dropped: false };
    this.#line.push(upload);
    return upload;
  }

  /** Send what is in line; call after `add`, and when the server is back. */
  go() {
    clearTimeout(this.#timer);
    const pause = this.#holdUntil - Date.now();
    if (pause > 0) this.#timer = setTimeout(() => this.go(), pause);
    else while (this.#sending.size < AT_ONCE && this.#line.length) this.#send(this.#line.shift());
    this.dispatchEvent(new Event("line"));
  }

  /** The server is back: no more waiting. */
  release() {
    this.#holdUntil = 0;
    for (const upload of this.#line) upload.tries = 0;
    this.go();
  }

  /** A refused one once more, with the form as it is now. */
  again(upload, form) {
    Object.assign(upload, { form, token: randomKey(), state: "waiting", problem: null, retryAt: null, tries: 0, unchecked: true });
    this.#line.push(upload);
    this.#changed(upload);
    this.go();
  }

  drop(upload) {
    this.#line = this.#line.filter((other) => other !== upload);
    upload.dropped = true;
    upload.abort?.();
    this.dispatchEvent(new Event("line"));
  }

  /** Drop all that wait; those on their way go on. @returns {Upload[]} the dropped */
  dropWaiting() {
    const dropped = this.#line;
    this.#line = [];
    this.dispatchEvent(new Event("line"));
    return dropped;
  }

  async #send(upload) {
    const fault = upload.unchecked ? null : this.#fault(upload.file);
    if (fault) {
      Object.assign(upload, { state: "refused", problem: fault });
      this.#changed(upload);
      return;
    }
    Object.assign(upload, { state: "sending", progress: 0, problem: null, retryAt: null });
    this.#sending.add(upload);
    this.#changed(upload);
    const { operation, fields } = upload.form;
    const photo = upload.file ? [["image", upload.file, upload.name]] : [];
    const request = submit(operation, { fields: [...photo, ...fields], token: upload.token }, (part) => {
      upload.progress = part;
      this.#changed(upload);
    });
    upload.abort = request.abort;
    try {
      const job = await request.done;
      upload.state = "sent";
      this.dispatchEvent(new CustomEvent("sent", { detail: { upload, job } }));
    } catch (problem) {
      this.#failed(upload, problem);
    } finally {
      upload.abort = null;
      this.#sending.delete(upload);
      this.go();
    }
  }

  #fault(file) {
    if (!file) return null;
    if (file.size === 0) return new Problem({ title: "Empty file", detail: "There is nothing in this file." });
    if (file.size > SIZE_LIMIT) {
      const size = (Math.ceil(file.size / 1e5) / 10).toFixed(1);
      return new Problem({ title: "Too large", detail: `It has ${size} MB; up to 20 MB are taken.`, retryable: true });
    }
    return null;
  }

  #failed(upload, problem) {
    upload.tries += 1;
    const outOfReach = problem.status === 0 && problem.retryable;
    // A connection that breaks while the server is there is about this file; with the server away it is about the server.
    const giveUp = outOfReach ? upload.tries >= BROKEN_TRIES && this.reachable() : upload.tries >= BUSY_TRIES;
    const patience = outOfReach || problem.status === 429 || problem.status === 503;
    if (!patience || giveUp || problem.title === "Cancelled") {
      Object.assign(upload, { state: "refused", problem });
    } else {
      const grown = 500 * 2 ** Math.min(upload.tries, 6);
      const asked = (problem.retryAfterS ?? 0) * 1000;
      const wait = Math.min(LONGEST_WAIT_MS, Math.max(asked, grown)) * (1 + Math.random() / 4);
      this.#holdUntil = Math.max(this.#holdUntil, Date.now() + wait);
      Object.assign(upload, { state: "held", problem, retryAt: this.#holdUntil });
      this.#line.unshift(upload);
    }
    this.#changed(upload);
  }

  #changed(upload) {
    if (!upload.dropped) this.dispatchEvent(new CustomEvent("change", { detail: upload }));
  }
}
