/** One form control for each kind of JSON Schema, so that a new parameter needs no code here. */

import { el, sentence } from "./dom.js";

const SLIDER_STEPS = 100;
const CHIP_CHOICES = 5;

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
  // A power of ten, so that a default such as 1 is one of the slider's values.
  const fine = 10 ** Math.floor(Math.log10(span / SLIDER_STEPS));
  return { low, high, step: step ?? (slider ? fine : "any"), slider };
}

/**
 * One form control: its element and the value that it sends.
 * @typedef {{element: HTMLElement, front: boolean, value: () => (string|File|null), set: (value: any) => void}} Control
 *   `value`: null is not sent; `set`: a value as the API tells it, undefined for the default
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
    set: (given = field.default === true) => { input.checked = given; },
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
    return labelled(name, field, select, !field.nullable, () => (select.value === String(first) ? null : select.value),
      (given = first) => { select.value = given; });
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
    set: (given = first) => {
      for (const input of group.querySelectorAll("input")) input.checked = input.value === String(given);
    },
  };
}

function slider(name, field, { low, high, step }) {
  const start = field.default ?? (low + high) / 2;
  const input = el("input", { type: "range", name, id: `option-${name}`, min: low, max: high, step, value: start });
  const initial = input.value; // what the browser makes of it
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
      return field.default != null && input.value === initial ? null : input.value;
    },
    set: (given = field.default) => {
      if (automatic) automatic.checked = given == null;
      input.value = given ?? start;
      show();
    },
  };
}

/** Not by the attribute `pattern`, whose expressions have another syntax (flag `v`) and match the whole value. */
function checkPattern(input, pattern) {
  const expression = new RegExp(pattern, "u");
  input.addEventListener("input", () => {
    const fits = input.value === "" || expression.test(input.value);
    input.setCustomValidity(fits ? "" : `This must have the form ${pattern}`);
  });
}

function typed(name, field) {
  const id = `option-${name}`;
  const initial = field.default ?? "";
  let input;
  let suggestions = null; // names that are known, beside which others may be typed
  if (isNumber(field)) {
    const { low, high, step } = bounds(field);
    input = el("input", { type: "number", inputmode: field.type === "integer" ? "numeric" : "decimal",
      name, id, min: low, max: high, step, value: initial, placeholder: field.nullable ? "automatic" : null });
  } else if ((field.maxLength ?? 0) > 120) {
    input = el("textarea", { name, id, rows: 3, maxlength: field.maxLength });
    input.value = initial;
  } else {
    input = el("input", { type: "text", name, id, maxlength: field.maxLength, value: initial });
    if (field.pattern) checkPattern(input, field.pattern);
    if (field.examples?.length) suggestions = el("datalist", { id: `${id}-known` }, ...field.examples.map((value) => el("option", { value })));
    if (suggestions) input.setAttribute("list", suggestions.id);
  }
  const made = labelled(name, field, input, !field.nullable && !isNumber(field),
    () => (input.value === String(initial) ? null : input.value), (given = initial) => { input.value = given; });
  if (suggestions) made.element.append(suggestions);
  return made;
}

function file(name, field) {
  const input = el("input", { type: "file", name, id: `option-${name}`, accept: field.contentMediaType });
  return labelled(name, field, input, false, () => input.files[0] ?? null, (given) => {
    const files = new DataTransfer();
    if (given instanceof File) files.items.add(given);
    input.files = files.files;
  });
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
  return labelled(name, field, input, false, () => (input.value.trim() === initial ? null : input.value.trim()),
    (given) => { input.value = given === undefined ? initial : JSON.stringify(given); });
}

/** A text-like field below its label. */
function labelled(name, field, input, front, value, set) {
  const label = el("label", { for: input.id, text: titleOf(name, field) });
  return { input, front, value, set, element: el("div", { class: "field" }, label, input, hinted(input, field)) };
}

/** @returns {Control} */
export function control(name, field) {
  if (isFile(field)) return file(name, field);
  if (field.enum) return choice(name, field);
  if (field.type === "boolean") return toggle(name, field);
  if (isNumber(field)) {
    const limits = bounds(field);
    return limits.slider ? slider(name, field, limits) : typed(name, field);
  }
  return field.type === "string" ? typed(name, field) : json(name, field);
}
