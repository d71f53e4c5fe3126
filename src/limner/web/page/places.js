/** Asks for the place of a few queued jobs, those from here first. */

import * as api from "./api.js";

const EVERY_MS = 2000;
const AT_ONCE = 5;

/**
 * @param {() => Iterable<import("./record.js").Record>} records
 * @param {(record: import("./record.js").Record) => void} changed
 */
export function askPlaces(records, changed) {
  async function ask(record) {
    let queue = null;
    try {
      ({ queue } = await api.job(record.job.id));
    } catch {
      return; // the live events say what has become of it
    }
    if (record.job.status !== "queued") return; // it was started meanwhile
    record.job = { ...record.job, queue };
    changed(record);
  }

  setInterval(() => {
    if (document.hidden) return;
    const queued = [...records()].filter((record) => record.job?.status === "queued");
    queued.sort((one, other) => Number(other.mine) - Number(one.mine) || (one.order < other.order ? -1 : 1));
    for (const record of queued.slice(0, AT_ONCE)) ask(record);
  }, EVERY_MS);
}
