/** The options that were last chosen, for the next visit: parameters only, no pictures, names of files or free words. */

import { resolve } from "./controls.js";
import { byId, memory, sentence } from "./dom.js";

const NAME = "options";
const FREE_WORDS = 120; // a text field for more letters than these is for words, such as a prompt

/** The schema of a parameter, which may belong to some alternatives only. */
function schemaOf({ parameters }, name) {
  const given = parameters?.properties?.[name];
  const leaf = parameters?.oneOf?.find((each) => typeof each.properties?.[name] === "object");
  const schema = typeof given === "object" ? given : leaf?.properties[name];
  return schema ? resolve(schema, parameters) : null;
}

/** Whether a value is remembered: no pictures, no JSON such as areas of one photo, no free words. */
function isKept(schema, value) {
  if (!schema || value === null || typeof value === "boolean" || typeof value === "number") return Boolean(schema);
  return typeof value === "string" && schema.type === "string" && (schema.enum || (schema.maxLength ?? 0) <= FREE_WORDS);
}

/** What a form has besides its defaults and is remembered, by parameter's name, as the API has it. */
const chosenValues = (form) => Object.fromEntries(Object.entries(form.values())
  .filter(([name, value]) => isKept(schemaOf(form.operation, name), value)));

function inWords(form) {
  return Object.entries(chosenValues(form)).map(([name, value]) => {
    const title = sentence(schemaOf(form.operation, name).title ?? name);
    if (value === true) return title;
    return `${title}: ${value === false ? "no" : value === null ? "automatic" : sentence(value)}`;
  });
}

export class Remembered {
  /** @type {?import("./forms.js").OptionsForm} */
  #form = null;
  #filled = new WeakSet();
  #line = byId("chosen");

  constructor() {
    for (const event of ["input", "change"]) byId("options").addEventListener(event, () => this.#keep());
    this.#line.querySelector("button").addEventListener("click", () => {
      this.#form.fill({});
      this.#keep();
      byId("drop").focus();
    });
  }

  /** The operation that was chosen last, if any. */
  get operation() { return memory.get("operation", null); }

  /** A form is shown: the first time, with the values of the last visit. */
  show(form) {
    this.#form = form;
    if (!this.#filled.has(form)) {
      this.#filled.add(form);
      const values = memory.get(NAME, {})[form.operation.name];
      if (values && typeof values === "object") form.fill(values);
    }
    memory.set("operation", form.operation.name);
    this.tell();
  }

  /** Tell the options that differ from the defaults, so that none works unseen. */
  tell() {
    const words = this.#form.staged ? [] : inWords(this.#form);
    this.#line.hidden = words.length === 0;
    this.#line.firstElementChild.textContent = words.join(" · ");
  }

  #keep() {
    const all = memory.get(NAME, {});
    const values = chosenValues(this.#form);
    if (Object.keys(values).length) all[this.#form.operation.name] = values;
    else delete all[this.#form.operation.name];
    memory.set(NAME, all);
    this.tell();
  }
}
