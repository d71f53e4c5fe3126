/** The keyboard: `?` tells what there is. Keys of one letter can be switched off, for who speaks to the computer. */

import { byId, memory } from "./dom.js";

const TYPING = "input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select, [contenteditable]";

/**
 * @param {import("./board.js").Board} board
 * @param {import("./selection.js").Selection} selection
 * @param {import("./deletions.js").Deletions} deletions
 */
export function listenForKeys(board, selection, deletions) {
  const dialog = byId("keys-dialog");
  const letters = byId("single-keys");
  letters.checked = memory.get("single-keys", true) !== false;
  letters.addEventListener("change", () => memory.set("single-keys", letters.checked));
  byId("keys").addEventListener("click", () => dialog.showModal());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });

  const steps = {
    ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: () => board.columns, ArrowUp: () => -board.columns,
    Home: () => -Infinity, End: () => Infinity,
  };

  function onCard(event) {
    if (!byId("cards").contains(event.target)) return false;
    const record = board.focused;
    if (!record) return false;
    if (event.key in steps) {
      const place = board.shown.indexOf(record) + steps[event.key]();
      const next = board.shown[Math.min(board.shown.length - 1, Math.max(0, place))];
      if (next !== record) board.focus(next);
    } else if (event.key === "x") {
      if (record.job) selection.set(record, !record.selected);
    } else if (event.key === "Delete") {
      if (selection.size) selection.erase();
      else if (record.job?.finished_at) deletions.ask([record]);
    } else return false;
    return true;
  }

  function withControl(event) {
    if (!event.ctrlKey && !event.metaKey) return false;
    if (event.key === "z" && deletions.any) deletions.undo();
    else if (event.key === "a" && byId("cards").contains(event.target)) selection.all();
    else return false;
    return true;
  }

  function anywhere(event) {
    if (event.key === "Escape" && selection.size) selection.clear();
    else if (!letters.checked) return false;
    else if (event.key === "?") dialog.showModal();
    else if (event.key === "/") byId("search").focus();
    else return false;
    return true;
  }

  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.altKey || document.querySelector("dialog[open]")) return;
    if (byId("content").hidden || event.target.closest?.(TYPING)) return;
    const plain = !event.ctrlKey && !event.metaKey;
    if (withControl(event) || (plain && (onCard(event) || anywhere(event)))) event.preventDefault();
  });
}
