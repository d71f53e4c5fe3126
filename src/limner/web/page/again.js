/** Run a job again with changes: its photo and its parameters go back into the form, from where they can be sent. */

import * as api from "./api.js";

let asked = 0; // how often; only the last one counts

/**
 * @param {import("./board.js").Record} record
 * @param {import("./forms.js").OperationPicker} picker
 * @param {import("./tray.js").Tray} tray
 * @returns {Promise<boolean>} false if another job was asked for meanwhile; throws Problem if the job is gone, or its
 *   operation is not offered
 */
export async function refill(record, picker, tray) {
  asked += 1;
  const turn = asked;
  const job = await api.job(record.job.id);
  const name = record.name ?? job.label ?? "photo";
  const files = new Map();
  for (const input of job.inputs ?? []) {
    const mine = input.name === "image" && record.upload?.file;
    files.set(input.name, mine || await api.inputFile(job, input, input.name === "image" ? name : input.name));
  }
  if (turn !== asked) return false;
  const form = picker.pick(job.operation);
  if (!form) throw new api.Problem({ title: "This operation is not offered any more." });
  form.fill({ ...job.parameters, ...Object.fromEntries(files) });
  tray.set(files.has("image") ? [files.get("image")] : []);
  return true;
}
