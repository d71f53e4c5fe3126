/**
 * The live feed: one WebSocket that comes back by itself and goes on after the last event it saw.
 *
 * Fires "job" (detail: the Event), "state" (detail: {state: "connecting"|"live"|"lost", retryAt: ?number}).
 */

import { address } from "./api.js";

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 15_000;
const SILENT_OPEN_MS = 10_000; // a socket that has not opened by then will not
const REMEMBERED_IDS = 2000;

export class Feed extends EventTarget {
  state = "connecting";
  #socket = null;
  #tries = 0;
  #timer = null;
  #lastId = null;
  #seen = new Set();

  open() {
    clearTimeout(this.#timer);
    this.#drop();
    const url = new URL(address("v1/events"));
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (this.#lastId !== null) url.searchParams.set("after", this.#lastId);
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lose(socket), SILENT_OPEN_MS);
    socket.onopen = () => {
      clearTimeout(this.#timer);
      this.#tell("live");
    };
    socket.onmessage = (message) => this.#read(message.data);
    socket.onclose = () => this.#lose(socket);
  }

  /** Do not wait for the next try. */
  nudge() {
    if (this.state !== "live") this.open();
  }

  /** The connection is thought dead (the machine slept): begin anew. */
  restart() {
    if (this.#socket) this.#lose(this.#socket);
    this.open();
  }

  #drop() {
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #lose(socket) {
    if (socket !== this.#socket) return;
    this.#drop();
    clearTimeout(this.#timer);
    // Jitter: a restarted server must not get all its pages in the same instant.
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#tries) * (0.5 + Math.random() / 2);
    this.#tries += 1;
    this.#timer = setTimeout(() => this.open(), wait);
    this.#tell("lost", Date.now() + wait);
  }

  #read(text) {
    let event;
    try { event = JSON.parse(text); } catch { return; }
    if (!event?.job?.id) return;
    // Not at "open": a server that takes connections and drops them at once must still be left alone a while.
    this.#tries = 0;
    if (Number.isFinite(event.id)) {
      if (this.#seen.has(event.id)) return; // each event comes at least once
      this.#seen.add(event.id);
      if (this.#seen.size > REMEMBERED_IDS) this.#seen.delete(this.#seen.values().next().value);
      this.#lastId = Math.max(this.#lastId ?? 0, event.id);
    }
    this.dispatchEvent(new CustomEvent("job", { detail: event }));
  }

  #tell(state, retryAt = null) {
    this.state = state;
    if (state === "live") {
      const socket = this.#socket;
      setTimeout(() => { if (socket === this.#socket) this.#tries = 0; }, 5000);
    }
    this.dispatchEvent(new CustomEvent("state", { detail: { state, retryAt } }));
  }
}
