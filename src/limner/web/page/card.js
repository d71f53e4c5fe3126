/** A card shows one job, or one upload that is not a job yet. `render` can be called at any time. */

import { artifactAddress, previewAddress, thumbnailAddress } from "./api.js";
import { clock, copyButton, duration, el, sentence } from "./dom.js";
import { viewFor } from "./views/index.js";

const ENDED = new Set(["succeeded", "failed", "cancelled"]);
export const ended = (job) => ENDED.has(job?.status);

const span = (from, to) => (from && to ? Date.parse(to) - Date.parse(from) : Number.NaN);

/** How long the job ran (`short`), and also how long it waited (`long`). */
export function timing(job) {
  const worked = span(job.started_at, job.finished_at);
  const waited = span(job.created_at, job.started_at);
  return {
    short: duration(worked),
    long: [Number.isFinite(waited) && `waited ${duration(waited)}`, Number.isFinite(worked) && `ran ${duration(worked)}`]
      .filter(Boolean).join(", "),
  };
}

const ORDINAL = new Intl.PluralRules("en", { type: "ordinal" });
const SUFFIX = { one: "st", two: "nd", few: "rd", other: "th" };

/** A job's place in the queue as text, "" if it is not known. */
function placeOf(queue) {
  if (!queue) return "";
  const { position, eta_s: eta } = queue;
  const about = eta === null ? "" : `, about ${duration(Math.max(1000, Math.round(eta) * 1000)).replace(".0 s", " s")}`;
  if (position === null) return "Far back in the queue";
  if (position === 0) return `Waiting for the same work, which is running${about}`;
  return `${position === 1 ? "Next" : `${position}${SUFFIX[ORDINAL.select(position)]}`} in the queue${about}`;
}

/** A record's state as text, and its progress bar: 0..1, "endless", or none. */
function stateOf({ job, upload }, retryWords) {
  if (!job) {
    if (upload.state === "waiting") return { words: "Waiting to be sent", tone: "busy" };
    if (upload.unwanted) return { words: "Cancelling…", bar: "endless", tone: "busy" };
    if (upload.state === "sending") {
      return upload.progress < 1
        ? { words: `Sending ${Math.round(upload.progress * 100)} %`, bar: upload.progress, tone: "busy" }
        : { words: "Sent, waiting for the answer", bar: "endless", tone: "busy" };
    }
    if (upload.state === "held") return { words: "Not sent yet", detail: retryWords, bar: "endless", tone: "busy" };
    return { words: upload.problem?.title ?? "Not accepted", detail: upload.problem?.detail, tone: "bad" };
  }
  switch (job.status) {
    case "queued": return { words: "Queued", detail: placeOf(job.queue), bar: "endless", tone: "busy" };
    case "running": {
      const part = job.progress > 0 && job.progress < 1 ? job.progress : null;
      return { words: part ? `Running, ${Math.round(part * 100)} %` : "Running", bar: part ?? "endless", tone: "busy" };
    }
    case "failed": return { words: job.error?.title ?? "Failed", detail: job.error?.detail, tone: "bad" };
    case "cancelled": return { words: "Cancelled", tone: "still" };
    default: return { words: viewFor(job.operation).headline(job), tone: "done" };
  }
}

export class Card {
  #shown = null; // the URL of the picture
  #buttons = ""; // which buttons are shown

  /**
   * @param {import("./record.js").Record} record
   * @param {object} actions what the buttons do: open, json, cancel, retry, again, erase, dismiss, picked, pictureLost
   */
  constructor(record, actions) {
    this.record = record;
    this.actions = actions;
    this.frame = el("button", { class: "frame", type: "button", onclick: () => this.actions.open(this.record) });
    this.bar = el("progress", { max: 1, hidden: true });
    this.title = el("h3", { class: "card-title" });
    this.detail = el("p", { class: "card-detail" });
    this.name = el("p", { class: "facts file" });
    this.facts = el("p", { class: "facts" });
    this.tools = el("div", { class: "tools" });
    this.pick = el("input", { type: "checkbox", onclick: (event) => this.actions.picked(this.record, this.pick.checked, event.shiftKey) });
    this.picker = el("label", { class: "pick" }, this.pick);
    this.element = el("li", { class: "card" }, this.frame, this.picker, this.bar,
      el("div", { class: "words" }, this.title, this.detail, this.name, this.facts), this.tools);
  }

  render() {
    const { record } = this;
    const { job, upload, mine, localUrl } = record;
    const { words, detail, bar, tone } = stateOf(record, this.#retryWords());
    this.element.dataset.tone = tone;
    this.element.dataset.status = job?.status ?? upload.state;
    this.element.classList.toggle("mine", mine);
    if (job) this.element.dataset.job = job.id;
    this.title.textContent = words;
    this.detail.textContent = record.trouble || (detail ?? "");
    this.detail.title = this.detail.textContent;
    this.#renderFacts();
    this.bar.hidden = bar === undefined;
    if (bar === "endless") this.bar.removeAttribute("value");
    else this.bar.value = bar ?? 0;
    this.bar.setAttribute("aria-label", words);
    const artifact = job?.status === "succeeded" ? viewFor(job.operation).picture(job) : null;
    const small = ended(job) && job.thumbnail ? thumbnailAddress(job) : artifact ? artifactAddress(job, artifact) : null;
    const preview = job?.status === "running" && job.preview ? previewAddress(job, record.lastEvent) : null;
    this.element.classList.toggle("preview", preview !== null);
    this.#renderPicture(small ?? preview ?? localUrl, words, small !== null, preview !== null);
    this.frame.disabled = !job;
    this.picker.hidden = !ended(job);
    this.pick.checked = record.selected;
    this.pick.setAttribute("aria-label", `Select ${[record.name, words].filter(Boolean).join(", ")}`);
    this.element.classList.toggle("selected", record.selected);
    this.frame.setAttribute("aria-label", job ? `Open: ${[record.name, words].filter(Boolean).join(", ")}` : words);
    this.#renderTools(artifact);
  }

  #retryWords() {
    const { upload } = this.record;
    if (upload?.state !== "held") return "";
    const reason = { 0: "No connection to the server", 429: "The server is busy" }[upload.problem.status] ?? upload.problem.title;
    const left = Math.ceil((upload.retryAt - Date.now()) / 1000);
    return `${reason}. ${left > 0 ? `Trying again in ${left} s.` : "Trying again."}`;
  }

  #renderFacts() {
    const { job, name, mine } = this.record;
    const parts = [];
    const given = name ?? (mine ? "sent from here" : "");
    if (this.name.textContent !== given) this.name.title = this.name.textContent = given;
    if (job) {
      const { short, long } = timing(job);
      parts.push(sentence(job.operation), job.cached ? "cached" : short, clock(job.finished_at ?? job.created_at));
      this.facts.title = long;
    }
    this.facts.textContent = parts.filter(Boolean).join(" · ");
  }

  /** `final`: it is the result; `passing`: it may be gone before it is loaded, then the one before stays. */
  #renderPicture(source, words, final, passing) {
    if (this.#shown === (source ?? words)) {
      this.frame.firstElementChild.alt = words;
      return;
    }
    this.#shown = source ?? words;
    if (!source) {
      this.frame.replaceChildren(el("span", { class: "blank", "aria-hidden": "true" }));
      return;
    }
    const image = el("img", { src: source, alt: words, loading: "lazy", decoding: "async", draggable: "false" });
    image.addEventListener("error", () => {
      if (this.#shown !== source || passing) return;
      this.frame.replaceChildren(el("span", { class: "blank", "aria-hidden": "true" }));
      if (!source.startsWith("blob:")) this.actions.pictureLost(this.record);
    });
    // The photo stays until the marked picture is loaded, so that the card does not flicker.
    const before = this.frame.querySelector("img");
    if (!before) {
      this.frame.replaceChildren(image);
      return;
    }
    image.loading = "eager";
    image.addEventListener("load", () => {
      if (this.#shown !== source) return;
      this.frame.replaceChildren(image);
      if (!final) return;
      URL.revokeObjectURL(this.record.localUrl);
      this.record.localUrl = null;
    });
  }

  #renderTools(artifact) {
    const { record, actions } = this;
    const { job, upload } = record;
    const kinds = [];
    if (job?.status === "succeeded" && artifact) kinds.push("link");
    if (ended(job)) kinds.push("json");
    const retry = upload?.file && (job ? ended(job) && job.status !== "succeeded" : upload.state === "refused");
    if (retry) kinds.push("retry");
    else if (ended(job)) kinds.push("again");
    if (ended(job) || upload?.state === "refused") kinds.push("erase");
    else kinds.push("cancel");
    const state = kinds.join() + (artifact?.name ?? "");
    if (state === this.#buttons) return;
    this.#buttons = state;
    const hadFocus = this.tools.contains(document.activeElement);
    const make = {
      link: () => copyButton("Link", () => artifactAddress(this.record.job, artifact), { title: "Copy the link to the picture" }),
      json: () => el("button", { type: "button", text: "JSON", onclick: () => actions.json(record) }),
      retry: () => el("button", { type: "button", text: "Retry", onclick: () => actions.retry(record) }),
      again: () => el("button", { type: "button", text: "Again…",
        title: "Put this photo and its options into the form, to change them", onclick: () => actions.again(record) }),
      cancel: () => el("button", { type: "button", text: "Cancel", onclick: () => actions.cancel(record) }),
      erase: () => (job
        ? el("button", { type: "button", class: "erase", text: "Delete", onclick: () => actions.erase(record) })
        : el("button", { type: "button", class: "erase", text: "Dismiss", onclick: () => actions.dismiss(record) })),
    };
    this.tools.replaceChildren(...kinds.map((kind) => make[kind]()));
    if (hadFocus) (this.tools.querySelector("button") ?? this.frame).focus();
  }
}
