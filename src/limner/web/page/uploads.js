/**
 * Uploads: a few at once, the others wait in a queue. They are tried again when the server is busy or not reachable.
 *
 * @typedef {"waiting"|"sending"|"held"|"refused"|"sent"} UploadState
 * @typedef {{key: string, token: string, file: ?Blob, name: string,
 *   form: {operation: string, fields: Array, maxBytes: number},
 *   state: UploadState, progress: number, problem: ?import("./api.js").Problem, retryAt: ?number, abort: ?Function,
 *   tries: number, unchecked: boolean, dropped: boolean, unwanted: boolean, unsure: boolean}} Upload `progress`: 1 when the
 *   server has all of it; `unwanted`: cancelled after that; `unsure`: the server may have a job of it
 */

import { Problem, randomKey, submit } from "./api.js";
import { fileSize } from "./dom.js";

const AT_ONCE = 4;
const BROKEN_TRIES = 3;
const BUSY_TRIES = 40;
const LONGEST_WAIT_MS = 30_000;
const LONGEST_LABEL = 200;
const GATEWAY_LOST = [502, 504]; // a proxy does not know what the service has done

/** A file's name as the job's label, which has no control characters and a limited length. */
const labelOf = (name) => Array.from(name.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/gu, " ")).slice(0, LONGEST_LABEL).join("");

/**
 * Fires "change", "sent" with the job, "cancelled" when there will be none, and "queue" when other uploads wait than before.
 */
export class Uploads extends EventTarget {
  /** @type {Upload[]} */
  #queue = [];
  #sending = new Set();
  #holdUntil = 0;
  #timer = null;

  /** @param {() => boolean} reachable whether the server is known to answer */
  constructor(reachable) {
    super();
    this.reachable = reachable;
  }

  /** How many uploads wait to be sent. */
  get waiting() { return this.#queue.length; }

  /** Whether closing the page now would lose an upload. */
  get busy() { return this.#queue.length + this.#sending.size > 0; }

  /** @returns {Upload} */
  add(file, name, form) {
    /** @type {Upload} */
    const upload = { key: randomKey(), token: randomKey(), file, name, form, state: "waiting", progress: 0, problem: null, retryAt: null,
      abort: null, tries: 0, unchecked: false, dropped: false, unwanted: false, unsure: false };
    this.#queue.push(upload);
    return upload;
  }

  /** Send the queue; call after `add`, and when the server is reachable again. */
  go() {
    clearTimeout(this.#timer);
    const pause = this.#holdUntil - Date.now();
    if (pause > 0) this.#timer = setTimeout(() => this.go(), pause);
    else while (this.#sending.size < AT_ONCE && this.#queue.length) this.#send(this.#queue.shift());
    this.dispatchEvent(new Event("queue"));
  }

  /** The server is reachable again: send at once. */
  release() {
    this.#holdUntil = 0;
    for (const upload of this.#queue) upload.tries = 0;
    this.go();
  }

  /** Send a refused upload again, with the current form. */
  again(upload, form) {
    Object.assign(upload, { form, token: randomKey(), state: "waiting", problem: null, retryAt: null, tries: 0, unchecked: true, unsure: false });
    this.#queue.push(upload);
    this.#changed(upload);
    this.go();
  }

  /** Cancel it: "cancelled" follows, or "sent" if the server has made a job of it, which is unwanted. */
  drop(upload) {
    if (upload.unwanted) return;
    if (upload.state === "sending" && upload.progress === 1) { // breaking it off would not stop the server
      upload.unwanted = true;
      this.#changed(upload);
      return;
    }
    this.#queue = this.#queue.filter((other) => other !== upload);
    this.#cancelled(upload);
    upload.abort?.();
    this.dispatchEvent(new Event("queue"));
  }

  /** Cancel all uploads that wait; those being sent continue. */
  dropWaiting() {
    const dropped = this.#queue;
    this.#queue = [];
    for (const upload of dropped) this.#cancelled(upload);
    this.dispatchEvent(new Event("queue"));
  }

  #cancelled(upload) {
    upload.dropped = true;
    this.dispatchEvent(new CustomEvent("cancelled", { detail: upload }));
  }

  async #send(upload) {
    const fault = upload.unchecked ? null : this.#fault(upload.file, upload.form.maxBytes);
    if (fault) {
      Object.assign(upload, { state: "refused", problem: fault });
      this.#changed(upload);
      return;
    }
    Object.assign(upload, { state: "sending", progress: 0, problem: null, retryAt: null });
    this.#sending.add(upload);
    this.#changed(upload);
    const { operation, fields } = upload.form;
    const photo = upload.file ? [["image", upload.file, upload.name], ["label", labelOf(upload.name)]] : [];
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

  #fault(file, maxBytes) {
    if (!file) return null;
    if (file.size === 0) return new Problem({ title: "Empty file", detail: "The file contains no data. Choose another one." });
    if (file.size > maxBytes) {
      const size = (Math.ceil(file.size / 1e5) / 10).toFixed(1); // rounded up, so that it is never equal to the limit
      const detail = `The file has ${size} MB. The limit is ${fileSize(maxBytes)}.`;
      return new Problem({ title: "Too large", detail, retryable: true });
    }
    return null;
  }

  #failed(upload, problem) {
    upload.tries += 1;
    const unreachable = problem.status === 0 && problem.retryable;
    upload.unsure = upload.progress === 1 && (unreachable || GATEWAY_LOST.includes(problem.status));
    if (upload.unwanted) {
      this.#cancelled(upload);
      return;
    }
    // If the connection breaks while the server is reachable, this file is the cause, so give up after a few tries.
    const giveUp = unreachable ? upload.tries >= BROKEN_TRIES && this.reachable() : upload.tries >= BUSY_TRIES;
    const temporary = unreachable || problem.status === 429 || problem.status === 503;
    if (!temporary || giveUp || problem.title === "Cancelled") {
      Object.assign(upload, { state: "refused", problem });
    } else {
      const backoff = 500 * 2 ** Math.min(upload.tries, 6);
      const asked = (problem.retryAfterS ?? 0) * 1000;
      const wait = Math.min(LONGEST_WAIT_MS, Math.max(asked, backoff)) * (1 + Math.random() / 4);
      this.#holdUntil = Math.max(this.#holdUntil, Date.now() + wait);
      Object.assign(upload, { state: "held", problem, retryAt: this.#holdUntil });
      this.#queue.unshift(upload);
    }
    this.#changed(upload);
  }

  #changed(upload) {
    if (!upload.dropped) this.dispatchEvent(new CustomEvent("change", { detail: upload }));
  }
}
