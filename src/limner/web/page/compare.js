/** Two pictures on top of each other, with a line between them that is moved by pointer, finger or keys. */

import { el } from "./dom.js";
import { Zoom } from "./zoom.js";

const SHAPES_DIFFER = 0.02; // relative difference of the aspect ratios from which on they are shown side by side
const KEYS = "Plus and minus change its size, 0 shows all of it, arrow keys move it when it is enlarged.";

/** The frame of a picture that can be enlarged: `stage.frame`, with `stage.layer` for what lies on the picture. */
function staged(image, words, ...further) {
  const layer = el("div", { class: "zoomed on-top" });
  const frame = el("div", { class: "plate", tabindex: 0, role: "group", "aria-label": `${words}. ${KEYS}` },
    el("div", { class: "zoomed" }, image), ...further, layer);
  const zoom = new Zoom(frame);
  const stage = el("div", { class: "stage" }, frame, zoom.bar);
  return Object.assign(stage, { frame, layer, zoom });
}

/** One picture, or a drawing, that can be enlarged. */
export const single = (image, words) => staged(image, words);

/**
 * The original on the left of the line, the result on the right. Without line until the original is there: if it is
 * `withheld`, it is not even loaded before the button `stage.reveal` is pressed.
 * @param {{original: string, result: string, width?: number, height?: number, words: string, withheld?: boolean, at?: number}}
 *   pictures URLs; the size is that of the result, `words` describe it, `at` is where the line begins, percent
 */
export function compare({ original, result, width, height, words, withheld = false, at = 50 }) {
  const after = el("img", { src: result, alt: words, width, height, draggable: "false" });
  const before = el("img", { class: "compare-original", alt: "The original photo", draggable: "false" });
  // A range's value follows arrows, Page Up, Home and touch by itself. It is as wide as the picture plus its own thumb.
  const range = el("input", { type: "range", class: "compare-range", min: 0, max: 100, step: 1, value: at, "aria-label": "How much of the original is shown, from the left" });
  const line = el("span", { class: "compare-line", "aria-hidden": "true" });
  const stage = staged(after, words, el("div", { class: "compare-before" }, el("div", { class: "zoomed" }, before)), line,
    el("span", { class: "compare-tag left", "aria-hidden": "true", text: "Original" }),
    el("span", { class: "compare-tag right", "aria-hidden": "true", text: "Result" }), range);
  const { frame } = stage;
  frame.classList.add("compare", "bare-result");
  let last = range.value;
  const show = () => {
    if (stage.zoom.pinching) range.value = last; // two fingers mean the size
    last = range.value;
    frame.style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % original`);
    frame.dataset.at = range.value > 85 ? "right" : range.value < 15 ? "left" : "";
  };
  range.addEventListener("input", show);
  show();
  moveByHandle(line, frame, (share) => {
    range.value = share * 100;
    show();
  });
  before.addEventListener("load", async () => {
    await after.decode().catch(() => {}); // its own error is shown by the browser
    const ratio = (image) => image.naturalWidth / image.naturalHeight;
    frame.classList.remove("bare-result");
    if (Math.abs(ratio(before) / ratio(after) - 1) > SHAPES_DIFFER) frame.classList.add("beside");
  });
  before.addEventListener("error", () => {
    stage.after(el("p", { class: "soft", text: "The original is in a format that this browser cannot show." }));
  });
  const reveal = () => { before.src = original; };
  if (!withheld) reveal();
  else {
    stage.reveal = el("button", { type: "button", text: "Show the original", onclick: () => {
      reveal();
      stage.reveal.remove();
      frame.focus();
    } });
    stage.zoom.bar.append(stage.reveal);
  }
  return stage;
}

/** An enlarged picture is moved by what moves the line else, so the line is moved by its own handle. */
function moveByHandle(line, frame, to) {
  line.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    line.setPointerCapture(event.pointerId);
  });
  line.addEventListener("pointermove", (event) => {
    if (!line.hasPointerCapture(event.pointerId)) return;
    const { left, width } = frame.getBoundingClientRect();
    to(Math.min(1, Math.max(0, (event.clientX - left) / width)));
  });
}
