/** Where a crop is cut: the same rule as `vision/framing.py`, to show the frame before the photo is sent. */

import { headBox } from "./faces.js";

const EYE_LINE = 1 / 3; // of the window's height from its top
const EYES_IN_HEAD = 0.45; // of a head's height from its top
const HEADROOM = 0.25; // of a head's height
const ROOM = 1.5; // of the heads' extent: the closest window
const STEPS = 64; // places that are tried along an axis

/**
 * The window of this shape about the faces; in the middle if there are none.
 * @param {{width: number, height: number}} size of the photo
 * @param {object[]} faces boxes, pixels of the photo
 * @param {number} aspect width divided by height
 * @param {number} zoom 0: as much as has this shape, 1: hardly more than the heads
 */
export function frameOf(size, faces, aspect, zoom) {
  const [width, height] = [Math.min(size.width, size.height * aspect), Math.min(size.height, size.width / aspect)];
  if (faces.length === 0) return { x: (size.width - width) / 2, y: (size.height - height) / 2, width, height };
  const heads = faces.map((box) => headBox({ box }));
  const left = Math.min(...heads.map((each) => each.x));
  const right = Math.max(...heads.map((each) => each.x + each.width));
  const top = Math.min(...heads.map((each) => each.y));
  const bottom = Math.max(...heads.map((each) => each.y + each.height));
  const closest = Math.max((right - left) * ROOM, (bottom - top) * ROOM * aspect, 1);
  const columns = width + (Math.min(width, closest) - width) * zoom;
  const rows = columns / aspect;
  const weights = heads.map((each) => each.width * each.height);
  const mean = (values) => values.reduce((sum, value, index) => sum + value * weights[index], 0) / weights.reduce((sum, each) => sum + each, 0);
  const across = heads.map((each) => [each.x, each.x + each.width]);
  const down = heads.map((each) => [each.y - HEADROOM * each.height, each.y + each.height]);
  const middle = mean(across.map(([start, end]) => (start + end) / 2));
  const eyes = mean(heads.map((each) => each.y + EYES_IN_HEAD * each.height));
  return { x: placed(across, weights, columns, size.width, middle - columns / 2),
    y: placed(down, weights, rows, size.height, eyes - rows * EYE_LINE), width: columns, height: rows };
}

/** Where a window of `length` starts: near `wanted`, and where most of the spans, by weight, are within it. */
function placed(spans, weights, length, end, wanted) {
  const most = Math.max(0, end - length);
  const low = Math.max(...spans.map(([, last]) => last)) - length;
  const high = Math.min(...spans.map(([first]) => first));
  const within = (value, from, to) => Math.min(Math.max(value, from), to);
  if (low <= high) return within(within(wanted, low, high), 0, most);
  const total = weights.reduce((sum, each) => sum + each, 0);
  const worth = (place) => spans.reduce((sum, [first, last], index) => {
    const share = within((Math.min(last, place + length) - Math.max(first, place)) / (last - first), 0, 1);
    return sum + share ** 4 * weights[index];
  }, 0) - (1e-3 * total * Math.abs(place - wanted)) / Math.max(end, 1);
  const places = Array.from({ length: STEPS }, (_, index) => (most * index) / (STEPS - 1));
  return places.reduce((best, place) => (worth(place) > worth(best) ? place : best), 0);
}
