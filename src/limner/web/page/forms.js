/**
 * A form made from an operation's JSON Schema, so that a new operation needs no code here.
 *
 * Required fields and the first few switches, choices and bounded numbers are shown directly; all others are under
 * "More options". Only values that differ from the default are sent, so that the server's defaults apply.
 */

import { byId, el, sentence } from "./dom.js";

const SLIDER_STEPS = 100;
const CHIP_CHOICES = 5;
const IN_FRONT = 4;

/** A property with `$ref`, a single `allOf` and "or null" resolved; `nullable` tells whether null is allowed. */
export function resolve(schema, root) {
  let plain = schema;
  let nullable = false;
  for (let depth = 0; depth < 20; depth += 1) {
    const { $ref, allOf, anyOf, oneOf, ...rest } = plain;
    const choices = anyOf ?? oneOf;
    if ($ref) {
      const target = $ref.replace(/^#\//, "").split("/").reduce((node, step) => node?.[step], root) ?? {};
      plain = { ...target, ...rest };
    } else if (allOf?.length === 1) {
      plain = { ...allOf[0], ...rest };
    } else if (choices) {
      const real = choices.filter((choice) => choice.type !== "null");
      nullable ||= real.length < choices.length;
      if (real.length !== 1) return { ...rest, type: "json", nullable };
      plain = { ...real[0], ...rest };
    } else if (Array.isArray(plain.type)) {
      nullable ||= plain.type.includes("null");
      const real = plain.type.filter((type) => type !== "null");
      plain = { ...plain, type: real.length === 1 ? real[0] : "json" };
    } else {
      break;
    }
  }
  if (plain.const !== undefined && !plain.enum) plain = { ...plain, enum: [plain.const] };
  return { ...plain, nullable };
}

const isFile = (field) => field.format === "binary" || field.contentMediaType !== undefined;
const isNumber = (field) => field.type === "number" || field.type === "integer";

function bounds(field) {
  const step = field.multipleOf ?? (field.type === "integer" ? 1 : null);
  const low = field.minimum ?? (field.exclusiveMinimum !== undefined ? field.exclusiveMinimum + (step ?? 0) : undefined);
  const high = field.maximum ?? (field.exclusiveMaximum !== undefined ? field.exclusiveMaximum - (step ?? 0) : undefined);
  const span = high - low;
  const slider = Number.isFinite(span) && (step === null || span / step <= SLIDER_STEPS);
  return { low, high, step: step ?? (slider ? span / SLIDER_STEPS : "any"), slider };
}

/**
 * One form control: its element and the value that it sends.
 * @typedef {{element: HTMLElement, front: boolean, value: () => (string|File|null)}} Control `null`: not sent
 */

let serial = 0;

function hinted(input, field) {
  if (!field.description) return null;
  const hint = el("small", { class: "hint", id: `${input.id || "field"}-hint-${(serial += 1)}`, text: field.description.replaceAll("`", "") });
  input.setAttribute("aria-describedby", hint.id);
  return hint;
}

const titleOf = (name, field) => sentence(field.title ?? name);

function toggle(name, field) {
  const input = el("input", { type: "checkbox", role: "switch", name, checked: field.default === true });
  const label = el("label", { class: "switch" }, el("span", { text: titleOf(name, field) }), input);
  return {
    element: el("div", { class: "field" }, label, hinted(input, field)),
    front: true,
    value: () => (input.checked === (field.default === true) ? null : String(input.checked)),
  };
}

function choice(name, field) {
  const none = field.nullable ? [""] : [];
  const values = [...none, ...field.enum.filter((value) => value !== null)];
  const first = field.default ?? values[0];
  const words = (value) => (value === "" ? "Automatic" : sentence(value));
  if (values.length > CHIP_CHOICES || field.nullable) {
    const select = el("select", { name, id: `option-${name}` }, ...values.map((value) =>
      el("option", { value, text: words(value), selected: value === first })));
    return labelled(name, field, select, !field.nullable, () => (select.value === String(first) ? null : select.value));
  }
  const group = el("fieldset", { class: "field" }, el("legend", { text: titleOf(name, field) }));
  const hint = hinted(group, field);
  group.append(el("div", { class: "chips" }, ...values.map((value) => el("label", { class: "chip" },
    el("input", { type: "radio", name, value, checked: value === first }), el("span", { text: words(value) })))));
  if (hint) group.append(hint);
  return {
    element: group,
    front: true,
    value: () => {
      const chosen = group.querySelector("input:checked")?.value ?? null;
      return chosen === String(first) ? null : chosen;
    },
  };
}

function slider(name, field, { low, high, step }) {
  const start = field.default ?? (low + high) / 2;
  const input = el("input", { type: "range", name, id: `option-${name}`, min: low, max: high, step, value: start });
  const output = el("output", { for: input.id });
  const automatic = field.nullable ? el("input", { type: "checkbox", checked: field.default == null }) : null;
  const show = () => {
    const auto = automatic?.checked ?? false;
    input.disabled = auto;
    output.textContent = auto ? "automatic" : String(Number(Number(input.value).toFixed(4)));
  };
  input.addEventListener("input", show);
  automatic?.addEventListener("change", show);
  show();
  const head = el("div", { class: "field-head" }, el("label", { for: input.id, text: titleOf(name, field) }), output);
  const hint = hinted(input, field);
  return {
    element: el("div", { class: "field" }, head, input,
      automatic && el("label", { class: "tick" }, automatic, " Automatic"), hint),
    front: !field.nullable,
    value: () => {
      if (automatic?.checked) return field.default == null ? null : "";
      return Number(input.value) === field.default ? null : input.value;
    },
  };
}

function typed(name, field) {
  const id = `option-${name}`;
  const initial = field.default ?? "";
  let input;
  if (isNumber(field)) {
    const { low, high, step } = bounds(field);
    input = el("input", { type: "number", inputmode: field.type === "integer" ? "numeric" : "decimal",
      name, id, min: low, max: high, step, value: initial, placeholder: field.nullable ? "automatic" : null });
  } else if ((field.maxLength ?? 0) > 120) {
    input = el("textarea", { name, id, rows: 3, maxlength: field.maxLength });
    input.value = initial;
  } else {
    input = el("input", { type: "text", name, id, maxlength: field.maxLength, pattern: field.pattern, value: initial });
  }
  return labelled(name, field, input, !field.nullable && !isNumber(field),
    () => (input.value === String(initial) ? null : input.value));
}

function file(name, field) {
  const input = el("input", { type: "file", name, id: `option-${name}`, accept: field.contentMediaType });
  return labelled(name, field, input, false, () => input.files[0] ?? null);
}

function json(name, field) {
  const input = el("textarea", { name, id: `option-${name}`, rows: 3, spellcheck: "false", class: "code", placeholder: "JSON" });
  const initial = field.default == null ? "" : JSON.stringify(field.default);
  input.value = initial;
  input.addEventListener("input", () => {
    let fault = "";
    try { if (input.value.trim()) JSON.parse(input.value); } catch (error) { fault = `This is not valid JSON: ${error.message}`; }
    input.setCustomValidity(fault);
  });
  return labelled(name, field, input, false, () => (input.value.trim() === initial ? null : input.value.trim()));
}

/** A text-like field below its label. */
function labelled(name, field, input, front, value) {
  const label = el("label", { for: input.id, text: titleOf(name, field) });
  return { input, front, value, element: el("div", { class: "field" }, label, input, hinted(input, field)) };
}

/** @returns {Control} */
function control(name, field) {
  if (isFile(field)) return file(name, field);
  if (field.enum) return choice(name, field);
  if (field.type === "boolean") return toggle(name, field);
  if (isNumber(field)) {
    const limits = bounds(field);
    return limits.slider ? slider(name, field, limits) : typed(name, field);
  }
  return field.type === "string" ? typed(name, field) : json(name, field);
}

export class OptionsForm {
  /** @param {import("./api.js").Operation} operation */
  constructor(operation) {
    this.operation = operation;
    /** Whether the operation needs a photo. */
    this.takesPhoto = false;
    /** The largest photo that the server accepts, bytes. */
    this.maxBytes = Infinity;
    this.controls = [];
    const schema = operation.parameters ?? {};
    const required = new Set(schema.required ?? []);
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      const field = resolve(property, schema);
      if (name === "image") {
        this.takesPhoto = true;
        this.maxBytes = field["x-max-bytes"] ?? Infinity;
        continue;
      }
      const made = control(name, field);
      const must = required.has(name);
      if (must && made.input) made.input.required = true;
      const space = this.controls.filter((each) => each.front).length < IN_FRONT;
      this.controls.push({ name, ...made, front: must || (made.front && space) });
    }
    this.element = el("form", { class: "options", novalidate: true });
    this.element.addEventListener("submit", (event) => event.preventDefault());
    this.element.addEventListener("change", () => this.suit());
    this.element.append(...this.controls.filter((each) => each.front).map((each) => each.element));
    const rest = this.controls.filter((each) => !each.front);
    if (rest.length) {
      this.more = el("details", { class: "more-options" }, el("summary", { text: "More options" }),
        ...rest.map((each) => each.element));
      this.element.append(this.more);
    }
    this.suit();
  }

  /** Show only the fields that go with what is chosen: `oneOf` of the schema says which do. */
  suit() {
    const { properties, oneOf } = this.operation.parameters ?? {};
    if (!oneOf) return;
    const chosen = new Map(this.controls.map(({ name, value }) => [name, value() ?? properties[name].default]));
    const fits = ([name, field]) => field.const === undefined || field.const === chosen.get(name);
    const leaf = oneOf.find((each) => Object.entries(each.properties).every(fits)) ?? { properties };
    for (const each of this.controls) each.element.hidden = !(each.name in leaf.properties);
  }

  /** Show the first invalid field; true if all are valid. */
  check() {
    const wrong = this.controls.filter((each) => !each.element.hidden)
      .map((each) => each.element.querySelector(":invalid:not(fieldset)")).find((input) => input);
    if (!wrong) return true;
    if (this.more?.contains(wrong)) this.more.open = true;
    wrong.reportValidity();
    return false;
  }

  /** @returns {[string, string|File][]} the values that differ from their defaults */
  fields() {
    return this.controls.filter((each) => !each.element.hidden)
      .map(({ name, value }) => [name, value()]).filter(([, value]) => value !== null);
  }
}

/** The choice between operations, if there are several. Calls `chosen(form)` at once and at each change. */
export function operationPicker(operations, chosen) {
  const forms = new Map();
  const host = byId("options");
  const summary = el("p", { class: "soft" });
  const pick = (operation) => {
    if (!forms.has(operation.name)) forms.set(operation.name, new OptionsForm(operation));
    const form = forms.get(operation.name);
    summary.textContent = operation.summary ?? "";
    host.replaceChildren(form.element);
    chosen(form);
  };
  const tabs = el("fieldset", { class: "tabs" }, el("legend", { class: "hidden", text: "Operation" }),
    ...operations.map((operation, index) => {
      const input = el("input", { type: "radio", name: "operation", value: operation.name, checked: index === 0 });
      input.addEventListener("change", () => pick(operation));
      return el("label", { class: "tab" }, input, el("span", { text: sentence(operation.name) }));
    }));
  byId("operations").replaceChildren(...(operations.length > 1 ? [tabs, summary] : [summary]));
  pick(operations[0]);
}
