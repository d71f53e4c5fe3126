/** One entry of the list: a job, or an upload that is not a job yet. */

import { Card } from "./card.js";

export class Record {
  /** @type {?import("./api.js").Job} once the server has it */
  job = null;
  /** @type {?import("./uploads.js").Upload} if this page sent it */
  upload = null;
  mine = false;
  /** Whether `job` is complete; an event contains only a part of it, and a list no result. */
  whole = false;
  /** Whether a list had it. */
  listed = false;
  /** The filter with which the server has found it. @type {?import("./filters.js").Filter} */
  found = null;
  /** Hidden, because it will be deleted soon. */
  doomed = false;
  selected = false;
  /** The photo itself, for an upload. @type {?string} */
  localUrl = null;
  lastEvent = 0;
  /** A sentence about what could not be done with it. */
  trouble = "";
  #card = null;
  #actions;
  #sentName;

  /**
   * @param {{order: string}} given `order`: sort key, an ISO 8601 time: the newest comes first
   * @param {object} actions what the card's buttons do
   */
  constructor({ name = null, ...given }, actions) {
    this.#sentName = name;
    this.#actions = actions;
    Object.assign(this, given);
  }

  /** The file's name, or what another client calls the job. @returns {?string} */
  get name() { return this.#sentName ?? this.job?.label ?? null; }

  get id() { return this.job?.id ?? this.key; }

  /** Made when it is first needed. */
  get card() {
    if (!this.#card) {
      this.#card = new Card(this, this.#actions);
      this.#card.render();
    }
    return this.#card;
  }

  /** Render the card, if there is one. */
  render() { this.#card?.render(); }

  /** Forget the card, which is not in the document: thousands would fill the memory. */
  dropCard() { this.#card = null; }
}
