/**
 * How an operation's result is shown. One small module per operation; `any.js` shows whatever has no module of its own.
 *
 * @typedef {object} View
 * @property {(job: import("../api.js").Job) => string} headline a few words for the card: "2 faces"
 * @property {(job: import("../api.js").Job) => ?import("../api.js").Artifact} picture what the card shows, if anything
 * @property {(job: import("../api.js").Job, localUrl: ?string) => HTMLElement} open the large view; `localUrl` is the
 *   photo itself where this page still has it
 */

import * as any from "./any.js";
import * as contours from "./contours.js";
import * as detect from "./detect.js";

const VIEWS = { detect, contours };

/** @returns {View} */
export const viewFor = (operation) => VIEWS[operation] ?? any;
