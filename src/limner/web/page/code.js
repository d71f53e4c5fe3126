/** A job as a program that makes it again: curl, Python with `limner.client`, JavaScript with `fetch`. Never with a key in it. */

import { address, operations } from "./api.js";
import { copyButton, el } from "./dom.js";
import { session } from "./session.js";

const WAIT_S = 60;
const AGAIN_MS = 500; // between two questions whether the job has ended
const SUFFIXES = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif", "image/tiff": "tif",
  "image/bmp": "bmp", "image/heic": "heic", "image/avif": "avif" };

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** The alternative of a schema with `oneOf` that has these values. */
const leafOf = (schema, values) => schema.oneOf?.find((leaf) =>
  Object.entries(leaf.properties).every(([name, field]) => field.const === undefined || values[name] === field.const));

/** The values that are not the defaults. @param {object} root the schema with `$defs` */
function given(values, schema, root = schema) {
  const leaf = leafOf(schema, values);
  const field = (name) => ({ ...schema.properties?.[name], ...(typeof leaf?.properties[name] === "object" ? leaf.properties[name] : {}) });
  const needed = new Set([...(schema.required ?? []), ...(leaf?.required ?? [])]);
  return Object.fromEntries(Object.entries(values).filter(([name, value]) =>
    value !== null && (needed.has(name) || !same(value, field(name).default)))
    .map(([name, value]) => [name, field(name).items?.discriminator ? value.map((step) => stepOf(step, field(name), root)) : value]));
}

function stepOf(step, list, root) {
  const target = list.items.discriminator.mapping[step.operation];
  const schema = target && root.$defs[target.split("/").at(-1)];
  const own = schema ? given(step, schema, root) : step;
  const { name, operation, ...rest } = own;
  return name === undefined || name === operation ? { operation, ...rest } : { operation, name, ...rest };
}

/** What a program needs to know of a job: its operation, values, names for the pictures that were sent, whether it may make any. */
async function described(job, name) {
  const known = (await operations()).find((each) => each.name === job.operation);
  const values = known ? given(job.parameters ?? {}, known.parameters) : job.parameters ?? {};
  const files = Object.fromEntries((job.inputs ?? []).map((input) =>
    [input.name, input.name === "image" && name ? name : `${input.name === "image" ? "photo" : input.name}.${SUFFIXES[input.media_type] ?? "jpg"}`]));
  const pictures = job.status !== "succeeded" || job.artifacts.length > 0;
  return { operation: job.operation, values, files, pictures, root: address(""), keyed: session.active };
}

const asField = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const inShell = (text) => (/^[\w./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function curl({ operation, values, files, root, keyed }) {
  // Curl reads `;`, `,` and `"` in the name of a file as its own, unless it is quoted; `--form-string` takes a value as it is.
  const path = (file) => (/[;,"\\]/.test(file) ? `"${file.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"` : file);
  const key = keyed && '-H "Authorization: Bearer $LIMNER_KEY"';
  const command = [`curl ${inShell(`${root}v1/${operation}`)}`, key, `-H 'Prefer: wait=${WAIT_S}'`,
    ...Object.entries(files).map(([name, file]) => `-F ${inShell(`${name}=@${path(file)}`)}`),
    ...Object.entries(values).map(([name, value]) => `--form-string ${inShell(`${name}=${asField(value)}`)}`)]
    .filter(Boolean).join(" \\\n  ");
  return `${command}\n# Is its "status" still "queued" or "running"? Ask its "url" again: ${["curl", key, "URL"].filter(Boolean).join(" ")}`;
}

function inPython(value, indent) {
  if (value === null) return "None";
  if (value === true || value === false) return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const deeper = `${indent}    `;
  const parts = Array.isArray(value) ? value.map((each) => inPython(each, deeper))
    : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${inPython(each, deeper)}`);
  const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  const line = open + parts.join(", ") + close;
  return line.length <= 80 ? line : `${open}\n${parts.map((part) => `${deeper}${part},\n`).join("")}${indent}${close}`;
}

function python({ operation, values, files, pictures, root, keyed }) {
  const { image, ...further } = files;
  const own = ["detect", "contours", "crop", "generate", "pipeline", "samples"].includes(operation);
  const words = [!own && JSON.stringify(operation), image && JSON.stringify(image),
    ...Object.entries(further).map(([name, file]) => `${name}=Path(${JSON.stringify(file)})`),
    ...Object.entries(values).map(([name, value]) => `${name}=${inPython(value, "        ")}`)].filter(Boolean);
  return [keyed && "import os", Object.keys(further).length > 0 && "from pathlib import Path", (keyed || Object.keys(further).length > 0) && "",
    "from limner.client import Client", "",
    `with Client(${JSON.stringify(root)}${keyed ? ', key=os.environ["LIMNER_KEY"]' : ""}) as client:`,
    `    job = client.${own ? operation : "run"}(`, ...words.map((each) => `        ${each},`), "    )",
    "    print(job.result)", pictures && "    if job.artifacts:", pictures && '        job.save("result/")'].filter((line) => line !== false).join("\n");
}

function javascript({ operation, values, files, root, keyed }) {
  const authorization = keyed && "Authorization: `Bearer ${key}`";
  const headers = [`Prefer: "wait=${WAIT_S}"`, authorization].filter(Boolean).join(", ");
  const names = Object.keys(files);
  return [names.length > 0 && `// ${names.join(", ")}: a File or Blob each, for example of <input type="file">`, keyed && "// key: the API key, from where your program keeps it",
    "const form = new FormData();",
    ...Object.entries(files).map(([name, file]) => `form.append(${JSON.stringify(name)}, ${name}, ${JSON.stringify(file)});`),
    ...Object.entries(values).map(([name, value]) => (typeof value === "object"
      ? `form.append(${JSON.stringify(name)}, JSON.stringify(${JSON.stringify(value)}));` : `form.append(${JSON.stringify(name)}, ${JSON.stringify(String(value))});`)),
    `const response = await fetch(${JSON.stringify(`${root}v1/${operation}`)}, { method: "POST", headers: { ${headers} }, body: form });`,
    "let job = await response.json();", "if (!response.ok) throw new Error(job.detail);",
    'while (job.status === "queued" || job.status === "running") {', `  await new Promise((resolve) => setTimeout(resolve, ${AGAIN_MS}));`,
    `  job = await (await fetch(job.url${keyed ? `, { headers: { ${authorization} } }` : ""})).json();`, "}",
    'if (job.status !== "succeeded") throw new Error(job.error?.detail ?? job.status);', "console.log(job.result, job.artifacts);"].filter(Boolean).join("\n");
}

const LANGUAGES = [["curl", curl], ["Python", python], ["JavaScript", javascript]];

/** The programs behind a summary; made when it is opened. */
export function codePanel(job, name) {
  const place = el("div", { class: "code-place" });
  const panel = el("details", { class: "code-panel" }, el("summary", { text: "Use it in a program" }), place);
  panel.addEventListener("toggle", async () => {
    if (!panel.open || place.children.length) return;
    try {
      const what = await described(job, name);
      const pre = el("pre", { tabindex: 0, "aria-label": "The program" });
      const choose = (make) => { pre.textContent = make(what); };
      place.append(el("fieldset", { class: "chips languages" }, el("legend", { class: "hidden", text: "Language" }), ...LANGUAGES.map(([language, make], index) => {
        const input = el("input", { type: "radio", name: "language", value: language, checked: index === 0 });
        input.addEventListener("change", () => choose(make));
        return el("label", { class: "chip" }, input, el("span", { text: language }));
      })), pre, el("div", { class: "row" }, copyButton("Copy code", () => pre.textContent)),
      el("p", { class: "hint", text: `${what.keyed ? "Your key is not in it: give it in the variable LIMNER_KEY, or as the program says. " : ""}Only values that are not the default are given.` }));
      choose(curl);
    } catch (problem) {
      place.replaceChildren(el("p", { class: "fault", text: problem.message }));
    }
  });
  return panel;
}
