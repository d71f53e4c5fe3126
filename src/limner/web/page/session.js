/**
 * The API key of this tab, for a service that asks for one. It is kept until the tab is closed, and sent as a header only:
 * an address would be written to logs and histories.
 *
 * Fires "refused" when the server asks for a key, or does not accept this one any more.
 */

const NAME = "limner-key";

class Session extends EventTarget {
  #key = null;

  constructor() {
    super();
    try { this.#key = sessionStorage.getItem(NAME); } catch { /* forbidden: the key is lost at the next visit */ }
  }

  /** Whether there is a key, which the server may not accept. */
  get active() { return this.#key !== null; }

  /** The headers that a request needs. */
  headers() { return this.active ? { Authorization: `Bearer ${this.#key}` } : {}; }

  begin(key) { this.#keep(key); }

  end() { this.#keep(null); }

  refuse() {
    const detail = { had: this.active };
    this.end();
    this.dispatchEvent(new CustomEvent("refused", { detail }));
  }

  #keep(key) {
    this.#key = key;
    try {
      if (key === null) sessionStorage.removeItem(NAME);
      else sessionStorage.setItem(NAME, key);
    } catch { /* forbidden */ }
  }
}

export const session = new Session();
