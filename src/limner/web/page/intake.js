/** Photos that come in: from the file chooser, the camera, the clipboard, or dropped anywhere on the page. */

import { Camera } from "./camera.js";
import { byId } from "./dom.js";

/** @param {(photos: Iterable<File>) => void} take called with the photos each time */
export function listenForPhotos(take) {
  const picker = byId("files");
  for (const id of ["drop", "tray-other"]) byId(id).addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => {
    take(picker.files);
    picker.value = "";
  });
  const camera = new Camera((photo) => take([photo]));
  byId("camera").addEventListener("click", () => camera.open());

  addEventListener("paste", (event) => {
    const files = event.clipboardData?.files ?? [];
    if (files.length === 0) return;
    event.preventDefault();
    take(files);
  });

  // Files can be dropped anywhere. Entering and leaving inner elements fires events too, so they are counted.
  let depth = 0;
  const overlay = byId("drop-overlay");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files") && !document.querySelector("dialog[open]");
  const showOverlay = (on) => {
    depth = on ? depth : 0;
    overlay.hidden = !on;
  };
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    depth += 1;
    showOverlay(true);
  });
  addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (depth === 0) showOverlay(false);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault(); // otherwise the browser opens the file instead of the page
    showOverlay(false);
    if (hasFiles(event)) take(event.dataTransfer.files);
  });
}
