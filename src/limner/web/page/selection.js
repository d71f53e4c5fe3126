/** Several pictures at once: which are selected, and the bar with what can be done with them. */

import * as api from "./api.js";
import { byId, el, plural, saveFile, say } from "./dom.js";
import { forEachFew } from "./few_at_once.js";
import { session } from "./session.js";

const MOST = 150; // for a zip, whose address names each job, and for what runs again
const ZIP = "limner.zip";
const AT_ONCE = 4;
const BUSY_TRIES = 20;
const LONGEST_WAIT_S = 30;

export class Selection {
  /** @type {Set<import("./record.js").Record>} in the order in which they were selected */
  #chosen = new Set();
  #last = null;
  #bar = byId("selection");
  #working = false;

  /**
   * @param {import("./board.js").Board} board
   * @param {{erase: (records: object[]) => void, form: () => ?import("./forms.js").OptionsForm}} actions
   */
  constructor(board, actions) {
    this.board = board;
    this.actions = actions;
    byId("select-all").addEventListener("click", () => this.all());
    byId("select-none").addEventListener("click", () => this.clear());
    byId("select-delete").addEventListener("click", () => this.erase());
    byId("select-zip").addEventListener("click", () => this.#zip());
    byId("select-rerun").addEventListener("click", () => this.#rerun({}));
    byId("select-options").addEventListener("click", () => this.#rerunWithOptions());
  }

  get size() { return this.#chosen.size; }

  /** Select a record or not; with `range`, also those between it and the one before. */
  set(record, on, range = false) {
    const { shown } = this.board;
    const [from, to] = [shown.indexOf(this.#last), shown.indexOf(record)].sort((one, other) => one - other);
    const several = range && from >= 0 ? shown.slice(from, to + 1) : [record];
    for (const each of several) this.#mark(each, on);
    this.#last = record;
    this.show();
    say(`${plural(this.size, "picture")} selected.`);
  }

  /** Select all that are in the list now. */
  all() {
    for (const record of this.board.shown) this.#mark(record, true);
    this.show();
    say(`${plural(this.size, "picture")} selected.`);
  }

  clear() {
    if (this.size === 0) return;
    const had = this.#bar.contains(document.activeElement);
    for (const record of [...this.#chosen]) this.#mark(record, false);
    this.show();
    if (had) byId("gallery").focus();
    say("Nothing is selected.");
  }

  /** A record has left the list. */
  left(record) {
    if (this.#chosen.delete(record)) this.show();
  }

  erase() {
    const records = [...this.#chosen];
    const had = this.#bar.contains(document.activeElement);
    for (const record of records) this.#mark(record, false);
    this.show();
    if (had) byId("gallery").focus();
    this.actions.erase(records);
  }

  /** Show the bar as it has to be now. */
  show() {
    this.#bar.hidden = this.size === 0;
    byId("cards").classList.toggle("selecting", this.size > 0);
    byId("selection-words").textContent = `${this.size} selected`;
    const many = this.size > MOST;
    for (const id of ["select-zip", "select-rerun", "select-options"]) byId(id).disabled = many || this.#working;
    byId("selection-limit").hidden = !many;
    byId("selection-limit").textContent = `Zip and run: at most ${MOST} at once.`;
    const form = this.actions.form();
    byId("select-options").hidden = !form || [...this.#chosen].some(({ job }) => job.operation !== form.operation.name);
  }

  #mark(record, on) {
    if (on && (!record.job?.finished_at || record.doomed)) return; // only what has ended
    if (on) this.#chosen.add(record);
    else this.#chosen.delete(record);
    record.selected = on;
    record.render();
  }

  async #zip() {
    const ids = [...this.#chosen].map(({ id }) => id);
    if (!session.active) { // the browser saves it while it comes
      el("a", { href: api.archiveAddress(ids), download: ZIP }).click();
      say("The zip is being saved.");
      return;
    }
    await this.#work("Making the zip…", async () => {
      saveFile(ZIP, await api.archive(ids), "application/zip"); // a link sends no key
      return "The zip was saved.";
    });
  }

  /** With the options of the form instead of their own. */
  #rerunWithOptions() {
    const form = this.actions.form();
    if (!form.check()) return;
    const chosen = form.values();
    if (Object.values(chosen).some((value) => value instanceof File)) {
      byId("selection-limit").textContent = "An option that is a picture cannot be used for several photos.";
      byId("selection-limit").hidden = false;
      say(byId("selection-limit").textContent);
      return;
    }
    const { properties = {}, oneOf = [] } = form.operation.parameters;
    const names = new Set([properties, ...oneOf.map((leaf) => leaf.properties)].flatMap(Object.keys));
    names.delete("image");
    this.#rerun({ ...Object.fromEntries([...names].map((name) => [name, null])), ...chosen }); // null: the default
  }

  #rerun(changes) {
    const records = [...this.#chosen];
    return this.#work("Sending…", async () => {
      let failed = 0;
      await forEachFew([...records], AT_ONCE, async (record) => {
        try {
          this.board.made(await this.#rerunOne(record.id, changes));
          this.#mark(record, false);
        } catch (problem) {
          failed += 1;
          this.board.trouble(record, `It was not run again. ${problem.message}`);
        }
      });
      return `${plural(records.length - failed, "picture")} sent again.${failed ? ` ${failed} could not be.` : ""}`;
    });
  }

  /** Waits where the server is busy. */
  async #rerunOne(id, changes) {
    const token = api.randomKey();
    for (let tries = 1; ; tries += 1) {
      try {
        return await api.rerun(id, changes, token);
      } catch (problem) {
        if (![0, 429, 503].includes(problem.status) || tries >= BUSY_TRIES) throw problem;
        const seconds = Math.min(LONGEST_WAIT_S, Math.max(problem.retryAfterS ?? 0, 0.5 * tries));
        await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
      }
    }
  }

  async #work(words, task) {
    this.#working = true;
    this.show();
    byId("selection-words").textContent = words;
    try {
      say(await task());
    } catch (problem) {
      say(problem.message);
    } finally {
      this.#working = false;
      this.show();
    }
  }
}
