/** `detect`: the marked picture beside the original, the faces with small pictures, mesh and pose, and what is covered. */

import { COVERS, CoverEditor } from "../cover.js";
import { el, plural, svg } from "../dom.js";
import { crop, outline, overlay } from "../faces.js";
import { meshLines, poseLines, poseWords } from "../mesh.js";
import { comparison, originalOf, picture } from "./any.js";

export { picture };

const percent = (score) => `${Math.round(score * 100)} %`;
const START = 12; // %, of the line: most of the result is shown

export function headline(job) {
  const count = job.result?.faces?.length ?? job.summary?.faces_count;
  if (!Number.isInteger(count)) return "Done";
  return count === 0 ? "No face found" : plural(count, "face");
}

/** A switch for something that lies on the picture. */
function layerSwitch(words, nodes) {
  const input = el("input", { type: "checkbox" });
  const show = () => nodes.forEach((each) => each.setAttribute("visibility", input.checked ? "visible" : "hidden"));
  input.addEventListener("change", show);
  show();
  return el("label", { class: "tick" }, input, ` ${words}`);
}

/** What can be laid over the photo: points, mesh, pose. */
function layers(faces, on) {
  // Zero-length strokes with round ends are dots with the same size at any zoom.
  const dots = faces.flatMap((face) => Object.values(face.landmarks ?? {})).map(({ x, y }) => `M${x} ${y}h0`).join("");
  const points = dots && svg("path", { class: "dots", d: dots });
  const meshed = faces.filter((face) => face.mesh?.points?.length);
  const mesh = meshed.length > 0 && svg("g", { class: "mesh" }, ...meshed.flatMap((face) => meshLines(face.mesh.points)));
  const pose = meshed.length > 0 && svg("g", {}, ...meshed.flatMap((face) => poseLines(face.mesh, face.box)));
  const known = [[points, "Show eyes, nose and mouth as points"], [mesh, "Show the mesh"], [pose, "Show where the heads point"]];
  on.append(...known.map(([node]) => node).filter(Boolean));
  return known.filter(([node]) => node).map(([node, words]) => layerSwitch(words, [node]));
}

/** The faces as a list; each lights its place on the picture. */
function faceList(faces, outlines, open) {
  const light = (index, on) => outlines[index].classList.toggle("lit", on);
  return el("ol", { class: "faces" }, ...faces.map((face, index) => {
    const facts = [percent(face.score), face.mesh && poseWords(face.mesh.pose)].filter(Boolean).join(" · ");
    const item = el("li", { tabindex: 0, onmouseenter: () => light(index, true), onmouseleave: () => light(index, false),
      onfocus: () => light(index, true), onblur: () => light(index, false) },
    el("span", { class: "face-place", "data-number": index + 1 }),
    el("span", { class: "face-words" }, el("span", { text: `Face ${index + 1}` }), el("span", { class: "soft", text: facts })));
    outlines[index].addEventListener("mouseenter", () => item.classList.add("lit"));
    outlines[index].addEventListener("mouseleave", () => item.classList.remove("lit"));
    outlines[index].addEventListener("click", () => open(index, item));
    return item;
  }));
}

/** @param {{rerun: (changes: object) => Promise<void>}} [tools] */
export function open(job, localUrl, tools) {
  const faces = job.result?.faces ?? [];
  const size = job.result?.image;
  const artifact = picture(job);
  const covered = Boolean(artifact) && COVERS.includes(job.parameters?.mark);
  const stage = comparison(job, artifact, localUrl, headline(job), { withheld: covered, at: covered ? 50 : START });
  const view = el("div", { class: "view" }, stage);
  const side = el("div", { class: "side" });
  view.append(side);
  if (faces.length === 0) {
    side.append(el("p", { class: "soft", text: "No face was found in this photo. A lower minimum score or “Precise” may find more." }));
  }
  if (!stage.layer || !size) return view;

  const original = originalOf(job, localUrl);
  const photo = original ? new Image() : null;
  let shown = false;
  const outlines = faces.map((face, index) => outline(face.box, "face", svg("title", { text: `Face ${index + 1}, ${percent(face.score)}` })));
  const drawn = overlay(size, ...outlines);
  drawn.setAttribute("aria-hidden", "true");
  stage.layer.append(drawn);
  const list = faceList(faces, outlines, (index, item) => {
    if (covered) edit(index);
    else item.focus();
  });

  /** The small pictures show who it is, so of a covered photo they are made only when its original is wanted. */
  const showCrops = () => {
    if (!photo) return;
    shown = true;
    photo.src = original;
    faces.forEach((face, index) => list.children[index].firstElementChild.append(crop(photo, face.box, size)));
  };
  const { reveal } = stage;
  reveal?.addEventListener("click", () => {
    showCrops();
    list.firstElementChild?.focus();
  });
  if (!reveal && !job.withheld) showCrops();

  const meshless = tools && faces.length > 0 && !faces.some((face) => face.mesh);
  const fault = el("p", { class: "fault", role: "alert" });
  const findMesh = meshless && el("button", { type: "button", text: "Find mesh and pose", onclick: () => {
    fault.textContent = "";
    tools.rerun({ landmarks: "mesh" }).catch((problem) => { fault.textContent = problem.message; });
  } });
  const change = tools && el("button", { type: "button", text: covered ? "Change what is covered" : "Cover faces…", onclick: () => edit(null) });
  const buttons = el("div", { class: "row" }, change, reveal, findMesh);
  const calm = el("div", { class: "side" }, faces.length > 0 && list, ...layers(faces, drawn), buttons, fault);
  side.append(calm);

  let editor = null;
  function edit(index) {
    if (!tools || editor) return;
    drawn.classList.add("passive");
    editor = new CoverEditor(job, stage, { photo: shown ? photo : null, rerun: tools.rerun, close });
    calm.hidden = true;
    side.append(editor.element);
    if (index !== null) editor.toggle(index);
    editor.element.querySelector("input, button").focus({ preventScroll: true });
  }
  function close() {
    editor.end();
    editor.element.remove();
    editor = null;
    drawn.classList.remove("passive");
    calm.hidden = false;
    change.focus();
  }
  return view;
}
