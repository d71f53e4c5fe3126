/**
 * The choice of a painter and its style: a gallery of examples, or of the user's own photo in each style.
 *
 * It is made from the alternatives (`oneOf`) of the operation's schema, and from what `GET /v1/painters` tells of each.
 *
 * @typedef {{name: string, summary: string, licence: string, lanes: string[], ready: boolean, reason: ?string,
 *   preview: ?string, styles: Record<string, string>}} Painter
 * @typedef {{leaf: object, style: ?string, title: string, about: string}} Entry a painter, or one of its styles
 */

import { exampleAddress } from "./api.js";
import { el, plural, sentence } from "./dom.js";
import { Samples } from "./samples.js";

const NAMES_A_STYLE = ["style", "preset"]; // fields of which each value is an entry of the gallery

function titleOf(style) {
  if (style === null) return "Your words";
  return style === "picture" ? "Your picture" : sentence(style.replaceAll("-", " "));
}

export class PainterChoice {
  /** The chosen alternative of the schema. */
  leaf = null;
  /** The field that the gallery's entries are values of, if it is one of `leaf`'s own. */
  field = null;
  #style = null;
  /** @type {Map<string, {painter: Painter, entries: Entry[], field: ?string}>} */
  #groups = new Map();

  /**
   * @param {object} schema of the operation's parameters
   * @param {Painter[]} painters
   * @param {() => void} changed
   * @param {?string} prefix of the ids in a part of a form, where there are no samples of the photo
   */
  constructor(schema, painters, changed, prefix = null) {
    this.prefix = prefix ?? "";
    this.changed = changed;
    this.known = new Map(painters.map((each) => [each.name, each]));
    const names = schema.properties.painter.enum;
    const ready = (name) => this.known.get(name)?.ready ?? true;
    for (const name of names) this.#groups.set(name, this.#group(name, schema.oneOf.filter((leaf) => leaf.properties.painter.const === name)));
    this.first = schema.properties.painter.default;
    this.select = el("select", { name: `${this.prefix}painter`, id: `option-${this.prefix}painter` }, ...names.map((name) =>
      el("option", { value: name, text: ready(name) ? sentence(name) : `${sentence(name)} (not ready)`, disabled: !ready(name) })));
    this.select.addEventListener("change", () => this.choose({ painter: this.select.value }));
    this.about = el("p", { class: "hint", id: `${this.prefix}painter-about` });
    this.select.setAttribute("aria-describedby", this.about.id);
    this.tiles = el("fieldset", { class: "tiles" });
    this.samples = prefix === null ? new Samples() : null;
    this.element = el("div", { class: "painter-choice" },
      el("div", { class: "field" }, el("label", { for: this.select.id, text: "Painter" }), this.select, this.about),
      this.tiles, ...(this.samples ? [this.samples.element] : []));
    /** What the others lack, for the end of the form; "" if nothing. */
    this.notReady = this.#notReady(names);
    this.choose({ painter: this.first });
  }

  /** Whether a second picture is needed, whose style is taken. */
  get needsStyle() { return this.#style === "picture"; }

  #group(name, leaves) {
    const painter = this.known.get(name) ?? { name, summary: "", lanes: [], styles: {}, preview: null };
    const field = NAMES_A_STYLE.find((each) => each in leaves[0].properties) ?? null;
    const own = field && leaves.length === 1 && leaves[0].properties[field].const === undefined;
    if (!field) return { painter, field: null, entries: [{ leaf: leaves[0], style: null, title: sentence(name), about: painter.summary }] };
    if (!own) return { painter, field: null, entries: leaves.map((leaf) =>
      ({ leaf, style: leaf.properties[field].const, title: sentence(leaf.properties[field].const.replaceAll("-", " ")), about: leaf.description })) };
    const [leaf] = leaves;
    const { enum: values, examples = [] } = leaf.properties[field];
    // A field that may be left out, with names that are known: the entry without a name is that of the words alone.
    return { painter, field, entries: (values ?? [null, ...examples]).map((style) => ({ leaf, style, title: titleOf(style), about: "" })) };
  }

  #notReady(names) {
    const missing = names.map((name) => this.known.get(name)).filter((each) => each && !each.ready);
    if (missing.length === 0) return "";
    return el("details", { class: "not-ready" }, el("summary", { text: `${plural(missing.length, "painter")} not ready` }),
      el("dl", { class: "reasons" }, ...missing.flatMap((each) => [el("dt", { text: sentence(each.name) }), el("dd", { text: each.reason.replaceAll("`", "") })])));
  }

  /** Choose by values as the API tells them: `painter`, and its `style` or `preset`. */
  choose(values) {
    const name = this.#groups.has(values.painter) ? values.painter : this.first;
    const { painter, entries, field } = this.#groups.get(name);
    const given = NAMES_A_STYLE.map((each) => values[each]).find((each) => each !== undefined);
    const standard = field ? entries[0].leaf.properties[field].default ?? null : undefined;
    const entry = entries.find((each) => each.style === (given ?? standard)) ?? entries[0];
    this.select.value = name;
    const away = painter.lanes.length > 0 && painter.lanes.every((lane) => lane === "remote");
    this.about.textContent = `${painter.summary}${away ? " The photo is sent to another server." : ""}`;
    this.tiles.replaceChildren(el("legend", { text: "Style" }), ...entries.map((each) => this.#tile(painter, each, each === entry)));
    this.tiles.hidden = entries.length === 1;
    this.field = field;
    this.samples?.show(name, this.tiles);
    this.#take(entry);
  }

  #take({ leaf, style }) {
    this.leaf = leaf;
    this.#style = style;
    this.changed();
  }

  #tile(painter, entry, checked) {
    const input = el("input", { type: "radio", name: `${this.prefix}tile`, value: entry.style ?? "", checked, title: entry.about });
    input.addEventListener("change", () => this.#take(entry));
    const example = painter.styles[entry.style] ?? null;
    return el("label", { class: "tile" }, input,
      el("span", { class: "tile-picture", "data-style": entry.style ?? "" },
        example ? el("img", { src: exampleAddress(example), alt: "", loading: "lazy", draggable: "false" })
          : el("span", { class: "tile-letter", "aria-hidden": "true", text: entry.title.charAt(0) })),
      el("span", { class: "tile-name", text: entry.title }));
  }

  /** What the choice sends. */
  fields() {
    const given = Object.entries(this.leaf.properties).filter(([, field]) => field.const !== undefined).map(([name, field]) => [name, field.const]);
    return this.field && this.#style !== null ? [...given, [this.field, this.#style]] : given;
  }
}
