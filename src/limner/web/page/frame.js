/** The frame of a crop on its photo: shapes to choose from, how close, and what will be seen, at once. */

import { el, svg } from "./dom.js";
import { overlay } from "./faces.js";
import { frameOf } from "./framing.js";
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

/** The chosen photo with the frame that the form asks for. Where the faces are, only the service knows. */
export class FramePreview {
  #image = el("img", { alt: "The photo", draggable: "false" });
  #layer = el("div", { class: "on-top" });
  #words = el("p", { class: "hint" });
  #values = {};
  element = el("div", { class: "frame-preview", hidden: true }, el("div", { class: "plate" }, this.#image, this.#layer), this.#words);

  constructor() {
    this.#image.addEventListener("load", () => this.#draw());
    this.#image.addEventListener("error", () => { this.element.hidden = true; });
    followPhoto((photo) => {
      URL.revokeObjectURL(this.#image.src);
      this.element.hidden = !photo;
      if (photo) this.#image.src = URL.createObjectURL(photo);
      else this.#image.removeAttribute("src");
    });
  }

  /** @param {object} values of the form */
  show(values) {
    this.#values = values;
    this.#draw();
  }

  #draw() {
    const size = { width: this.#image.naturalWidth, height: this.#image.naturalHeight };
    if (!size.width) return;
    this.#words.textContent = this.#values.each ? "The service cuts out each face." : "The shape of the picture. The service moves the frame to the faces.";
    if (this.#values.each) {
      this.#layer.replaceChildren();
      return;
    }
    const over = frameOverlay(size);
    const aspect = aspectOf(this.#values);
    const frame = frameOf(size, [], aspect, 0);
    const factor = 1 - 0.6 * (this.#values.zoom ?? 0); // how close it can be depends on the faces
    over.show({ x: frame.x + (frame.width * (1 - factor)) / 2, y: frame.y + (frame.height * (1 - factor)) / 2, width: frame.width * factor, height: frame.height * factor });
    this.#layer.replaceChildren(over.element);
  }
}

export { frameOf };
