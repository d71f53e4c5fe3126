/** Where the faces of a photo are, at a glance: one frame for live detection, of which the service keeps nothing. */

import { socketAddress, ticket } from "./api.js";
import { session } from "./session.js";

const LONGEST_SIDE = 640; // the service looks at no more
const PATIENCE_MS = 8000;

/**
 * @param {HTMLImageElement} image that has been loaded
 * @returns {Promise<?object[]>} boxes in the image's pixels; null if the service does not tell
 */
export async function facesIn(image) {
  const factor = Math.min(1, LONGEST_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.max(1, Math.round(image.naturalWidth * factor)), height: Math.max(1, Math.round(image.naturalHeight * factor)) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  const frame = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.85); });
  let pass = null;
  try {
    if (session.active) pass = await ticket();
  } catch {
    return null; // the key may not; the form works without
  }
  const answer = await new Promise((resolve) => {
    const socket = new WebSocket(socketAddress("v1/live/detect", pass));
    const end = (value) => {
      clearTimeout(timer);
      socket.onclose = null;
      socket.close();
      resolve(value);
    };
    const timer = setTimeout(() => end(null), PATIENCE_MS);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(frame);
    socket.onmessage = ({ data }) => end(JSON.parse(data));
    socket.onclose = () => end(null);
  });
  return answer?.faces?.map(({ box }) => Object.fromEntries(Object.entries(box).map(([name, value]) => [name, value / factor]))) ?? null;
}
