/**
 * A form made from an operation's JSON Schema, so that a new operation needs no code here.
 *
 * Required fields and the first few switches, choices and bounded numbers are shown directly; all others are under
 * "More options". Where a choice decides which fields there are (`oneOf`: a painter and its style), `painters.js` shows the
 * choice, and its fields come directly below. Only values that differ from the default are sent, so that the server's
 * defaults apply.
 */

import { asJson, control, resolve } from "./controls.js";
import { byId, el, sentence } from "./dom.js";
import { FramePreview } from "./frame.js";
import { PainterChoice } from "./painters.js";
import { FIRST, fits } from "./together.js";

const IN_FRONT = 4;
const FRAMED = { crop: true }; // operations whose photo is shown with a frame before it is sent

export class OptionsForm {
  /** The controls of each alternative of `oneOf`, made when it is first chosen. */
  #ofLeaf = new Map();

  /**
   * @param {import("./api.js").Operation} operation
   * @param {import("./painters.js").Painter[]} painters what can paint, if the operation has painters
   * @param {?string} prefix of the ids, for a form that is part of another one: a step of a pipeline
   */
  constructor(operation, painters, prefix = null) {
    const { properties = {}, required = [], oneOf } = operation.parameters ?? {};
    this.operation = operation;
    this.prefix = prefix ?? "";
    this.place = { root: operation.parameters, prefix: this.prefix, form: (schema, own, name) => new OptionsForm({ name, parameters: schema }, painters, own) };
    const photo = properties.image && resolve(properties.image, operation.parameters);
    /** Whether the operation takes a photo. */
    this.takesPhoto = photo !== undefined;
    /** Whether photos are chosen first, and sent when the button is pressed. */
    this.staged = oneOf !== undefined || (prefix === null && operation.name in FRAMED);
    /** The largest photo that the server accepts, bytes. */
    this.maxBytes = photo?.["x-max-bytes"] ?? Infinity;
    this.element = prefix === null ? el("form", { class: "options", novalidate: true }) : el("div", { class: "options" });
    this.element.addEventListener("submit", (event) => event.preventDefault());
    for (const event of ["input", "change"]) this.element.addEventListener(event, () => this.#together());
    this.choice = oneOf ? new PainterChoice(operation.parameters, painters, () => this.#suit(), prefix) : null;
    const shared = Object.keys(properties).filter((name) => name !== "image" && (!oneOf || oneOf.every((leaf) => leaf.properties[name] === true)));
    this.controls = this.#made(shared, properties, required, oneOf ? 0 : IN_FRONT);
    const first = FIRST[operation.name] ?? [];
    this.controls.sort((one, other) => (first.indexOf(one.name) + 1 || 99) - (first.indexOf(other.name) + 1 || 99));
    const front = this.controls.filter((each) => each.front);
    const rest = this.controls.filter((each) => !each.front);
    this.own = el("div", { class: "options" });
    this.element.append(...(this.choice ? [this.choice.element, this.own] : []), ...front.map((each) => each.element));
    this.frame = prefix === null && operation.name in FRAMED ? new FramePreview() : null;
    if (this.frame) this.element.prepend(this.frame.element);
    if (rest.length) {
      this.more = el("details", { class: "more-options" }, el("summary", { text: "More options" }), ...rest.map((each) => each.element));
      this.element.append(this.more);
    }
    if (this.choice) this.element.append(this.choice.notReady);
    this.#suit();
  }

  #made(names, properties, required, inFront) {
    let space = inFront;
    return names.map((name) => {
      const field = resolve(properties[name], this.operation.parameters);
      const made = control(name, field, this.place);
      const must = required.includes(name);
      if (must && made.input) made.input.required = true;
      const asked = made.front && !(this.prefix && name === "name"); // a step has a name already
      const front = must || FIRST[this.operation.name]?.includes(name) || (asked && space > 0);
      if (front) space -= 1;
      return { name, field, ...made, front };
    });
  }

  /** The fields that belong to the chosen painter and style alone. */
  get #ownControls() {
    const leaf = this.choice?.leaf;
    if (!leaf) return [];
    if (!this.#ofLeaf.has(leaf)) {
      const own = Object.entries(leaf.properties).filter(([name, field]) => field !== true && field.const === undefined && name !== this.choice.field);
      this.#ofLeaf.set(leaf, this.#made(own.map(([name]) => name), leaf.properties, leaf.required, 0));
    }
    return this.#ofLeaf.get(leaf);
  }

  /** Show the fields that go with what is chosen. */
  #suit() {
    this.#together();
    if (!this.choice || !this.controls) return;
    this.own.replaceChildren(...this.#ownControls.map((each) => each.element));
    // A picture whose style is wanted is needed for one style and not known to most others.
    const style = this.controls.find((each) => each.name === "style_image");
    if (!style) return;
    if (style.input) style.input.required = this.choice.needsStyle; // of a step it is a switch
    if (this.choice.needsStyle) this.own.append(style.element);
    else this.more.prepend(this.more.firstElementChild, style.element);
  }

  /** Show only what means something with the other values. */
  #together() {
    if (!this.controls) return; // it is being made
    const values = this.#all();
    for (const each of this.controls) each.element.hidden = !fits(this.operation.name, each.name, values);
    this.frame?.show(values);
  }

  /** All values as JSON has them, the defaults too. */
  #all() {
    return Object.fromEntries(this.controls.map(({ name, field, value }) => {
      const given = value();
      return [name, given === null ? field.default : asJson(field, given)];
    }));
  }

  get #used() {
    const values = this.#all();
    return [...this.#ownControls, ...this.controls.filter(({ name }) => fits(this.operation.name, name, values))];
  }

  /** Whether a photo must be there, as far as the form can know. */
  get needsPhoto() { return this.takesPhoto && !(this.choice && "prompt" in this.choice.leaf.properties); }

  /** Show the first invalid field; true if all are valid. */
  check() {
    const wrong = this.#used.map((each) => each.element.querySelector(":invalid:not(fieldset)")).find((input) => input);
    if (!wrong) return true;
    for (let at = wrong.closest("details"); at; at = at.parentElement.closest("details")) at.open = true;
    wrong.reportValidity();
    return false;
  }

  /** @returns {[string, string|File][]} the values that differ from their defaults */
  fields() {
    const chosen = this.#used.map(({ name, value }) => [name, value()]).filter(([, value]) => value !== null);
    return [...(this.choice?.fields() ?? []), ...chosen];
  }

  /** The same as JSON has it. */
  values() {
    const chosen = this.#used.map(({ name, field, value }) => [name, value(), field]).filter(([, value]) => value !== null);
    return { ...Object.fromEntries(this.choice?.fields() ?? []), ...Object.fromEntries(chosen.map(([name, value, field]) => [name, asJson(field, value)])) };
  }

  /** Show these values, and the defaults of all other fields. @param {Record<string, any>} values as the API tells them */
  fill(values) {
    this.choice?.choose(values);
    for (const each of [...this.#ownControls, ...this.controls]) each.set(values[each.name]);
    if (this.more) this.more.open = this.controls.some((each) => !each.front && each.value() !== null);
    this.#suit();
  }
}

/** The choice between operations, if there are several. */
export class OperationPicker {
  #forms = new Map();
  #tabs = new Map();

  /** Calls `chosen(form)` at once and at each change. */
  constructor(operations, painters, chosen) {
    this.chosen = chosen;
    this.operations = new Map(operations.map((each) => [each.name, each]));
    this.painters = painters;
    this.summary = el("p", { class: "soft" });
    const tabs = el("fieldset", { class: "tabs" }, el("legend", { class: "hidden", text: "Operation" }),
      ...operations.map(({ name }) => {
        const input = el("input", { type: "radio", name: "operation", value: name });
        input.addEventListener("change", () => this.pick(name));
        this.#tabs.set(name, input);
        return el("label", { class: "tab" }, input, el("span", { text: sentence(name) }));
      }));
    byId("operations").replaceChildren(...(operations.length > 1 ? [tabs, this.summary] : [this.summary]));
    this.pick(operations[0].name);
  }

  /** Show an operation's form. @returns {?OptionsForm} null if there is no such operation */
  pick(name) {
    const operation = this.operations.get(name);
    if (!operation) return null;
    if (!this.#forms.has(name)) this.#forms.set(name, new OptionsForm(operation, this.painters));
    const form = this.#forms.get(name);
    this.#tabs.get(name).checked = true;
    this.summary.textContent = operation.summary ?? "";
    byId("options").replaceChildren(form.element);
    form.frame?.shown();
    this.chosen(form);
    return form;
  }
}
