/** Faces of a photo: small pictures of each, cut out of the original by the browser, and where they are on the picture. */

import { el, svg } from "./dom.js";

const SIDE = 56; // CSS pixels of a small picture
const AROUND = 0.35; // what it shows around the face, as a share of its size

/** A small picture of a place in the photo, empty until `photo` (an image that may still load) is there. */
export function crop(photo, box, size) {
  const side = SIDE * Math.min(2, devicePixelRatio || 1);
  const canvas = el("canvas", { class: "face-crop", width: side, height: side, "aria-hidden": "true" });
  const draw = () => {
    const factor = photo.naturalWidth / size.width; // the browser turns the photo upright as the service does
    const shown = Math.max(box.width, box.height) * (1 + 2 * AROUND) * factor;
    const [x, y] = [(box.x + box.width / 2) * factor - shown / 2, (box.y + box.height / 2) * factor - shown / 2];
    canvas.getContext("2d").drawImage(photo, x, y, shown, shown, 0, 0, side, side);
    canvas.classList.add("drawn");
  };
  photo.decode().then(draw, () => {}); // a format that the browser does not know: the number stays
  return canvas;
}

/** A place on the picture as SVG; strokes keep their width when the picture is enlarged. */
export function outline(box, className, ...further) {
  const { x, y, width, height } = box;
  return svg("g", { class: className }, ...further, svg("rect", { x, y, width, height, rx: Math.min(width, height) / 12 }));
}

/** What lies on the picture, in the photo's pixels. */
export const overlay = ({ width, height }, ...children) =>
  svg("svg", { class: "overlay", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" }, ...children);

// How far a head extends beyond the box of its face, in margins: above, at the sides, below. As `vision/heads.py` has it.
const [ABOVE, BESIDE, BELOW] = [4 / 3, 0.93, 0.5];

/** The upright box around the head of a face, which is what covering it covers. */
export function headBox({ box, roll_degrees: roll = 0 }, margin = 0.3) {
  const turn = (roll * Math.PI) / 180;
  const [sine, cosine] = [Math.sin(turn), Math.cos(turn)];
  const width = box.width * cosine ** 2 + box.height * sine ** 2;
  const height = box.height * cosine ** 2 + box.width * sine ** 2;
  const [above, beside, below] = [ABOVE, BESIDE, BELOW].map((each) => each * margin);
  const down = (height * (below - above)) / 2;
  const middle = { x: box.x + box.width / 2 - sine * down, y: box.y + box.height / 2 + cosine * down };
  const [wide, high] = [width * (1 + 2 * beside), height * (1 + above + below)];
  const [columns, rows] = [wide * Math.abs(cosine) + high * Math.abs(sine), high * Math.abs(cosine) + wide * Math.abs(sine)];
  return { x: middle.x - columns / 2, y: middle.y - rows / 2, width: columns, height: rows };
}
