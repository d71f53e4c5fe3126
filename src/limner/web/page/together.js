/** Which parameters go together: what another one makes meaningless is neither shown nor sent, since the service refuses it. */

import { COVERS } from "./cover.js";

const covers = ({ mark }) => COVERS.includes(mark);
const window = ({ each }) => !each;
const each = (given) => Boolean(given.each);

/** By operation and parameter: whether it has a meaning with these values. */
const RULES = {
  detect: { margin: covers, colour: ({ mark }) => mark === "solid", boxes: ({ mark }) => mark !== "none" },
  crop: { width: window, height: window, aspect: window, zoom: window, size: each, margin: each, max_faces: each },
  contours: { clip: ({ photo }) => photo !== false, transparent: ({ photo }) => photo !== false,
    landmarks_unit: ({ landmarks }) => landmarks?.length > 0, regions: ({ scheme }) => scheme === "own",
    map_values: ({ segmentation_map: map }) => Boolean(map), label_meanings: ({ segmentation_map: map, scheme }) => Boolean(map) || scheme === "labels" },
};

/** What is shown first, where the order of the schema is not the best one. */
export const FIRST = { crop: ["aspect", "zoom", "each"], pipeline: ["steps"] };

/** @returns {boolean} whether this parameter of the operation means something with these values */
export const fits = (operation, name, values) => RULES[operation]?.[name]?.(values) ?? true;
