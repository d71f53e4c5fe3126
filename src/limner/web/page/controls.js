/** One form control for each kind of JSON Schema, so that a new parameter needs no code here. Lists are in lists.js. */

import { el, sentence } from "./dom.js";
import { ShapeChoice } from "./frame.js";
import { mapping, numbers, rows, steps } from "./lists.js";

const SLIDER_STEPS = 100;
const SLIDER_SPAN = 1000; // beyond it, a pixel of the slider is too much
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
  const slider = Number.isFinite(span) && (step === null ? span <= SLIDER_SPAN : span / step <= SLIDER_STEPS);
  // A power of ten, so that a default such as 1 is one of the slider's values.
  const fine = 10 ** Math.floor(Math.log10(span / SLIDER_STEPS));
  return { low, high, step: step ?? (slider ? fine : "any"), slider };
}

/**
 * One form control: its element and the value that it sends.
 * @typedef {{element: HTMLElement, front: boolean, value: () => (string|File|null), set: (value: any) => void}} Control
 *   `value`: null is not sent; `set`: a value as the API tells it, undefined for the default
 * @typedef {{root: object, prefix: string, form: (schema: object, prefix: string) => object}} Place where a control is:
 *   the schema with `$defs`, what its ids begin with, and how a form for a part of the schema is made
 */

/** What a control sends, as JSON has it. */
export function asJson(field, value) {
  if (value === "" && field.nullable) return null;
  if (isNumber(field)) return Number(value);
  if (field.type === "boolean") return value === "true";
  return field.type === "string" || typeof value !== "string" ? value : JSON.parse(value);
}

let serial = 0;

export function hinted(input, field) {
  if (!field.description) return null;
  const hint = el("small", { class: "hint", id: `${input.id || "field"}-hint-${(serial += 1)}`, text: field.description.replaceAll("`", "") });
  input.setAttribute("aria-describedby", hint.id);
  return hint;
}

export const titleOf = (name, field) => sentence(field.title ?? name);

function toggle(name, field, { prefix }) {
  const input = el("input", { type: "checkbox", role: "switch", name: prefix + name, checked: field.default === true });
  const label = el("label", { class: "switch" }, el("span", { text: titleOf(name, field) }), input);
  return {
    element: el("div", { class: "field" }, label, hinted(input, field)),
    front: true,
    value: () => (input.checked === (field.default === true) ? null : String(input.checked)),
    set: (given = field.default === true) => { input.checked = given; },
  };
}

function choice(name, field, { prefix }) {
  const none = field.nullable ? [""] : [];
  const values = [...none, ...field.enum.filter((value) => value !== null)];
  const first = field.default ?? values[0];
  const words = (value) => (value === "" ? "Automatic" : sentence(value));
  if (values.length > CHIP_CHOICES || field.nullable) {
    const select = el("select", { name: prefix + name, id: `option-${prefix}${name}` }, ...values.map((value) =>
      el("option", { value, text: words(value), selected: value === first })));
    return labelled(name, field, select, !field.nullable, () => (select.value === String(first) ? null : select.value),
      (given = first) => { select.value = given; });
  }
  const group = el("fieldset", { class: "field" }, el("legend", { text: titleOf(name, field) }));
  const hint = hinted(group, field);
  group.append(el("div", { class: "chips" }, ...values.map((value) => el("label", { class: "chip" },
    el("input", { type: "radio", name: prefix + name, value, checked: value === first }), el("span", { text: words(value) })))));
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

function slider(name, field, { low, high, step }, { prefix }) {
  const start = field.default ?? (low + high) / 2;
  const input = el("input", { type: "range", name: prefix + name, id: `option-${prefix}${name}`, min: low, max: high, step, value: start });
  const initial = input.value; // what the browser makes of it
  const label = el("label", { for: input.id, id: `${input.id}-label`, text: titleOf(name, field) });
  const exact = el("input", { type: "number", class: "exact", min: low, max: high, step: field.type === "integer" ? 1 : "any", "aria-label": "Exact value",
    "aria-describedby": label.id });
  const automatic = field.nullable ? el("input", { type: "checkbox", checked: field.default == null }) : null;
  let value = initial;
  const show = () => {
    const auto = automatic?.checked ?? false;
    input.disabled = exact.disabled = auto;
    exact.value = auto ? "" : String(Number(Number(value).toFixed(4)));
    exact.placeholder = auto ? "auto" : "";
  };
  input.addEventListener("input", () => {
    ({ value } = input);
    show();
  });
  exact.addEventListener("input", () => {
    if (exact.value === "" || !exact.validity.valid) return; // it is told before it is sent
    ({ value } = exact);
    input.value = value;
  });
  automatic?.addEventListener("change", show);
  show();
  const hint = hinted(input, field);
  return {
    element: el("div", { class: "field" }, el("div", { class: "field-head" }, label, exact), input,
      automatic && el("label", { class: "tick" }, automatic, " Automatic"), hint),
    front: !field.nullable,
    value: () => {
      if (automatic?.checked) return field.default == null ? null : "";
      return field.default != null && Number(value) === Number(initial) ? null : value;
    },
    set: (given = field.default) => {
      if (automatic) automatic.checked = given == null;
      input.value = given ?? start;
      value = given == null ? input.value : String(given);
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

function typed(name, field, { prefix }) {
  const id = `option-${prefix}${name}`;
  const initial = field.default ?? "";
  let input;
  let suggestions = null; // names that are known, beside which others may be typed
  if (isNumber(field)) {
    const { low, high, step } = bounds(field);
    input = el("input", { type: "number", inputmode: field.type === "integer" ? "numeric" : "decimal",
      name: prefix + name, id, min: low, max: high, step, value: initial, placeholder: field.nullable ? "automatic" : null });
  } else if ((field.maxLength ?? 0) > 120) {
    input = el("textarea", { name: prefix + name, id, rows: 3, maxlength: field.maxLength });
    input.value = initial;
  } else {
    input = el("input", { type: "text", name: prefix + name, id, maxlength: field.maxLength, value: initial });
    if (field.pattern) checkPattern(input, field.pattern);
    if (field.examples?.length) suggestions = el("datalist", { id: `${id}-known` }, ...field.examples.map((value) => el("option", { value })));
    if (suggestions) input.setAttribute("list", suggestions.id);
  }
  const made = labelled(name, field, input, !field.nullable && !isNumber(field),
    () => (input.value === String(initial) ? null : input.value), (given = initial) => { input.value = given; });
  if (suggestions) made.element.append(suggestions);
  return made;
}

function file(name, field, { prefix }) {
  const input = el("input", { type: "file", name: prefix + name, id: `option-${prefix}${name}`, accept: field.contentMediaType });
  return labelled(name, field, input, false, () => input.files[0] ?? null, (given) => {
    const files = new DataTransfer();
    if (given instanceof File) files.items.add(given);
    input.files = files.files;
  });
}

/** For what no other control is made for. */
function json(name, field, { prefix }) {
  const input = el("textarea", { name: prefix + name, id: `option-${prefix}${name}`, rows: 3, spellcheck: "false", class: "code", placeholder: "JSON" });
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
export function labelled(name, field, input, front, value, set) {
  const label = el("label", { for: input.id, text: titleOf(name, field) });
  return { input, front, value, set, element: el("div", { class: "field" }, label, input, hinted(input, field)) };
}

/** A colour's name or number, and a swatch to choose from. */
function colour(name, field, place) {
  const made = typed(name, { ...field, examples: undefined }, place);
  const { input } = made;
  const swatch = el("input", { type: "color", class: "swatch", "aria-label": `${titleOf(name, field)}: choose a colour` });
  const pen = document.createElement("canvas").getContext("2d");
  const show = () => {
    const known = CSS.supports("color", input.value);
    swatch.classList.toggle("none", !known);
    if (!known) return;
    pen.fillStyle = input.value;
    swatch.value = pen.fillStyle; // a canvas writes colours as #rrggbb
  };
  swatch.addEventListener("input", () => {
    input.value = swatch.value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
  input.addEventListener("input", show);
  if (field.nullable) input.placeholder = "automatic";
  const both = el("div", { class: "colour" });
  input.replaceWith(both);
  both.append(swatch, input);
  show();
  return { ...made, front: false, set: (given) => { made.set(given ?? undefined); show(); } };
}

/** Some known values, and any other: `largest`, `all`, or a number. */
function suggested(name, field, place) {
  const made = typed(name, { ...field, examples: undefined }, place);
  const { input } = made;
  input.setAttribute("aria-label", `Another value for ${titleOf(name, field).toLowerCase()}`);
  const known = field.examples.filter((each) => !/^\d+$/.test(each));
  const radio = (value, words) => {
    const each = el("input", { type: "radio", name: `${place.prefix}${name}-of`, value });
    each.addEventListener("change", () => {
      input.hidden = value !== "";
      if (value === "") input.focus();
      else input.value = value;
    });
    return el("label", { class: "chip" }, each, el("span", { text: words }));
  };
  const chips = el("div", { class: "chips" }, ...known.map((each) => radio(each, sentence(each))), radio("", "Number"));
  const show = () => {
    const own = !known.includes(input.value);
    for (const each of chips.querySelectorAll("input")) each.checked = each.value === (own ? "" : input.value);
    input.hidden = !own;
  };
  show();
  return { ...made, front: false, set: (given) => { made.set(given); show(); },
    element: el("fieldset", { class: "field" }, el("legend", { text: titleOf(name, field) }), chips, input, hinted(input, field)) };
}

/** A shape such as 16:9, as small frames; any other can be typed. */
function shape(name, field, place) {
  const made = typed(name, { ...field, examples: undefined }, place);
  const { input } = made;
  input.setAttribute("aria-label", "Another shape, WIDTH:HEIGHT");
  input.placeholder = "WIDTH:HEIGHT";
  const choice = new ShapeChoice(`${place.prefix}${name}-of`, (value) => {
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
  input.addEventListener("input", () => { choice.value = input.value; });
  return { ...made, front: true, set: (given) => { made.set(given ?? undefined); choice.value = input.value; },
    element: el("div", { class: "field" }, choice.element, input, hinted(input, field)) };
}

const isColour = (field) => field.pattern?.includes("#[0-9A-Fa-f]{6}") ?? false;
const isShape = (field) => field.examples?.some((each) => /^\d+:\d+$/.test(each)) ?? false;

/** @param {Place} place @returns {Control} */
export function control(name, field, place) {
  if (isFile(field)) return file(name, field, place);
  if (field.enum) return choice(name, field, place);
  if (field.type === "boolean") return toggle(name, field, place);
  if (isNumber(field)) {
    const limits = bounds(field);
    return limits.slider ? slider(name, field, limits, place) : typed(name, field, place);
  }
  if (field.type === "string") {
    if (isColour(field)) return colour(name, field, place);
    if (isShape(field)) return shape(name, field, place);
    return field.examples?.includes(field.default) ? suggested(name, field, place) : typed(name, field, place);
  }
  const items = field.type === "array" && field.items ? field.items : null;
  if (items?.discriminator) return steps(name, field, place);
  if (items) {
    const item = resolve(items, place.root);
    if (isNumber(item)) return numbers(name, field, place);
    return item.type === "json" ? json(name, field, place) : rows(name, field, item, place);
  }
  const value = field.type === "object" && typeof field.additionalProperties === "object" ? resolve(field.additionalProperties, place.root) : null;
  return value && value.type !== "json" ? mapping(name, field, value, place) : json(name, field, place);
}
