/**
 * The user's own photo in each style of a painter, small: one job, made only when the button is pressed. It is erased as
 * soon as its picture has been read, and kept here until another photo is chosen. The server refuses it while others wait.
 */

import * as api from "./api.js";
import { el, say } from "./dom.js";

const SIDE = 160; // of a sample, pixels
const SENT_SIDE = 768; // of the photo that is sent, pixels: enough for samples
const PATIENCE_MS = 40_000;

/** @type {{photo: ?File, painters: string[]}} shared by all forms */
const chosen = { photo: null, painters: [] };
const listeners = new Set();
/** @type {WeakMap<File, Map<string, object>>} */
const made = new WeakMap();

/** Which painters have samples. */
export function offerSamples(painters) { chosen.painters = painters; }

/** The photo of which samples can be made, null for none. */
export function sampleOf(photo) {
  if (chosen.photo === photo) return;
  chosen.photo = photo;
  for (const each of listeners) each();
}

/** Call `listener(photo)` now and whenever another photo is chosen. */
export function followPhoto(listener) {
  listeners.add(() => listener(chosen.photo));
  listener(chosen.photo);
}

export class Samples {
  #painter = null;
  #tiles = null;
  #busy = false;
  #button = el("button", { type: "button", class: "wide", text: "Show my photo in these styles" });
  #words = el("p", { class: "hint", role: "status" });
  element = el("div", { class: "samples" }, this.#button, this.#words);

  constructor() {
    this.#button.addEventListener("click", () => this.#make());
    listeners.add(() => this.#update());
  }

  /** Show the samples of this painter in its tiles, if there are any. */
  show(painter, tiles) {
    this.#painter = painter;
    this.#tiles = tiles;
    this.#update();
  }

  #update() {
    const sheet = chosen.photo && made.get(chosen.photo)?.get(this.#painter);
    this.element.hidden = !chosen.painters.includes(this.#painter) || !chosen.photo;
    this.#button.hidden = Boolean(sheet);
    this.#button.disabled = this.#busy;
    if (!this.#busy) this.#words.textContent = sheet ? "Quick drafts of your photo. The picture itself has more detail." : "";
    if (this.#tiles) draw(sheet, this.#tiles);
  }

  async #make() {
    const { photo } = chosen;
    const painter = this.#painter;
    this.#busy = true;
    this.#words.textContent = "Drawing your photo in each style…";
    this.#update();
    let problem = null;
    try {
      const sheet = await sheetOf(photo, painter);
      if (!made.has(photo)) made.set(photo, new Map());
      made.get(photo).set(painter, sheet);
    } catch (error) {
      problem = error;
    }
    this.#busy = false;
    this.#update();
    if (problem) {
      this.#words.textContent = problem.status === 429 ? "Other work comes first. Try again in a moment." : problem.message;
      this.#button.focus();
    } else {
      say("The styles now show your photo.");
      this.#tiles.querySelector("input:checked")?.focus();
    }
  }
}

/** The tiles' pictures: samples in place of the examples, or the examples again. */
function draw(sheet, tiles) {
  for (const place of tiles.querySelectorAll(".tile-picture")) {
    place.querySelector("canvas")?.remove();
    const sample = sheet?.samples.find((each) => each.style === place.dataset.style);
    place.classList.toggle("sampled", Boolean(sample));
    if (!sample) continue;
    const canvas = el("canvas", { width: sample.width, height: sample.height, "aria-hidden": "true" });
    const { x, y, width, height } = sample;
    canvas.getContext("2d").drawImage(sheet.image, x, y, width, height, 0, 0, width, height);
    place.append(canvas);
  }
}

/** @returns {Promise<{image: HTMLImageElement, samples: object[]}>} */
async function sheetOf(photo, painter) {
  const job = await finished(await api.samples(await reduced(photo), painter, SIDE));
  const image = new Image();
  image.src = api.artifactAddress(job, job.artifacts[0]);
  try {
    await image.decode();
  } finally {
    // Nobody needs it any more. A key that may not erase leaves it until the service's own time for it is over.
    api.erase(job.id).catch((problem) => console.info(`The samples were not erased: ${problem.message}`));
  }
  return { image, samples: job.result.samples };
}

async function finished(job) {
  let current = job;
  const until = Date.now() + PATIENCE_MS;
  while (["queued", "running"].includes(current.status)) {
    if (Date.now() > until) {
      await api.cancel(current.id);
      throw new api.Problem({ title: "The service is busy. Try again later." });
    }
    await new Promise((resolve) => { setTimeout(resolve, 500); });
    current = await api.job(current.id);
  }
  if (current.status !== "succeeded") throw new api.Problem({ title: "No samples could be made", ...current.error });
  return current;
}

/** The photo as a small JPEG; or itself, if the browser cannot read it. */
async function reduced(photo) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(photo);
  } catch {
    return photo;
  }
  const factor = Math.min(1, SENT_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = el("canvas", { width: Math.max(1, Math.round(bitmap.width * factor)), height: Math.max(1, Math.round(bitmap.height * factor)) });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white"; // a JPEG has no transparency
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => { canvas.toBlob((blob) => resolve(blob ?? photo), "image/jpeg", 0.9); });
}
