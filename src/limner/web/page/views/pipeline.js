/** `pipeline`: the result of each step, as its own operation shows it. */

import { COVERS } from "../cover.js";
import { el, plural, sentence } from "../dom.js";
import { notesList } from "../notes.js";
import { picture } from "./any.js";
import { viewFor } from "./index.js";

export { picture };

export const headline = (job) => {
  const count = Object.keys(job.result?.steps ?? {}).length || job.parameters?.steps?.length;
  return count ? plural(count, "step") : "Done";
};

/** The step as if it were a job. Its artifacts are told by their own names, and read by those of the job. */
function jobOf(job, name, step) {
  const parameters = job.parameters?.steps?.find((each) => (each.name ?? each.operation) === name);
  const artifacts = (job.artifacts ?? []).filter((each) => step.artifacts.includes(each.name))
    .map((each) => ({ ...each, name: each.name.slice(name.length + 1), stored: each.name }));
  const withheld = job.parameters?.steps?.some(({ mark }) => COVERS.includes(mark)); // then no step shows the original at once
  return { ...job, operation: step.operation, parameters, artifacts, result: step.result, withheld };
}

export function open(job, localUrl) {
  return el("div", { class: "steps-shown" }, ...Object.entries(job.result?.steps ?? {}).map(([name, step]) => {
    const own = jobOf(job, name, step);
    const view = viewFor(step.operation);
    const shown = view.open(own, localUrl);
    const title = sentence(name) === sentence(step.operation) ? view.headline(own) : `${sentence(name)}: ${view.headline(own)}`;
    return el("section", { class: "step-shown", "aria-label": `${sentence(name)}` },
      el("h3", { text: sentence(step.operation) === title ? title : `${sentence(step.operation)} · ${title}` }), shown,
      shown.querySelector(".notes") ? "" : notesList(step.result));
  }));
}
