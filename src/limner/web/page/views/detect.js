/** `detect`: the marked picture, and a list of faces with highlighting. */

import { el, plural, svg } from "../dom.js";
import { picture, plate } from "./any.js";

export { picture };

const percent = (score) => `${Math.round(score * 100)} %`;

export function headline(job) {
  const count = job.result?.faces?.length ?? job.summary?.faces_count;
  if (!Number.isInteger(count)) return "Done";
  return count === 0 ? "No face found" : plural(count, "face");
}

export function open(job, localUrl) {
  const faces = job.result?.faces ?? [];
  const stage = plate(job, picture(job), localUrl, headline(job));
  const view = el("div", { class: "view" }, stage);
  if (faces.length === 0) {
    view.append(el("p", { class: "soft", text: "No face was found in this photo. A lower minimum score or “Precise” may find more." }));
    return view;
  }
  const { width, height } = job.result.image;
  const outlines = faces.map((face, index) => {
    const { x, y, width: w, height: h } = face.box;
    return svg("g", { class: "face" }, svg("title", { text: `Face ${index + 1}, ${percent(face.score)}` }),
      svg("rect", { x, y, width: w, height: h, rx: Math.min(w, h) / 12 }));
  });
  // Zero-length strokes with round ends are dots with the same size at any zoom.
  const dots = faces.flatMap((face) => Object.values(face.landmarks ?? {})).map(({ x, y }) => `M${x} ${y}h0`).join("");
  const points = svg("path", { class: "dots", d: dots || "M0 0", visibility: "hidden" });
  if (stage.querySelector("img")) {
    stage.append(svg("svg", { class: "overlay", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...outlines, points));
  }
  const show = (index, on) => outlines[index].classList.toggle("lit", on);
  const list = el("ol", { class: "faces" }, ...faces.map((face, index) => {
    const item = el("li", { tabindex: 0, onmouseenter: () => show(index, true), onmouseleave: () => show(index, false),
      onfocus: () => show(index, true), onblur: () => show(index, false) },
    el("span", { text: `Face ${index + 1}` }), el("span", { class: "soft", text: percent(face.score) }));
    outlines[index].addEventListener("mouseenter", () => item.classList.add("lit"));
    outlines[index].addEventListener("mouseleave", () => item.classList.remove("lit"));
    return item;
  }));
  const dotsToggle = el("input", { type: "checkbox" });
  dotsToggle.addEventListener("change", () => points.setAttribute("visibility", dotsToggle.checked ? "visible" : "hidden"));
  view.append(el("div", { class: "side" }, list,
    dots && el("label", { class: "tick" }, dotsToggle, " Show eyes, nose and mouth as points")));
  return view;
}
