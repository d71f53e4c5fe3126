/** The frame of a crop on its photo: shapes to choose from, how close, and what will be seen, at once. */

import { el, plural, svg } from "./dom.js";
import { overlay } from "./faces.js";
import { frameOf } from "./framing.js";
import { facesIn } from "./glance.js";
import { followPhoto } from "./samples.js";

const SHAPES = ["1:1", "4:5", "3:4", "2:3", "9:16", "4:3", "3:2", "16:9"];

/** Radio buttons that show the shapes; `value` is "W:H". */
export class ShapeChoice {
  #inputs = new Map();

  /** @param {string} name of the group @param {(shape: string) => void} changed */
  constructor(name, changed) {
    this.element = el("fieldset", { class: "shapes" }, el("legend", { text: "Shape" }), ...SHAPES.map((shape) => {
      const [width, height] = shape.split(":").map(Number);
      const input = el("input", { type: "radio", name, value: shape });
      input.addEventListener("change", () => changed(shape));
      this.#inputs.set(shape, input);
      const [wide, high] = [22, 22].map((side, index) => (side * [width, height][index]) / Math.max(width, height));
      return el("label", { class: "shape" }, input, el("span", { class: "shape-box" },
        svg("svg", { viewBox: "0 0 26 26", width: 26, height: 26, "aria-hidden": "true" },
          svg("rect", { x: 13 - wide / 2, y: 13 - high / 2, width: wide, height: high, rx: 2 })), el("span", { text: shape })));
    }));
  }

  /** Choose a shape, or none of these. */
  set value(shape) {
    for (const [each, input] of this.#inputs) input.checked = each === shape;
  }
}

/** The part of the picture that is cut away, darkened; `show(box)` moves it. */
export function frameOverlay(size) {
  const path = svg("path", { class: "cut-away", "fill-rule": "evenodd" });
  const rect = svg("rect", { class: "cut-frame" });
  const element = overlay(size, path, rect);
  element.setAttribute("aria-hidden", "true");
  return { element, show({ x, y, width, height }) {
    path.setAttribute("d", `M0 0H${size.width}V${size.height}H0ZM${x} ${y}h${width}v${height}h${-width}Z`);
    for (const [name, value] of Object.entries({ x, y, width, height })) rect.setAttribute(name, value);
  } };
}

/** The shape that fields ask for, width divided by height. */
export function aspectOf({ aspect, width, height }) {
  const given = /^(\d+):(\d+)$/.exec(aspect ?? "");
  if (given) return given[1] / given[2];
  return width > 0 && height > 0 ? width / height : 1;
}

/** The chosen photo with the frame that the form asks for, about the faces that are found at a glance. */
export class FramePreview {
  #image = el("img", { alt: "The photo", draggable: "false" });
  #layer = el("div", { class: "on-top" });
  #words = el("p", { class: "hint", role: "status" });
  #values = {};
  /** @type {?object[]} null: not known */
  #faces = null;
  element = el("div", { class: "frame-preview", hidden: true }, el("div", { class: "plate" }, this.#image, this.#layer), this.#words);

  constructor() {
    this.#image.addEventListener("load", () => this.#look());
    this.#image.addEventListener("error", () => { this.element.hidden = true; });
    followPhoto((photo) => {
      URL.revokeObjectURL(this.#image.src);
      this.element.hidden = !photo;
      this.#faces = null;
      if (photo) this.#image.src = URL.createObjectURL(photo);
      else this.#image.removeAttribute("src");
    });
  }

  async #look() {
    const { src } = this.#image;
    this.#draw();
    if (!this.element.isConnected) return; // asked for when it is shown
    const found = await facesIn(this.#image);
    if (src !== this.#image.src) return; // another photo was chosen meanwhile
    this.#faces = found;
    this.#draw();
  }

  /** @param {object} values of the form */
  show(values) {
    this.#values = values;
    this.#draw();
  }

  /** The form is shown: a photo may have been chosen before. */
  shown() {
    if (this.#faces === null && this.#image.complete && this.#image.naturalWidth > 0) this.#look();
  }

  #draw() {
    const size = { width: this.#image.naturalWidth, height: this.#image.naturalHeight };
    if (!size.width) return;
    const count = this.#faces?.length ?? 0;
    const { each, zoom } = this.#values;
    this.#words.textContent = each ? `The service cuts out ${count ? plural(count, "face") : "each face"}.`
      : count ? `The frame is about ${plural(count, "face")}.` : "The shape of the picture. The service moves the frame to what matters.";
    if (each) {
      this.#layer.replaceChildren(overlay(size, ...(this.#faces ?? []).map((box) => svg("rect", { class: "cut-frame", ...box }))));
      return;
    }
    const over = frameOverlay(size);
    over.show(frameOf(size, this.#faces ?? [], aspectOf(this.#values), zoom ?? 0));
    this.#layer.replaceChildren(over.element);
  }
}
