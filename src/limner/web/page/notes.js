/** What a result says of itself: what was assumed, and what the pictures do not keep. */

import { el } from "./dom.js";

const NAMES = ["warnings", "assumptions", "notes"];

/** The sentences of a result, of its faces and of its steps, each once. @returns {string[]} */
function notesOf(result) {
  const parts = [result, ...(result?.faces ?? []), ...Object.values(result?.steps ?? {}).flatMap((step) => notesOf(step.result))];
  return [...new Set(parts.flatMap((part) => (typeof part === "string" ? part : NAMES.flatMap((name) => part?.[name] ?? []))))];
}

/** They as a list, or "". */
export function notesList(result) {
  const notes = notesOf(result);
  if (notes.length === 0) return "";
  return el("section", { class: "notes", "aria-label": "Notes" }, el("h3", { text: "Good to know" }),
    el("ul", { role: "list" }, ...notes.map((text) => el("li", { text }))));
}
