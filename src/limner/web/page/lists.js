/** Controls for lists and maps: rows that one can add to, numbers in a line, and the steps of a pipeline. */

import { asJson, control, hinted, labelled, resolve, titleOf } from "./controls.js";
import { el, say, sentence } from "./dom.js";

/** @typedef {import("./controls.js").Control} Control @typedef {import("./controls.js").Place} Place */

let serial = 0;

/** Numbers in one line, separated by commas; also as a JSON array. */
export function numbers(name, field, { prefix }) {
  const input = el("input", { type: "text", name: prefix + name, id: `option-${prefix}${name}`, placeholder: "4, 2, …" });
  const text = (list) => (list == null ? "" : list.length ? list.join(", ") : "[]");
  const read = () => {
    const given = input.value.trim();
    if (given === "") return field.nullable ? null : [];
    try {
      const list = given.startsWith("[") ? JSON.parse(given) : given.split(/[\s,;]+/).map(Number);
      return Array.isArray(list) && list.every((each) => Number.isFinite(each)) ? list : undefined;
    } catch {
      return undefined;
    }
  };
  input.addEventListener("input", () => input.setCustomValidity(read() === undefined ? "These must be numbers, separated by commas." : ""));
  input.value = text(field.default);
  const initial = JSON.stringify(read());
  return labelled(name, field, input, false, () => {
    const now = JSON.stringify(read());
    return now === initial || now === undefined ? null : now === "null" ? "" : now;
  }, (given = field.default) => { input.value = text(given); input.setCustomValidity(""); });
}

/** A part of a list: its element, the value as JSON has it, and how a value is shown. */
function part(field, place, words) {
  if (field.type === "object" && field.properties) {
    const members = Object.entries(field.properties).map(([name, schema]) => {
      const plain = resolve(schema, place.root);
      const made = control(name, plain, place);
      if (field.required?.includes(name) && made.input) made.input.required = true;
      return { name, plain, ...made };
    });
    return {
      element: el("div", { class: "members" }, ...members.map((each) => each.element)),
      value: () => Object.fromEntries(members.map(({ name, plain, value }) => [name, value(), plain]).filter(([, value]) => value !== null)
        .map(([name, value, plain]) => [name, asJson(plain, value)])),
      set: (given) => members.forEach(({ name, set }, index) => set(Array.isArray(given) ? given[index] : given?.[name])),
    };
  }
  const made = control("value", { title: words, ...field }, place);
  if (made.input) made.input.required = true;
  return { element: made.element, value: () => { const given = made.value(); return given === null ? null : asJson(field, given); }, set: made.set };
}

/**
 * Rows with buttons to remove them, and one to add another.
 * @param {(given: any) => {element: HTMLElement, value: () => any}} make a row's content
 * @param {{one: string, most?: number, initial: any, read: (values: any[]) => any, write: (given: any) => any[], adder?: HTMLElement}} kind
 */
function list(name, field, make, { one, most = Infinity, initial, read, write, adder, orderable = false }) {
  /** @type {{element: HTMLElement, value: () => any}[]} */
  let parts = [];
  const holder = el("ol", { class: "list-rows", role: "list" });
  const group = el("fieldset", { class: "field list-field" }, el("legend", { text: titleOf(name, field) }));
  const hint = hinted(group, field);
  const add = adder?.button ?? el("button", { type: "button", class: "add", text: `Add ${one}` });
  const told = () => group.dispatchEvent(new Event("change", { bubbles: true }));
  const renew = () => {
    holder.replaceChildren(...parts.map((each) => each.row));
    add.disabled = parts.length >= most;
    parts.forEach((each, index) => each.numbered?.(index + 1, parts.length));
  };
  const enter = (given) => {
    const made = make(given);
    const remove = el("button", { type: "button", class: "quiet icon", "aria-label": `Remove ${one.replace(/^an? /, "this ")}`, text: "✕", onclick: () => {
      const at = parts.indexOf(made);
      parts.splice(at, 1);
      renew();
      (parts[Math.min(at, parts.length - 1)]?.row.querySelector("button[aria-label^=Remove]") ?? add).focus();
      say("Removed.");
      told();
    } });
    const way = (words, sign, step) => el("button", { type: "button", class: "quiet icon", "aria-label": words, text: sign, onclick: ({ currentTarget }) => {
      const at = parts.indexOf(made);
      parts.splice(at, 1);
      parts.splice(at + step, 0, made);
      renew();
      (currentTarget.disabled ? remove : currentTarget).focus();
      say(`Now number ${at + step + 1}.`);
      told();
    } });
    const ways = orderable ? [way("Earlier", "↑", -1), way("Later", "↓", 1)] : [];
    made.row = el("li", { class: "list-row" }, made.element, el("div", { class: "row-tools" }, ...ways, remove));
    if (orderable) {
      const { numbered } = made;
      made.numbered = (number, count) => {
        numbered?.(number);
        ways[0].disabled = number === 1;
        ways[1].disabled = number === count;
      };
    }
    parts.push(made);
    return made;
  };
  const set = (given = initial) => {
    parts = [];
    for (const each of write(given)) enter(each);
    renew();
  };
  add.addEventListener("click", () => {
    const made = enter(adder?.given(parts.map((each) => each.value())));
    renew();
    made.row.querySelector("input, select, summary")?.focus();
    told();
  });
  group.append(holder, adder?.element ?? add, ...(hint ? [hint] : []));
  set();
  const sent = () => JSON.stringify(read(parts.map((each) => each.value())));
  const before = sent();
  return { element: group, front: false, set, value: () => (sent() === before ? null : sent()) };
}

/** A list whose items are alike. What is pasted as a JSON array fills it. */
export function rows(name, field, item, place) {
  const kind = { AreaShape: "a box", PointShape: "a point" }[item.title] ?? "a row";
  const made = list(name, field, (given) => {
    serial += 1;
    const own = part(item, { ...place, prefix: `${place.prefix}${name}-${serial}-` }, titleOf(name, field));
    if (given !== undefined) own.set(given);
    return own;
  }, { one: kind, most: field.maxItems, initial: field.default ?? [], write: (given) => given ?? [],
    read: (values) => (values.length || !field.nullable ? values : field.default ?? null) });
  made.element.addEventListener("paste", (event) => {
    let given;
    try { given = JSON.parse(event.clipboardData.getData("text/plain")); } catch { return; }
    if (!Array.isArray(given)) return;
    event.preventDefault();
    made.set(given.slice(0, field.maxItems));
    say(`${given.length} rows pasted.`);
  });
  return made;
}

/** Names with a value each. */
export function mapping(name, field, value, place) {
  const isList = value.type === "array";
  return list(name, field, (given) => {
    serial += 1;
    const prefix = `${place.prefix}${name}-${serial}-`;
    const key = el("input", { type: "text", id: `option-${prefix}key`, required: true, maxlength: field.propertyNames?.maxLength ?? 64, "aria-label": "Name", placeholder: "name" });
    const own = part(value, { ...place, prefix }, isList ? "Numbers" : "Value");
    if (given) {
      [key.value] = given;
      own.set(given[1]);
    }
    return { element: el("div", { class: "members pair" }, el("div", { class: "field" }, el("label", { for: key.id, text: "Name" }), key), own.element), value: () => [key.value, own.value()] };
  }, { one: "an entry", most: field.maxProperties, initial: field.default ?? {}, write: (given) => Object.entries(given ?? {}),
    read: (pairs) => (pairs.length || !field.nullable ? Object.fromEntries(pairs) : field.default ?? null) });
}

/** Steps, each an operation with its own form. */
export function steps(name, field, place) {
  const { mapping: targets, propertyName } = field.items.discriminator;
  const kinds = Object.keys(targets);
  const schemaOf = (kind) => targets[kind].replace(/^#\//, "").split("/").reduce((node, key) => node[key], place.root);
  const next = el("select", { id: `option-${place.prefix}${name}-next` }, ...kinds.map((kind) => el("option", { value: kind, text: sentence(kind) })));
  const button = el("button", { type: "button", class: "add", text: "Add step" });
  const adder = { button, element: el("div", { class: "add-step" }, el("label", { class: "hidden", for: next.id, text: "Operation of the next step" }), next, button),
    given: (before) => {
      const taken = before.map((each) => each.name ?? each[propertyName]);
      let own = next.value;
      for (let number = 2; taken.includes(own); number += 1) own = `${next.value}-${number}`;
      return { [propertyName]: next.value, ...(own === next.value ? {} : { name: own }), opened: true };
    } };
  const told = { ...field, description: "Each is done with the photo that you send. Open one for its options." };
  return list(name, told, ({ opened = false, ...given }) => {
    const kind = given[propertyName];
    serial += 1;
    const schema = schemaOf(kind);
    const { [propertyName]: _, ...properties } = schema.properties;
    const form = place.form({ ...schema, properties, $defs: place.root.$defs }, `${place.prefix}${name}-${serial}-`, kind);
    form.fill(given);
    const title = el("span", {});
    const element = el("details", { class: "step", open: opened }, el("summary", {}, title), form.element);
    return { element, numbered: (number) => { title.textContent = `${number}. ${sentence(kind)}`; },
      value: () => ({ [propertyName]: kind, ...form.values() }) };
  }, { one: "a step", most: field.maxItems, initial: field.default ?? [], write: (given) => given ?? [], read: (values) => values, adder, orderable: true });
}
