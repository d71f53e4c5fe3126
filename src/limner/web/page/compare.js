/** Two pictures on top of each other, with a line between them that is moved by pointer, finger or keys. */

import { el } from "./dom.js";

const SHAPES_DIFFER = 0.02; // relative difference of the aspect ratios from which on they are shown side by side

/**
 * The original on the left of the line, the result on the right. Without line if the original cannot be shown.
 * @param {{original: string, result: string, width?: number, height?: number, words: string}} pictures URLs; the size is
 *   that of the result, `words` describe it
 */
export function compare({ original, result, width, height, words }) {
  const after = el("img", { src: result, alt: words, width, height, draggable: "false" });
  const before = el("img", { class: "compare-original", alt: "The original photo", draggable: "false" });
  // A range's value follows arrows, Page Up, Home and touch by itself. It is as wide as the picture plus its own thumb.
  const range = el("input", { type: "range", class: "compare-range", min: 0, max: 100, step: 1, value: 50, "aria-label": "How much of the original is shown, from the left" });
  const line = el("span", { class: "compare-line", "aria-hidden": "true" });
  const stage = el("div", { class: "plate compare" }, after, before, line,
    el("span", { class: "compare-tag left", "aria-hidden": "true", text: "Original" }),
    el("span", { class: "compare-tag right", "aria-hidden": "true", text: "Result" }), range);
  const show = () => {
    stage.style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % original`);
    stage.dataset.at = range.value > 85 ? "right" : range.value < 15 ? "left" : "";
  };
  range.addEventListener("input", show);
  show();
  stage.classList.add("bare-result");
  before.addEventListener("load", async () => {
    await after.decode().catch(() => {}); // its own error is shown by the browser
    const ratio = (image) => image.naturalWidth / image.naturalHeight;
    stage.classList.remove("bare-result");
    if (Math.abs(ratio(before) / ratio(after) - 1) > SHAPES_DIFFER) stage.classList.add("beside");
  });
  before.addEventListener("error", () => {
    stage.after(el("p", { class: "soft", text: "The original is in a format that this browser cannot show." }));
  });
  before.src = original;
  return stage;
}
