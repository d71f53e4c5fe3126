/** A picture that can be enlarged and moved: wheel, pinch, double click, drag, keys and buttons. */

import { el } from "./dom.js";

const MOST = 8;
const STEP = 1.5;
const SLACK = 4; // px, until a press is a drag
const MOVE = 60; // px, by an arrow key

export class Zoom {
  #frame;
  #scale = 1;
  #x = 0;
  #y = 0;
  /** @type {Map<number, {x: number, y: number}>} pointers that are down, in the frame's pixels */
  #down = new Map();
  #output = el("output", { class: "zoom-scale", "aria-live": "off" });
  #smaller = el("button", { type: "button", class: "icon", "aria-label": "Smaller", text: "−", onclick: () => this.by(1 / STEP) });
  #larger = el("button", { type: "button", class: "icon", "aria-label": "Larger", text: "+", onclick: () => this.by(STEP) });
  #whole = el("button", { type: "button", text: "Whole picture", onclick: () => this.reset() });
  /** Buttons for the same, for those who have neither wheel nor keyboard. */
  bar = el("div", { class: "zoom-bar", role: "group", "aria-label": "Size of the picture" }, this.#smaller, this.#output, this.#larger, this.#whole);
  /** Whether one pointer moves an enlarged picture. Not while boxes are drawn. */
  pans = true;

  /** @param {HTMLElement} frame what is cut off at; its descendants of the class `zoomed` are enlarged, all alike */
  constructor(frame) {
    this.#frame = frame;
    frame.classList.add("zoomable");
    frame.zoom = this;
    frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    frame.addEventListener("dblclick", (event) => {
      if (!this.pans) return;
      if (this.#scale > 1) this.reset();
      else this.by(2.5, this.#at(event));
    });
    frame.addEventListener("pointerdown", (event) => this.#press(event));
    frame.addEventListener("pointermove", (event) => this.#drag(event));
    for (const each of ["pointerup", "pointercancel"]) frame.addEventListener(each, (event) => this.#down.delete(event.pointerId));
    this.#show();
  }

  get scale() { return this.#scale; }

  /** Enlarge by a factor about a point of the frame, or its middle. */
  by(factor, at = { x: this.#frame.clientWidth / 2, y: this.#frame.clientHeight / 2 }) {
    const scale = Math.min(MOST, Math.max(1, this.#scale * factor));
    this.#x = at.x - (at.x - this.#x) * (scale / this.#scale);
    this.#y = at.y - (at.y - this.#y) * (scale / this.#scale);
    this.#scale = scale;
    this.#show();
  }

  /** Show the whole picture. */
  reset() {
    this.#scale = 1;
    this.#show();
  }

  move(x, y) {
    this.#x += x;
    this.#y += y;
    this.#show();
  }

  /** @returns {boolean} whether the key was for it */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const moves = { ArrowLeft: [MOVE, 0], ArrowRight: [-MOVE, 0], ArrowUp: [0, MOVE], ArrowDown: [0, -MOVE] }[event.key];
    if (["+", "="].includes(event.key)) this.by(STEP);
    else if (["-", "_"].includes(event.key)) this.by(1 / STEP);
    else if (event.key === "0") this.reset();
    else if (moves && this.#scale > 1 && this.#frame.contains(event.target)) this.move(...moves);
    else return false;
    return true;
  }

  #at({ clientX, clientY }) {
    const { left, top } = this.#frame.getBoundingClientRect();
    return { x: clientX - left, y: clientY - top };
  }

  #wheel(event) {
    const scrolled = (this.#frame.closest("dialog")?.scrollTop ?? 0) > 0;
    // What is whole leaves the wheel to the page when it cannot be made smaller, or the page is on its way back up.
    if (this.#scale === 1 && !event.ctrlKey && (event.deltaY >= 0 || scrolled)) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    this.by(1.0025 ** (-event.deltaY * lines * (event.ctrlKey ? 3 : 1)), this.#at(event));
  }

  #press(event) {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    this.#down.set(event.pointerId, this.#at(event));
    if (this.#down.size > 1) for (const id of this.#down.keys()) this.#frame.setPointerCapture(id);
  }

  #drag(event) {
    const before = this.#down.get(event.pointerId);
    if (!before) return;
    const now = this.#at(event);
    if (this.#down.size === 1) {
      if (!this.pans || this.#scale === 1) return;
      if (!this.#frame.hasPointerCapture(event.pointerId)) {
        if (Math.hypot(now.x - before.x, now.y - before.y) < SLACK) return; // it may be a click on what lies on the picture
        this.#frame.setPointerCapture(event.pointerId);
      }
      this.move(now.x - before.x, now.y - before.y);
    } else {
      const [other] = [...this.#down].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const apart = (one) => Math.max(1, Math.hypot(one.x - other.x, one.y - other.y));
      this.by(apart(now) / apart(before), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
      if (this.#scale > 1) this.move((now.x - before.x) / 2, (now.y - before.y) / 2);
    }
    this.#down.set(event.pointerId, now);
  }

  /** Whether more than one finger is down: what one would do is not meant. */
  get pinching() { return this.#down.size > 1; }

  #show() {
    const { clientWidth: width, clientHeight: height, style } = this.#frame;
    const within = (value, length) => Math.min(0, Math.max(length * (1 - this.#scale), value));
    this.#x = within(this.#x, width);
    this.#y = within(this.#y, height);
    style.setProperty("--zoom", this.#scale);
    style.setProperty("--pan-x", `${this.#x}px`);
    style.setProperty("--pan-y", `${this.#y}px`);
    this.#frame.classList.toggle("enlarged", this.#scale > 1);
    this.#output.textContent = `${Math.round(this.#scale * 100)} %`;
    this.#smaller.disabled = this.#scale === 1;
    this.#larger.disabled = this.#scale === MOST;
    this.#whole.disabled = this.#scale === 1;
  }
}
