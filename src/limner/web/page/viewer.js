/** The dialog that shows one job: the view of its operation, then its notes, properties, files, programs and JSON. */

import { address, artifactAddress, job as fetchJob, jobAddress, previewAddress, randomKey, rerun } from "./api.js";
import { ended, timing } from "./card.js";
import { codePanel } from "./code.js";
import { byId, clock, copyButton, el, fileSize, say, sentence } from "./dom.js";
import { notesList } from "./notes.js";
import { session } from "./session.js";
import { viewFor } from "./views/index.js";

const HASH = /^#job=(.+)$/;

export class Viewer {
  #dialog = byId("viewer");
  #body = byId("viewer-body");
  #title = byId("viewer-title");
  /** @type {?import("./board.js").Record} */
  #record = null;
  #shownStatus = null;
  #walked = false; // whether another job is shown than the one that was opened
  /** @type {?HTMLElement} the view of a job that has not finished */
  #live = null;

  /**
   * @param {import("./board.js").Board} board
   * @param {object} actions what its buttons do: again, cancel
   */
  constructor(board, actions) {
    this.board = board;
    this.actions = actions;
    this.#dialog.addEventListener("click", (event) => {
      if ((event.target === this.#dialog && !this.#unsaved) || event.target.closest("[data-close]")) this.#dialog.close();
    });
    this.#dialog.addEventListener("close", () => {
      // The browser returns the focus to where it was; after a walk through the list it belongs to the last one.
      if (this.#walked && !document.activeElement?.closest(".controls")) this.board.focus(this.#record);
      this.#walked = false;
      this.#record = null;
      this.#body.replaceChildren();
      history.replaceState(null, "", location.pathname + location.search);
    });
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
    byId("viewer-newer").addEventListener("click", () => this.#go(-1));
    byId("viewer-older").addEventListener("click", () => this.#go(1));
    addEventListener("hashchange", () => this.openFromAddress());
    new MutationObserver(() => this.#record && this.#showWays()).observe(byId("cards"), { childList: true });
  }

  /** Whether something is being edited, which is lost when another job is shown. */
  get #unsaved() { return this.#body.querySelector("[data-unsaved]") !== null; }

  #key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("textarea, select, pre, input:not([type=range])")) return;
    const zoom = (event.target.closest(".zoomable") ?? this.#body.querySelector(".zoomable"))?.zoom;
    const arrow = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.target.closest("input") && event.key.startsWith("Arrow")) return; // a slider's own
    if (zoom?.key(event)) event.preventDefault();
    else if (arrow && !this.#unsaved) this.#go(arrow);
  }

  /** Show the job beside the one that is shown: 1 is the next older one, -1 the next newer one. */
  async #go(step) {
    const from = this.#record;
    const beside = from && await this.board.beside(from, step);
    if (!beside || this.#record !== from) return; // it was closed meanwhile
    this.#walked = true;
    await this.open(beside);
  }

  async #showWays() {
    const record = this.#record;
    for (const [id, step] of [["viewer-newer", -1], ["viewer-older", 1]]) {
      const beside = record && await this.board.beside(record, step);
      if (record === this.#record) byId(id).disabled = !beside;
    }
  }

  /** `…#job=ID` opens that job. */
  async openFromAddress() {
    const id = HASH.exec(location.hash)?.[1];
    if (!id) return;
    const passed = () => HASH.exec(location.hash)?.[1] !== id; // another one was opened meanwhile
    try {
      const record = this.board.get(decodeURIComponent(id)) ?? this.board.put(await fetchJob(decodeURIComponent(id)), true);
      if (record !== this.#record && !passed()) await this.open(record); // it may be shown already: the page asks when it has started, too
    } catch (problem) {
      if (passed()) return;
      this.#show("Picture not found", el("p", { class: "fault", text: problem.status === 404
        ? "It may have been deleted after the link was made." : problem.message }));
    }
  }

  async open(record, { json = false } = {}) {
    if (!record.job) return;
    this.#record = record;
    this.#shownStatus = null;
    history.replaceState(null, "", `#job=${encodeURIComponent(record.job.id)}`);
    if (!record.whole || !ended(record.job) || record.job.parameters == null) { // a list leaves them out
      this.#show(record.card.title.textContent, el("p", { class: "soft", text: "Loading…" }));
      try {
        record.whole = false;
        await this.board.whole(record);
      } catch (problem) {
        if (this.#record === record) this.#show("Could not be loaded", el("p", { class: "fault", text: problem.message }));
        return;
      }
    }
    if (this.#record === record) this.#render(json);
  }

  /** A record has changed: if it is the one shown, render it again. */
  changed(record) {
    if (record.id !== this.#record?.id || this.#shownStatus === null) return;
    this.#record = record; // the list may have another one of the same job by now
    if (record.job.status !== this.#shownStatus) this.open(record);
    else if (!ended(record.job)) this.#showProgress();
  }

  #show(title, ...children) {
    this.#title.textContent = title;
    this.#body.replaceChildren(...children);
    this.#showWays();
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  #render(json) {
    const { job, localUrl, name, card } = this.#record;
    this.#shownStatus = job.status;
    card.render();
    const main = job.status === "succeeded"
      ? viewFor(job.operation).open(job, localUrl, { rerun: (changes) => this.#rerun(job, changes) })
      : ended(job) ? this.#ended(job, localUrl) : this.#running(localUrl);
    this.#show(card.title.textContent, main, main.querySelector(".notes") ? "" : notesList(job.result), this.#buttons(job), this.#facts(job, name),
      this.#files(job), ended(job) ? codePanel(job, name) : "", this.#json(job, json));
    this.#dialog.scrollTop = 0;
    if (json) this.#body.querySelector("summary").focus();
    else this.#title.focus();
  }

  /** Run the job again with changes, and show the new one, unless the user has left the job meanwhile. Throws Problem. */
  async #rerun(job, changes) {
    const made = await rerun(job.id, changes, randomKey());
    const record = this.board.made(made);
    say(ended(made) ? "Done." : "It is being made.");
    if (this.#dialog.open && this.#record?.id === job.id) await this.open(record);
  }

  #ended(job, localUrl) {
    return el("div", { class: "view" }, localUrl && el("div", { class: "plate" }, el("img", { src: localUrl, alt: "" })),
      job.error ? el("p", { class: "fault", text: job.error.detail || job.error.title }) : el("p", { class: "soft", text: "This job was cancelled." }));
  }

  /** What there is of a job that has not finished; `#showProgress` keeps it up to date. */
  #running(localUrl) {
    const picture = localUrl ? el("div", { class: "plate" }, el("img", { src: localUrl, alt: "" })) : el("div", { class: "plate bare" }, el("p", { text: "No picture yet" }));
    const view = el("div", { class: "view" }, el("div", { class: "live" }, picture), el("progress", { max: 1 }), el("p", { class: "soft centre" }));
    this.#live = view;
    this.#showProgress();
    return view;
  }

  #showProgress() {
    const { job, card, lastEvent } = this.#record;
    const bar = this.#live.querySelector("progress");
    if (job.progress > 0) bar.value = job.progress;
    else bar.removeAttribute("value");
    bar.setAttribute("aria-label", card.title.textContent);
    this.#title.textContent = card.title.textContent;
    this.#live.querySelector("p.centre").textContent = job.preview ? "This is what it looks like so far." : "This job has not finished yet.";
    if (!job.preview || this.#live.dataset.event === String(lastEvent)) return;
    this.#live.dataset.event = lastEvent;
    // It is put in its place when it is loaded, so that nothing flickers. It may be gone by then, because the job has ended.
    const image = el("img", { src: previewAddress(job, lastEvent), alt: "What it looks like so far" });
    const place = this.#live.querySelector(".live");
    image.addEventListener("load", () => place.replaceChildren(el("div", { class: "plate" }, image)));
  }

  #buttons(job) {
    const record = this.#record;
    return el("div", { class: "row" }, ended(job)
      ? el("button", { type: "button", text: "Run again with changes", onclick: () => this.actions.again(record) })
      : el("button", { type: "button", text: "Cancel", onclick: () => this.actions.cancel(record) }));
  }

  #facts(job, name) {
    const { long } = timing(job);
    const rows = [["File", name], ["Operation", sentence(job.operation)], ["Time", long],
      ["Cache", job.cached && `result of an earlier job (${job.cached})`], ["Sent", clock(job.created_at)], ["Job", job.id]];
    return el("dl", { class: "values" }, ...rows.filter(([, value]) => value)
      .flatMap(([term, value]) => [el("dt", { text: term }), el("dd", { text: value })]));
  }

  #files(job) {
    if (!job.artifacts?.length) return "";
    return el("ul", { class: "files", role: "list" }, ...job.artifacts.map((artifact) => {
      const url = artifactAddress(job, artifact);
      const size = artifact.width ? `${artifact.width} × ${artifact.height}, ` : "";
      return el("li", {}, el("span", { class: "file-name" }, el("a", { href: url, target: "_blank", rel: "noopener", text: artifact.name }),
        el("small", { class: "soft", text: ` ${size}${fileSize(artifact.size)}` })),
      el("a", { class: "button", href: url, download: `${job.id}-${artifact.name}`, text: "Save" }),
      copyButton("Copy link", () => url), copyButton("Copy page link", () => address(`#job=${job.id}`)));
    }));
  }

  #json(job, open) {
    const text = JSON.stringify(job, null, 2);
    return el("details", { class: "json", open }, el("summary", { text: "JSON" }),
      el("div", { class: "row" }, copyButton("Copy JSON", () => text),
        // A link sends no key.
        !session.active && el("a", { class: "button", href: jobAddress(job.id), target: "_blank", rel: "noopener", text: "Open in the API" })),
      el("pre", { tabindex: 0, "aria-label": "The job as JSON", text }));
  }
}
