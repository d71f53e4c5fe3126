/** Photos that come in: from the file chooser, the camera, the clipboard, or dropped anywhere on the page. */

import { Camera } from "./camera.js";
import { byId, plural, say } from "./dom.js";
import { dropped, photosOf } from "./folders.js";

/** @param {(photos: File[]) => void} take called with the photos each time */
export function listenForPhotos(take) {
  const picker = byId("files");
  for (const id of ["drop", "tray-other"]) byId(id).addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => {
    take([...picker.files]);
    picker.value = "";
  });

  /** @param {import("./folders.js").Found} found */
  const takeFound = ({ photos, others, more }) => {
    if (photos.length) take(photos);
    if (more) say(`Only the first ${photos.length} photos of the folder were added.`);
    else if (others) say(`${plural(others, "file")} left out, because ${others === 1 ? "it is no photo" : "they are no photos"}.`);
    else if (photos.length === 0) say("There is no photo in it.");
  };
  const folder = byId("folder");
  byId("choose-folder").addEventListener("click", () => folder.click());
  byId("choose-folder").hidden = !("webkitdirectory" in folder) || matchMedia("(pointer: coarse)").matches; // phones have no folders
  folder.addEventListener("change", () => {
    takeFound(photosOf(folder.files));
    folder.value = "";
  });
  const camera = new Camera((photo) => take([photo]));
  byId("camera").addEventListener("click", () => camera.open());

  addEventListener("paste", (event) => {
    const files = event.clipboardData?.files ?? [];
    if (files.length === 0) return;
    event.preventDefault();
    take([...files]);
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
    if (!hasFiles(event)) return;
    dropped(event.dataTransfer).then(takeFound, (error) => say(`The folder could not be read. ${error.message}`));
  });
}
