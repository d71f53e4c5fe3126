/** Which jobs were sent from this browser. Only their ids are remembered, the newest last. */

import { memory } from "./dom.js";

const REMEMBERED = 300;

export class History {
  #ids = new Set(memory.get("mine", []));

  has(id) { return this.#ids.has(id); }

  add(id) {
    this.#ids.delete(id);
    this.#ids.add(id);
    this.#keep();
  }

  /** The job is gone. */
  forget(id) {
    if (this.#ids.delete(id)) this.#keep();
  }

  forgetAll() {
    this.#ids.clear();
    this.#keep();
  }

  /** Up to `count` ids, newest first, for which `known` is false. */
  next(count, known) {
    return [...this.#ids].reverse().filter((id) => !known(id)).slice(0, count);
  }

  #keep() {
    this.#ids = new Set([...this.#ids].slice(-REMEMBERED));
    memory.set("mine", [...this.#ids]);
  }
}
