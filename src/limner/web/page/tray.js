/** The photos that are chosen but not sent yet: shown in place of the drop area, until others are chosen. */

import { byId, el, plural } from "./dom.js";

const SHOWN = 6;

export class Tray {
  /** @type {File[]} */
  photos = [];
  #urls = [];
  #box = byId("tray");
  #pictures = byId("tray-pictures");
  #words = byId("tray-words");

  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
    byId("tray-clear").addEventListener("click", () => {
      this.set([]);
      byId("drop").focus();
    });
  }

  /** Choose these photos instead of the ones before. */
  set(photos) {
    this.#urls.forEach((url) => URL.revokeObjectURL(url));
    this.photos = photos;
    const shown = photos.slice(0, SHOWN);
    this.#urls = shown.map((photo) => URL.createObjectURL(photo));
    this.#pictures.classList.toggle("several", photos.length > 1);
    this.#pictures.replaceChildren(...this.#urls.map((url, index) => {
      const image = el("img", { src: url, alt: photos[index].name || "Chosen photo", draggable: "false" });
      // Not every browser reads every format that the service does.
      image.addEventListener("error", () => image.replaceWith(el("span", { class: "blank", "aria-hidden": "true" })));
      return image;
    }));
    this.#words.textContent = photos.length === 1 ? photos[0].name || "pasted picture" : plural(photos.length, "photo");
    this.show();
  }

  /** Show it, or the drop area if there are no photos. */
  show() {
    const full = this.photos.length > 0;
    this.#box.hidden = !full;
    for (const id of ["drop", "drop-hint", "sources"]) byId(id).hidden = full;
    this.changed();
  }
}
