/** `crop`: the part of the photo, where it was, and another shape at once; or each face that was cut out. */

import { artifactAddress } from "../api.js";
import { single } from "../compare.js";
import { el, plural } from "../dom.js";
import { ShapeChoice, aspectOf, frameOverlay } from "../frame.js";
import { frameOf } from "../framing.js";
import { originalOf, picture, plate } from "./any.js";

export { picture };

/** "Cropped: 400 × 300"; "Cut out: 3 faces" */
export function headline(job) {
  const crops = job.result?.crops;
  const [first] = job.artifacts ?? [];
  if (job.parameters?.each) {
    const count = crops?.length ?? job.summary?.crops_count ?? 0;
    return count ? `Cut out: ${plural(count, "face")}` : "No face found";
  }
  const size = crops?.[0] ?? first;
  return size?.width ? `Cropped: ${size.width} × ${size.height}` : "Cropped";
}

/** Where a picture was in the photo, if it was not turned. */
function placeOf({ transform: [[a, , c], [, e, f]], width, height }) {
  return { x: -c / a, y: -f / e, width: width / a, height: height / e };
}

/** Each face as a tile; the chosen one is large. */
function faces(job) {
  const { crops } = job.result;
  const files = crops.map(({ name }) => job.artifacts.find((each) => each.name === name));
  const large = (index) => plate(job, files[index], null, `Face ${index + 1}`);
  const holder = el("div", {}, large(0));
  return [holder, el("div", { class: "side" }, el("fieldset", { class: "takes" }, el("legend", { text: "Faces" }), ...crops.map(({ score }, index) => {
    const input = el("input", { type: "radio", name: "take", value: index, checked: index === 0 });
    input.addEventListener("change", () => holder.replaceChildren(large(index)));
    return el("label", { class: "tile" }, input,
      el("span", { class: "tile-picture" }, el("img", { src: artifactAddress(job, files[index]), alt: "" })),
      el("span", { class: "tile-name", text: `Face ${index + 1}, ${Math.round(score * 100)} %` }));
  })))];
}

/** The whole photo with the frame, and what another shape or a closer frame would show. */
function frame(job, localUrl, tools) {
  const { image: size, faces: found, crops: [cut] } = job.result;
  const original = originalOf(job, localUrl);
  if (!original || job.withheld || cut.transform[0][1] !== 0) return null;
  const words = "The frame on the photo";
  const image = el("img", { src: original, alt: words, width: size.width, height: size.height, draggable: "false" });
  const stage = single(image, words);
  const over = frameOverlay(size);
  stage.layer.append(over.element);
  over.show(placeOf(cut));
  image.addEventListener("error", () => stage.replaceWith(el("p", { class: "soft", text: "The original is in a format that this browser cannot show." })));
  if (!tools) return { stage, controls: "" };

  const { zoom, ...given } = job.parameters ?? {};
  const chosen = { aspect: given.aspect ?? null, zoom: zoom ?? 0 };
  const fault = el("p", { class: "fault", role: "alert" });
  const apply = el("button", { type: "button", class: "primary", text: "Crop like this", disabled: true, onclick: async () => {
    apply.disabled = true;
    fault.textContent = "";
    const shape = chosen.aspect ? { aspect: chosen.aspect, ...(given.width && given.height ? { height: null } : {}) } : {};
    await tools.rerun({ ...shape, zoom: chosen.zoom }).catch((problem) => {
      fault.textContent = problem.message;
      apply.disabled = false;
    });
  } });
  const changed = () => {
    over.show(frameOf(size, found, chosen.aspect ? aspectOf(chosen) : aspectOf(given), chosen.zoom));
    apply.disabled = false;
  };
  const shapes = new ShapeChoice("crop-shape", (shape) => { chosen.aspect = shape; changed(); });
  shapes.value = given.aspect ?? (given.width && given.height ? null : "1:1");
  const close = el("input", { type: "range", id: "crop-zoom", min: 0, max: 1, step: 0.01, value: chosen.zoom, disabled: found.length === 0 });
  close.addEventListener("input", () => { chosen.zoom = Number(close.value); changed(); });
  const about = job.result.about === "faces" ? `About ${plural(found.length, "face")}.`
    : "No face was found, so it shows what else catches the eye. The service finds that place anew for another shape.";
  return { stage, controls: el("div", { class: "side" }, el("p", { class: "soft", text: about }), shapes.element,
    el("div", { class: "field" }, el("label", { for: close.id, text: "How close" }), close), fault, el("div", { class: "row" }, apply)) };
}

export function open(job, localUrl, tools) {
  if (!job.result?.crops?.length) return el("div", { class: "view" }, plate(job, null, originalOf(job, localUrl), "No face was found in this photo."));
  if (job.parameters?.each || job.result.crops.length > 1) return el("div", { class: "view" }, ...faces(job));
  const result = plate(job, picture(job), null, headline(job));
  const made = frame(job, localUrl, tools);
  if (!made) return el("div", { class: "view" }, result);
  const holder = el("div", {}, result);
  const ways = el("fieldset", { class: "chips crop-ways" }, el("legend", { class: "hidden", text: "Shown" }), ...[["Result", result], ["Frame on the photo", made.stage]].map(([words, stage], index) => {
    const input = el("input", { type: "radio", name: "crop-shown", value: index, checked: index === 0 });
    input.addEventListener("change", () => holder.replaceChildren(stage));
    return el("label", { class: "chip" }, input, el("span", { text: words }));
  }));
  const onPhoto = () => {
    ways.querySelectorAll("input")[1].checked = true;
    holder.replaceChildren(made.stage);
  };
  if (made.controls) made.controls.addEventListener("input", onPhoto);
  return el("div", { class: "view" }, el("div", { class: "crop-shown" }, ways, holder), made.controls);
}
