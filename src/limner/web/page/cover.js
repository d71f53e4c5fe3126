/** Choosing what is covered: a click on a face uncovers it, a box that is drawn covers; then the job is run again with `boxes`. */

import { el, say, sentence, svg } from "./dom.js";
import { crop, headBox } from "./faces.js";

export const COVERS = ["blur", "pixelate", "solid"];
const SMALLEST = 6; // CSS pixels of a box that is drawn
const STEP = 0.01; // of the picture's longer side, for arrow keys

/** @typedef {{box: object, on: boolean, own: boolean, name: string, node: SVGElement, row: HTMLElement}} Area */

const holds = (box, face) => {
  const [x, y] = [face.box.x + face.box.width / 2, face.box.y + face.box.height / 2];
  return x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height;
};

/** What is covered in the job, and the faces that are not. */
function areasOf({ parameters, result }) {
  const faces = result.faces.map((face, index) => ({ face, name: `Face ${index + 1}` }));
  if (!parameters?.boxes) {
    const margin = parameters?.margin ?? undefined;
    return faces.map(({ face, name }) => ({ box: headBox(face, margin), on: true, own: false, name }));
  }
  const bare = faces.filter(({ face }) => !parameters.boxes.some((box) => holds(box, face)));
  return [...parameters.boxes.map((box, index) => ({ box, on: true, own: true, name: `Area ${index + 1}` })),
    ...bare.map(({ face, name }) => ({ box: headBox(face), on: false, own: false, name }))];
}

export class CoverEditor {
  /** @type {Area[]} */
  #areas = [];
  #job;
  #stage;
  #size;
  #svg;
  #list = el("ul", { class: "areas", role: "list" });
  #fault = el("p", { class: "fault", role: "alert" });
  #mark;
  #photo;
  #drawn = 0;
  #drawing = null;
  #ended = new AbortController();

  /**
   * @param {object} job
   * @param {HTMLElement} stage of compare.js
   * @param {{photo: ?HTMLImageElement, rerun: (changes: object) => Promise<void>, close: () => void}} actions `photo`: of
   *   which small pictures are shown, null while the original is not wanted
   */
  constructor(job, stage, { photo, rerun, close }) {
    this.#job = job;
    this.#stage = stage;
    this.#photo = photo;
    this.#size = job.result.image;
    const mark = job.parameters?.mark;
    this.#mark = el("select", { id: "cover-mark" }, ...COVERS.map((each) =>
      el("option", { value: each, text: sentence(each), selected: each === mark })));
    this.#mark.addEventListener("change", () => this.#svg.setAttribute("data-mark", this.#mark.value));
    this.#svg = svg("svg", { class: "overlay areas-drawn", viewBox: `0 0 ${this.#size.width} ${this.#size.height}`,
      preserveAspectRatio: "none", role: "group", "aria-label": "What is covered" });
    const apply = el("button", { type: "button", class: "primary", text: "Apply", onclick: () => this.#apply(rerun, apply) });
    this.element = el("section", { class: "cover", "aria-label": "What is covered", "data-unsaved": true },
      el("p", { class: "hint", text: "Click a face to uncover or cover it. Drag on the picture to cover a place, or add a box. Arrow keys move the box that has the focus, with Shift they change its size, Delete removes it." }),
      this.#list, el("button", { type: "button", text: "Add a box", onclick: () => this.#addInMiddle() }),
      el("div", { class: "field" }, el("label", { for: "cover-mark", text: "Cover with" }), this.#mark),
      this.#fault, el("div", { class: "row" }, apply, el("button", { type: "button", text: "Cancel", onclick: close })));
    for (const area of areasOf(job)) this.#enter(area);
    const { frame, layer, zoom } = stage;
    frame.classList.add("editing");
    zoom.pans = false;
    layer.append(this.#svg);
    this.#listen(frame);
  }

  /** Toggle the face of this number, if it is there. */
  toggle(index) {
    const area = this.#areas.find(({ name }) => name === `Face ${index + 1}`) ?? this.#areas.find(({ box }) => holds(box, this.#job.result.faces[index]));
    if (area) this.#set(area, !area.on);
  }

  end() {
    this.#ended.abort();
    this.#svg.remove();
    this.#stage.frame.classList.remove("editing");
    this.#stage.zoom.pans = true;
  }

  #enter(area) {
    const title = svg("title", { text: area.name });
    area.node = svg("g", { class: "area", tabindex: 0, role: "checkbox", "aria-label": `Cover ${area.name.toLowerCase()}` }, title, svg("rect"));
    area.node.addEventListener("keydown", (event) => this.#key(area, event));
    area.check = el("input", { type: "checkbox" });
    area.check.addEventListener("change", () => this.#set(area, area.check.checked));
    area.row = el("li", {}, el("label", { class: "tick" }, area.check, this.#photo && crop(this.#photo, area.box, this.#size), el("span", { text: area.name })),
      area.own && el("button", { type: "button", class: "quiet icon", "aria-label": `Remove ${area.name.toLowerCase()}`, text: "✕", onclick: () => this.#remove(area) }));
    for (const [on, ...events] of [[true, "mouseenter", "focusin"], [false, "mouseleave", "focusout"]]) {
      for (const event of events) area.row.addEventListener(event, () => area.node.classList.toggle("lit", on));
    }
    this.#areas.push(area);
    this.#svg.append(area.node);
    this.#list.append(area.row);
    this.#place(area);
    this.#set(area, area.on);
  }

  #set(area, on) {
    area.on = on;
    area.check.checked = on;
    area.node.setAttribute("aria-checked", on);
    area.node.classList.toggle("on", on);
  }

  #place({ node, box }) {
    const rect = node.querySelector("rect");
    for (const name of ["x", "y", "width", "height"]) rect.setAttribute(name, box[name]);
  }

  #remove(area) {
    const next = area.row.nextElementSibling ?? area.row.previousElementSibling;
    this.#areas = this.#areas.filter((each) => each !== area);
    area.node.remove();
    area.row.remove();
    (next?.querySelector("input") ?? this.#mark).focus();
    say(`${area.name} removed.`);
  }

  #add(box) {
    this.#drawn += 1;
    const area = { box, on: true, own: true, name: `Box ${this.#drawn}` };
    this.#enter(area);
    say(`${area.name} added.`);
    return area;
  }

  #addInMiddle() {
    const { width, height } = this.#size;
    const side = Math.min(width, height) / 4;
    this.#add({ x: (width - side) / 2, y: (height - side) / 2, width: side, height: side }).node.focus();
  }

  #key(area, event) {
    const step = Math.max(1, Math.round(Math.max(this.#size.width, this.#size.height) * STEP));
    const [x, y] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key] ?? [0, 0];
    if (event.key === "Enter" || event.key === " ") this.#set(area, !area.on);
    else if ((event.key === "Delete" || event.key === "Backspace") && area.own) this.#remove(area);
    else if (x || y) {
      const box = { ...area.box };
      if (event.shiftKey) Object.assign(box, { width: Math.max(step, box.width + x), height: Math.max(step, box.height + y) });
      else Object.assign(box, { x: box.x + x, y: box.y + y });
      area.box = box;
      this.#place(area);
    } else return;
    event.preventDefault();
    event.stopPropagation(); // the viewer shows the next picture by arrows
  }

  // ---- by pointer -------------------------------------------------------------------------------------------------

  /** Where the pointer is, pixels of the photo, within it. */
  #at({ clientX, clientY }) {
    const { left, top, width, height } = this.#svg.getBoundingClientRect();
    const share = (value, length) => Math.min(1, Math.max(0, value / length));
    return { x: share(clientX - left, width) * this.#size.width, y: share(clientY - top, height) * this.#size.height };
  }

  #listen(frame) {
    const { signal } = this.#ended;
    frame.addEventListener("pointerdown", (event) => {
      if (this.#stage.zoom.pinching || (event.pointerType === "mouse" && event.button !== 0)) {
        this.#drop();
        return;
      }
      this.#drawing = { from: this.#at(event), pressed: event, target: event.target.closest?.(".area"), rect: null };
      frame.setPointerCapture(event.pointerId);
      event.preventDefault(); // no selection of text; the focus is set below
    }, { signal });
    frame.addEventListener("pointermove", (event) => this.#draw(event), { signal });
    frame.addEventListener("pointerup", () => this.#finish(), { signal });
    frame.addEventListener("pointercancel", () => this.#drop(), { signal });
  }

  #draw(event) {
    const now = this.#drawing;
    if (!now || this.#stage.zoom.pinching) return;
    if (Math.hypot(event.clientX - now.pressed.clientX, event.clientY - now.pressed.clientY) < SMALLEST && !now.rect) return;
    if (!now.rect) this.#svg.append(now.rect = svg("rect", { class: "drawing-box" }));
    const to = this.#at(event);
    now.box = { x: Math.min(now.from.x, to.x), y: Math.min(now.from.y, to.y), width: Math.abs(to.x - now.from.x), height: Math.abs(to.y - now.from.y) };
    for (const [name, value] of Object.entries(now.box)) now.rect.setAttribute(name, value);
  }

  #finish() {
    const now = this.#drawing;
    this.#drop();
    if (now?.box && now.box.width >= 1 && now.box.height >= 1) {
      this.#add(now.box).node.focus({ preventScroll: true });
    } else if (now?.target) {
      const area = this.#areas.find(({ node }) => node === now.target);
      this.#set(area, !area.on);
      area.node.focus({ preventScroll: true });
    }
  }

  #drop() {
    this.#drawing?.rect?.remove();
    this.#drawing = null;
  }

  // ---- the new job ------------------------------------------------------------------------------------------------

  /** Whole pixels within the picture, which hold the area. Null for one that is outside. */
  #whole({ x, y, width, height }) {
    const [left, top] = [Math.max(0, Math.floor(x)), Math.max(0, Math.floor(y))];
    const [right, bottom] = [Math.min(this.#size.width, Math.ceil(x + width)), Math.min(this.#size.height, Math.ceil(y + height))];
    return right > left && bottom > top ? { x: left, y: top, width: right - left, height: bottom - top } : null;
  }

  async #apply(rerun, button) {
    const mark = this.#mark.value;
    const { mark: before, colour = null } = this.#job.parameters ?? {};
    const boxes = this.#areas.filter(({ on }) => on).map(({ box }) => this.#whole(box)).filter(Boolean);
    button.disabled = true;
    this.#fault.textContent = "";
    try {
      await rerun({ boxes, mark, margin: null, colour: mark === before ? colour : null });
    } catch (problem) {
      this.#fault.textContent = problem.message;
    }
    button.disabled = false;
  }
}
