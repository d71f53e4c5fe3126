/** The result of any operation: its pictures and its simple values. */

import { artifactAddress } from "../api.js";
import { el, plural, sentence } from "../dom.js";

const isPicture = (artifact) => artifact.media_type?.startsWith("image/");

export const picture = (job) => job.artifacts?.find(isPicture) ?? null;

export function headline(job) {
  const faces = job.result?.faces?.length ?? job.summary?.faces_count;
  return Number.isInteger(faces) && faces > 0 ? plural(faces, "face") : "Done";
}

/** The large picture, or a frame with text if there is none. */
export function plate(job, artifact, localUrl, words) {
  const source = artifact ? artifactAddress(job, artifact) : localUrl;
  if (!source) return el("div", { class: "plate bare" }, el("p", { text: words }));
  const image = el("img", { src: source, alt: words, width: artifact?.width, height: artifact?.height });
  return el("div", { class: "plate" }, image);
}

export function open(job, localUrl) {
  const pictures = (job.artifacts ?? []).filter(isPicture);
  const plain = Object.entries(job.result ?? {}).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
  return el("div", { class: "view" },
    ...(pictures.length ? pictures : [null]).map((artifact) =>
      plate(job, artifact, localUrl, artifact ? sentence(artifact.name) : "This job has no picture")),
    plain.length > 0 && el("dl", { class: "values" }, ...plain.flatMap(([name, value]) =>
      [el("dt", { text: sentence(name) }), el("dd", { text: String(value) })])));
}
