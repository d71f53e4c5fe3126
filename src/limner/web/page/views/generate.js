/** `generate`: the original beside each picture that was made, and what it was made with. */

import { artifactAddress, inputAddress } from "../api.js";
import { compare } from "../compare.js";
import { el, plural, sentence } from "../dom.js";
import { picture, plate } from "./any.js";

export { picture };

const WORDS = { drawn: "Drawn", styles: "Painted" };

export function headline(job) {
  const count = job.result?.pictures?.length ?? 1;
  const by = job.result?.painter ?? "";
  if (count > 1) return plural(count, "picture");
  return WORDS[by] ?? (by ? `Made by ${sentence(by)}` : "Picture made");
}

/** The stage for one of the pictures. */
function stageOf(job, artifact, localUrl) {
  const photo = job.inputs?.find((each) => each.name === "image");
  const original = photo ? inputAddress(job, photo) : localUrl;
  if (!artifact || !original) return plate(job, artifact, localUrl, headline(job));
  return compare({ original, result: artifactAddress(job, artifact), width: artifact.width, height: artifact.height, words: headline(job) });
}

export function open(job, localUrl) {
  const pictures = job.result?.pictures ?? [];
  const artifacts = pictures.map(({ name }) => job.artifacts.find((each) => each.name === name));
  const holder = el("div", { class: "stage" }, stageOf(job, artifacts[0] ?? picture(job), localUrl));
  const view = el("div", { class: "view" }, holder);
  const side = el("div", { class: "side" });
  if (pictures.length > 1) {
    side.append(el("fieldset", { class: "takes" }, el("legend", { text: "Pictures" }), ...pictures.map(({ seed }, index) => {
      const input = el("input", { type: "radio", name: "take", value: index, checked: index === 0 });
      input.addEventListener("change", () => holder.replaceChildren(stageOf(job, artifacts[index], localUrl)));
      return el("label", { class: "tile" }, input,
        el("span", { class: "tile-picture" }, el("img", { src: artifactAddress(job, artifacts[index]), alt: "" })),
        el("span", { class: "tile-name", text: `Seed ${seed}` }));
    })));
  }
  const { parameters } = job;
  if (parameters) {
    const rows = Object.entries(parameters).filter(([name, value]) => name !== "cache" && ["string", "number", "boolean"].includes(typeof value));
    side.append(el("dl", { class: "values" }, ...rows.flatMap(([name, value]) =>
      [el("dt", { text: sentence(name) }), el("dd", { text: value === true ? "yes" : value === false ? "no" : String(value) })])));
  }
  if (side.children.length) view.append(side);
  return view;
}
