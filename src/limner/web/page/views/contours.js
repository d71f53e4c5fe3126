/** `contours`: the SVG inline, its regions with switches and highlighting, and the landmarks on top. */

import { artifactAddress } from "../api.js";
import { single } from "../compare.js";
import { el, plural, saveFile, sentence, svg } from "../dom.js";
import { outline, overlay } from "../faces.js";
import { notesList } from "../notes.js";
import { originalOf, plate } from "./any.js";

const isSvg = (artifact) => artifact.media_type === "image/svg+xml";

export const picture = (job) => job.artifacts?.find(isSvg) ?? null;

export function headline(job) {
  const faces = job.result?.faces?.length ?? 0;
  if (faces > 1) return plural(faces, "face");
  const regions = Object.keys(job.result?.mask_contours ?? {}).length;
  return regions ? `${regions} regions` : "Contours";
}

// Only shapes, text and the embedded photo are copied, although the SVG is from the server. No scripts, links or styles.
const ELEMENTS = new Set(["svg", "g", "path", "polygon", "polyline", "rect", "circle", "ellipse", "line", "text", "tspan",
  "title", "desc", "defs", "clipPath", "mask", "image", "use"]);
const ATTRIBUTES = new Set(["id", "data-region", "viewBox", "preserveAspectRatio", "d", "points", "x", "y", "x1", "y1", "x2",
  "y2", "cx", "cy", "r", "rx", "ry", "width", "height", "transform", "fill", "fill-opacity", "fill-rule", "clip-rule",
  "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity",
  "clip-path", "clipPathUnits", "mask", "font-size", "font-family", "font-weight", "text-anchor", "dominant-baseline",
  "dx", "dy", "paint-order", "vector-effect"]);

/** A copy with allowed elements and attributes only, or null. Ids get a prefix, so that they differ from the page's ids. */
function cleanCopy(node) {
  if (!ELEMENTS.has(node.localName)) return null;
  const copy = svg(node.localName);
  const style = node.getAttribute("data-style") ?? "";
  const declared = style.split(";").map((part) => part.split(/:(.*)/s).map((word) => word?.trim()));
  const given = [...node.attributes].map(({ name, value }) => [name, value]);
  for (const [name, value] of [...given, ...declared]) {
    if (ATTRIBUTES.has(name) && value) {
      copy.setAttribute(name, name === "id" ? `drawn-${value}` : value.replace(/url\(["']?#([^)"']*)["']?\)/g, "url(#drawn-$1)"));
    }
  }
  const link = node.getAttribute("href") ?? node.getAttributeNS("http://www.w3.org/1999/xlink", "href") ?? "";
  if (link.startsWith("#")) copy.setAttribute("href", `#drawn-${link.slice(1)}`);
  else if (/^data:image\/(png|jpeg|webp);/.test(link)) copy.setAttribute("href", link);
  for (const child of node.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) copy.append(child.data);
    else if (child.nodeType === Node.ELEMENT_NODE) {
      const inner = cleanCopy(child);
      if (inner) copy.append(inner);
    }
  }
  return copy;
}

async function drawing(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  const text = await response.text();
  // The page's CSP reports inline styles and handlers even in a parsed document, so they are renamed before parsing.
  const renamed = text.replace(/<style[\s\S]*?<\/style>/g, "").replace(/\s(style|on\w+)=/g, " data-$1=");
  const root = new DOMParser().parseFromString(renamed, "image/svg+xml").documentElement;
  if (root.localName !== "svg" || root.querySelector("parsererror")) throw new Error("The file is not an SVG.");
  return { text, node: cleanCopy(root) };
}

/** Polygons of `mask_contours`, for an SVG without named regions. */
function polygons(rings) {
  return Object.entries(rings ?? {}).map(([name, each]) => svg("g", { "data-region": name, fill: "#A16AA9", "fill-opacity": 0.5 },
    svg("path", { d: each.map((ring) => `M${ring.map((point) => point.join(" ")).join("L")}Z`).join(""), "fill-rule": "evenodd" })));
}

/** The landmarks, source pixels → SVG pixels, as dots with the same size at any zoom. */
function landmarkDots({ landmarks, transform }) {
  if (!landmarks?.length) return null;
  const [[a, b, c], [d, e, f], [g, h, i]] = transform ?? [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  const dots = landmarks.map(({ x, y }) => {
    const w = g * x + h * y + i || 1;
    return `M${((a * x + b * y + c) / w).toFixed(1)} ${((d * x + e * y + f) / w).toFixed(1)}h0`;
  });
  return svg("path", { class: "dots", d: dots.join(""), visibility: "hidden" });
}

const box = (label, checked, change) => {
  const input = el("input", { type: "checkbox", checked });
  input.addEventListener("change", () => change(input.checked));
  return { input, label: el("label", { class: "tick" }, input, ` ${label}`) };
};

/** The switches for one SVG; `result` is of its face. */
function switches(node, result, caption) {
  const groups = [...node.querySelectorAll("[data-region]")];
  const name = (group) => {
    const region = group.getAttribute("data-region");
    const title = [...group.children].find((child) => child.localName === "title")?.textContent;
    return sentence(title || region);
  };
  const light = (group, on) => {
    group.classList.toggle("lit", on);
    caption.textContent = on ? name(group) : "\u00a0";
  };
  const regions = groups.map((group) => {
    const each = box(name(group), true, (on) => {
      if (on) group.removeAttribute("display");
      else group.setAttribute("display", "none");
    });
    for (const [on, ...events] of [[true, "mouseenter", "focusin"], [false, "mouseleave", "focusout"]]) {
      for (const event of events) each.label.addEventListener(event, () => light(group, on));
    }
    group.addEventListener("mouseenter", () => { light(group, true); each.label.classList.add("lit"); });
    group.addEventListener("mouseleave", () => { light(group, false); each.label.classList.remove("lit"); });
    return each;
  });
  const all = (on) => el("button", { type: "button", text: on ? "All" : "None", onclick: () => {
    for (const { input } of regions) if (input.checked !== on) input.click();
  } });
  const photo = node.querySelector("image");
  const dots = landmarkDots(result);
  if (dots) node.append(dots);
  const source = { client: "sent with the photo", server: "found by the server" }[result.landmarks_source];
  return el("div", { class: "side" },
    el("div", { class: "layers" },
      photo && box("Photo", true, (on) => photo.setAttribute("visibility", on ? "visible" : "hidden")).label,
      dots && box(`Landmarks (${result.landmarks.length}${source ? `, ${source}` : ""})`, false,
        (on) => dots.setAttribute("visibility", on ? "visible" : "hidden")).label),
    regions.length > 0 && el("fieldset", { class: "regions" }, el("legend", { text: "Regions" }),
      el("div", { class: "row" }, all(true), all(false)), el("div", { class: "region-list" }, ...regions.map((each) => each.label))));
}

/** One drawing with its switches. `result` is of its face; `further` are buttons for it. */
function faceView(job, artifact, result, localUrl, further) {
  const words = headline(job);
  const stage = plate(job, artifact, localUrl, words);
  const view = el("div", { class: "view" }, stage);
  if (!artifact) return view;
  const notes = notesList({ assumptions: result.assumptions });
  view.append(notes);
  const caption = el("p", { class: "caption", "aria-hidden": "true", text: "\u00a0" });
  drawing(artifactAddress(job, artifact)).then(({ text, node }) => {
    if (!node.querySelector("[data-region]")) node.append(...polygons(result.mask_contours));
    if (!node.hasAttribute("viewBox")) node.setAttribute("viewBox", `0 0 ${artifact.width} ${artifact.height}`);
    node.removeAttribute("width");
    node.removeAttribute("height");
    node.setAttribute("class", "drawing");
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", words);
    stage.frame.querySelector("img").replaceWith(node);
    stage.frame.classList.add("whole-width");
    stage.append(caption);
    const side = switches(node, result, caption);
    side.append(el("div", { class: "row" },
      el("button", { type: "button", text: "Save SVG", onclick: () => saveFile(`${job.id}-${artifact.name}`, text, "image/svg+xml") }),
      el("button", { type: "button", text: "Save JSON",
        onclick: () => saveFile(`${job.id}-contours.json`, JSON.stringify(job.result, null, 2), "application/json") })));
    side.append(...[further, notes].filter(Boolean));
    view.append(side);
  }).catch((error) => view.append(el("p", { class: "fault", text: `The regions cannot be shown separately. ${error.message}` })));
  return view;
}

/** The photo with the place of each face, to click; null if it cannot be shown. */
function places(job, faces, localUrl, choose) {
  const original = originalOf(job, localUrl);
  if (!original || !job.result.image || !faces.every((face) => face.crop)) return null;
  const words = "Where the faces are";
  const stage = single(el("img", { src: original, alt: words, draggable: "false" }), words);
  const outlines = faces.map((face, index) => outline(face.crop, "face numbered", svg("title", { text: `Face ${index + 1}` })));
  outlines.forEach((each, index) => each.addEventListener("click", () => choose(index)));
  const drawn = overlay(job.result.image, ...outlines);
  drawn.setAttribute("aria-hidden", "true"); // by keyboard, the faces are chosen in the list
  stage.layer.append(drawn);
  stage.frame.classList.add("places");
  const light = (index) => outlines.forEach((each, other) => each.classList.toggle("chosen", other === index));
  light(0);
  return { stage, light };
}

/** A button that draws another choice of faces. */
function redraw(words, face, tools) {
  const fault = el("span", { class: "fault", role: "alert" });
  const button = el("button", { type: "button", text: words, onclick: async () => {
    button.disabled = true;
    fault.textContent = "";
    await tools.rerun({ face }).catch((problem) => { fault.textContent = problem.message; });
    button.disabled = false;
  } });
  return el("div", { class: "row" }, button, fault);
}

export function open(job, localUrl, tools) {
  const result = job.result ?? {};
  const faces = (result.faces ?? []).map((face) => ({ ...face, landmarks_source: result.landmarks_source }));
  const named = ({ artifact }) => job.artifacts?.find(({ name }) => name === artifact);
  const several = (result.assumptions ?? []).some((each) => /^The photo has \d+ faces/.test(each));
  if (faces.length < 2) {
    const others = tools && several && job.parameters?.face !== "all" && redraw("Draw the other faces too", "all", tools);
    return faceView(job, picture(job), faces[0] ?? result, localUrl, others);
  }
  // A face that was left out has a number too, so the numbers are known only if all are there.
  const all = !(result.assumptions ?? []).some((each) => each.startsWith("Left out"));
  const shown = (index) => faceView(job, named(faces[index]) ?? picture(job), faces[index], localUrl,
    tools && all && redraw("Draw only this face", String(index + 1), tools));
  const holder = el("div", {}, shown(0));
  const inputs = faces.map((_, index) => el("input", { type: "radio", name: "take", value: index, checked: index === 0 }));
  const onPhoto = places(job, faces, localUrl, (index) => inputs[index].click());
  inputs.forEach((input, index) => input.addEventListener("change", () => {
    onPhoto?.light(index);
    holder.replaceChildren(shown(index));
  }));
  return el("div", { class: "contours-faces" }, el("div", { class: "face-choice" }, el("fieldset", { class: "takes" }, el("legend", { text: "Faces" }),
    ...faces.map((face, index) => el("label", { class: "tile" }, inputs[index],
      el("span", { class: "tile-picture" }, el("img", { src: artifactAddress(job, named(face)), alt: "" })),
      el("span", { class: "tile-name", text: `Face ${index + 1}` })))), onPhoto?.stage), holder);
}
