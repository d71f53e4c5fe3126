/** The result of any operation: its pictures and its simple values. */

import { artifactAddress, inputAddress } from "../api.js";
import { compare, single } from "../compare.js";
import { el, plural, sentence } from "../dom.js";

const isPicture = (artifact) => artifact.media_type?.startsWith("image/");

export const picture = (job) => job.artifacts?.find(isPicture) ?? null;

export function headline(job) {
  const faces = job.result?.faces?.length ?? job.summary?.faces_count;
  return Number.isInteger(faces) && faces > 0 ? plural(faces, "face") : "Done";
}

/** The address of the photo that was sent, or of the copy that this page still has; null if there is none. */
export function originalOf(job, localUrl) {
  const photo = job.inputs?.find((each) => each.name === "image");
  return photo ? inputAddress(job, photo) : localUrl;
}

/** The large picture, or a frame with text if there is none. */
export function plate(job, artifact, localUrl, words) {
  const source = artifact ? artifactAddress(job, artifact) : localUrl;
  if (!source) return el("div", { class: "plate bare" }, el("p", { text: words }));
  return single(el("img", { src: source, alt: words, width: artifact?.width, height: artifact?.height, draggable: "false" }), words);
}

/** The original beside the result, if there are both; else the one there is. */
export function comparison(job, artifact, localUrl, words, { withheld = false, at = 50 } = {}) {
  const original = originalOf(job, localUrl);
  if (!artifact || !original) return plate(job, artifact, job.withheld ? null : original, words);
  return compare({ original, result: artifactAddress(job, artifact), width: artifact.width, height: artifact.height, words, at,
    withheld: withheld || Boolean(job.withheld) });
}

/** A list of names and values, without those that are null. */
export function values(rows) {
  const known = rows.filter(([, value]) => ["string", "number", "boolean"].includes(typeof value) && value !== "");
  const word = (value) => (value === true ? "yes" : value === false ? "no" : String(value));
  return known.length > 0 && el("dl", { class: "values" }, ...known.flatMap(([name, value]) =>
    [el("dt", { text: sentence(name) }), el("dd", { text: word(value) })]));
}

export function open(job, localUrl) {
  const pictures = (job.artifacts ?? []).filter(isPicture);
  return el("div", { class: "view" },
    ...(pictures.length ? pictures : [null]).map((artifact) =>
      comparison(job, artifact, localUrl, artifact ? sentence(artifact.name) : "This job has no picture")),
    values(Object.entries(job.result ?? {})));
}
