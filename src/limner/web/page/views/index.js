/**
 * How an operation's result is shown: one module per operation, or `any.js` if it has none.
 *
 * @typedef {object} View
 * @property {(job: import("../api.js").Job) => string} headline a few words for the card: "2 faces"
 * @property {(job: import("../api.js").Job) => ?import("../api.js").Artifact} picture the picture on the card, if any
 * @property {(job: import("../api.js").Job, localUrl: ?string, tools: ?object) => HTMLElement} open the content of the
 *   viewer; `localUrl` is the photo, if this page still has it; `tools.rerun(changes)` runs the job again and shows it
 */

import * as any from "./any.js";
import * as contours from "./contours.js";
import * as crop from "./crop.js";
import * as detect from "./detect.js";
import * as generate from "./generate.js";
import * as pipeline from "./pipeline.js";

const VIEWS = { detect, contours, crop, generate, pipeline };

/** @returns {View} */
export const viewFor = (operation) => VIEWS[operation] ?? any;
