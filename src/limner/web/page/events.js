/**
 * The live feed: one WebSocket that reconnects by itself and resumes after the last event it received.
 *
 * Fires "job" (detail: the Event), "state" (detail: {state: "connecting"|"live"|"lost"|"off", retryAt: ?number});
 * "off": the key may not read, or there is none.
 */

import { socketAddress, ticket } from "./api.js";
import { session } from "./session.js";

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 15_000;
const SILENT_OPEN_MS = 10_000; // give up on a socket that has not opened by then
const REMEMBERED_IDS = 2000;

export class Feed extends EventTarget {
  state = "connecting";
  #socket = null;
  #tries = 0;
  #attempt = 0; // counts what would make a ticket that is still awaited useless
  #timer = null;
  #lastId = null;
  #seen = new Set();

  async open() {
    clearTimeout(this.#timer);
    this.#drop();
    const attempt = this.#attempt;
    // Only with a key: without one, the socket is opened at once.
    const query = session.active ? await this.#ticket() : null;
    if (attempt === this.#attempt && query !== false) this.#connect(query);
  }

  /** End it, until `open` is called. */
  close() {
    clearTimeout(this.#timer);
    this.#drop();
    this.#notify("off");
  }

  /** A ticket, since a browser sends no key with a socket; null: none is needed; false: it was not given. */
  async #ticket() {
    const attempt = this.#attempt;
    try {
      return await ticket();
    } catch (problem) {
      if (attempt !== this.#attempt) return false;
      if (problem.status === 401 || problem.status === 403) this.close();
      else this.#retry();
      return false;
    }
  }

  #connect(pass) {
    const url = socketAddress("v1/events", pass);
    if (this.#lastId !== null) url.searchParams.set("after", this.#lastId);
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lose(socket), SILENT_OPEN_MS);
    socket.onopen = () => {
      clearTimeout(this.#timer);
      this.#notify("live");
    };
    socket.onmessage = (message) => this.#read(message.data);
    socket.onclose = () => this.#lose(socket);
  }

  /** Reconnect now instead of waiting for the next try. */
  nudge() {
    if (this.state !== "live" && this.state !== "off") this.open();
  }

  /** Replace a connection that may be dead, for example after the computer slept. */
  restart() {
    if (this.#socket) this.#lose(this.#socket);
    this.open();
  }

  #drop() {
    this.#attempt += 1;
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #lose(socket) {
    if (socket !== this.#socket) return;
    this.#retry();
  }

  #retry() {
    this.#drop();
    clearTimeout(this.#timer);
    // Jitter, so that all open pages do not reconnect to a restarted server at the same moment.
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#tries) * (0.5 + Math.random() / 2);
    this.#tries += 1;
    this.#timer = setTimeout(() => this.open(), wait);
    this.#notify("lost", Date.now() + wait);
  }

  #read(text) {
    let event;
    try { event = JSON.parse(text); } catch { return; }
    if (!event?.job?.id) return;
    // Not in "onopen": if the server accepts connections and closes them at once, the waits must still grow.
    this.#tries = 0;
    if (Number.isFinite(event.id)) {
      if (this.#seen.has(event.id)) return; // events are delivered at least once, so there are duplicates
      this.#seen.add(event.id);
      if (this.#seen.size > REMEMBERED_IDS) this.#seen.delete(this.#seen.values().next().value);
      this.#lastId = Math.max(this.#lastId ?? 0, event.id);
    }
    this.dispatchEvent(new CustomEvent("job", { detail: event }));
  }

  #notify(state, retryAt = null) {
    this.state = state;
    if (state === "live") {
      const socket = this.#socket;
      setTimeout(() => { if (socket === this.#socket) this.#tries = 0; }, 5000);
    }
    this.dispatchEvent(new CustomEvent("state", { detail: { state, retryAt } }));
  }
}
