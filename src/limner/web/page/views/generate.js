/** `generate`: the original beside each picture that was made, and what it was made with. */

import { artifactAddress } from "../api.js";
import { el, plural, sentence } from "../dom.js";
import { comparison, picture, values } from "./any.js";

export { picture };

const WORDS = { drawn: "Drawn", styles: "Painted" };
const NOT_SHOWN = new Set(["cache", "painter", "style", "preset", "provenance", "operation", "name", "style_image"]);

/** "Drawn: ink"; "3 pictures, ink" */
export function headline(job) {
  const count = job.result?.pictures?.length ?? job.summary?.pictures_count ?? 1;
  const by = job.result?.painter ?? job.parameters?.painter ?? "";
  const style = (job.parameters?.style ?? job.parameters?.preset ?? "").replaceAll("-", " ");
  if (count > 1) return [plural(count, "picture"), style].filter(Boolean).join(", ");
  const made = WORDS[by] ?? (by ? `Made by ${sentence(by)}` : "Picture made");
  return style ? `${made}: ${style}` : made;
}

export function open(job, localUrl) {
  const pictures = job.result?.pictures ?? [];
  const artifacts = pictures.map(({ name }) => job.artifacts.find((each) => each.name === name));
  const shown = (artifact) => comparison(job, artifact, localUrl, headline(job));
  const holder = el("div", {}, shown(artifacts[0] ?? picture(job)));
  const side = el("div", { class: "side" });
  if (pictures.length > 1) {
    side.append(el("fieldset", { class: "takes" }, el("legend", { text: "Pictures" }), ...pictures.map(({ seed }, index) => {
      const input = el("input", { type: "radio", name: "take", value: index, checked: index === 0 });
      input.addEventListener("change", () => holder.replaceChildren(shown(artifacts[index])));
      return el("label", { class: "tile" }, input,
        el("span", { class: "tile-picture" }, el("img", { src: artifactAddress(job, artifacts[index]), alt: "" })),
        el("span", { class: "tile-name", text: seed === undefined ? `Picture ${index + 1}` : `Seed ${seed}` }));
    })));
  }
  const { painter, style, preset, ...rest } = job.parameters ?? {};
  const list = values([["painter", painter], ["style", style ?? preset], ...Object.entries(rest).filter(([name]) => !NOT_SHOWN.has(name))]);
  side.append(...[list].filter(Boolean));
  return el("div", { class: "view" }, holder, side.children.length > 0 && side);
}
