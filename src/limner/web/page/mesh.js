/** The mesh of a face and the direction of its head, as lines on the photo. */

import { svg } from "./dom.js";

// Indices of MediaPipe's mesh, in order along each line.
const LINES = [
  [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136,
    172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10],
  [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 263],
  [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 33],
  [276, 283, 282, 295, 285], [300, 293, 334, 296, 336], [46, 53, 52, 65, 55], [70, 63, 105, 66, 107],
  [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185, 61],
  [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78],
  [168, 6, 197, 195, 5, 4, 1], [469, 470, 471, 472, 469], [474, 475, 476, 477, 474],
];
const NOSE_TIP = 1;

/** The points and lines of a mesh. @param {number[][]} points [x, y, z], pixels of the photo */
export function meshLines(points) {
  const at = (index) => `${points[index][0]} ${points[index][1]}`;
  const lines = LINES.filter((line) => line.every((index) => points[index])).map((line) => `M${line.map(at).join("L")}`);
  return [svg("path", { class: "mesh-dots", d: points.map(([x, y]) => `M${x} ${y}h0`).join("") }), svg("path", { class: "mesh-lines", d: lines.join("") })];
}

/** Three lines from the tip of the nose: where the face looks (with a dot at its end), its right, and its top. */
export function poseLines({ points, pose }, box) {
  const [yaw, pitch, roll] = [pose.yaw, pose.pitch, pose.roll].map((each) => (each * Math.PI) / 180);
  const length = Math.max(box.width, box.height) * 0.6;
  const [x, y] = points[NOSE_TIP];
  const turned = (across, down) => [x + length * (across * Math.cos(roll) - down * Math.sin(roll)), y + length * (across * Math.sin(roll) + down * Math.cos(roll))];
  const line = (kind, [toX, toY]) => svg("path", { class: `pose ${kind}`, d: `M${x} ${y}L${toX} ${toY}` });
  const look = turned(Math.sin(yaw) * Math.cos(pitch), -Math.sin(pitch));
  return [line("pose-across", turned(0.5 * Math.cos(yaw), 0)), line("pose-up", turned(0, -0.5 * Math.cos(pitch))), line("pose-look", look),
    svg("path", { class: "pose-tip", d: `M${look[0]} ${look[1]}h0` })];
}

/** "looks 12° to the picture's right and 3° up, tilted by −2°" */
export function poseWords({ yaw, pitch, roll }) {
  const part = (value, one, other) => Math.abs(value) >= 1 && `${Math.round(Math.abs(value))}° ${value > 0 ? one : other}`;
  const looks = [part(yaw, "to the right", "to the left"), part(pitch, "up", "down")].filter(Boolean);
  return `Looks ${looks.join(" and ") || "ahead"}${Math.abs(roll) >= 1 ? `, tilted by ${String(Math.round(roll)).replace("-", "−")}°` : ""}`;
}
