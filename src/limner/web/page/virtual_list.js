/**
 * A long list of cards in a grid: only those near the window are in the document. All cards have one height, so that each
 * one's place follows from its number; the picture of a card gives way to its words.
 */

const COLUMN_MIN = 250; // pixels
const AROUND = 24; // cards kept before and after the visible ones
const WORDS_REM = 10.6; // of a card's height; the picture has the rest
const AHEAD = 2; // windows of height: how far from its end the list asks for more

export class VirtualList {
  #shown = [];
  /** @type {Map<object, number>} */
  #places = new Map();
  #mounted = new Set();
  #total = -1;
  #columns = 1;
  #width = 0;
  #height = 1;
  #gap = 0;
  #frame = null;

  /**
   * @param {HTMLElement} list
   * @param {{left: (record: object) => void, nearEnd: () => void}} tell `left`: a record's card is not in the document
   *   any more; `nearEnd`: there is not much below the window
   */
  constructor(list, tell) {
    this.list = list;
    this.tell = tell;
    const later = () => { this.#frame ??= requestAnimationFrame(() => { this.#frame = null; this.render(); }); };
    addEventListener("scroll", later, { passive: true });
    new ResizeObserver(() => { if (this.#measure()) this.render(); }).observe(list);
  }

  /** How many columns there are now. */
  get columns() { return this.#columns; }

  get shown() { return this.#shown; }

  /** A record's number in the list, -1 if it is not in it. */
  placeOf(record) { return this.#places.get(record) ?? -1; }

  /** The record whose card has the focus. */
  get focused() { return [...this.#mounted].find((record) => record.card.element.contains(document.activeElement)) ?? null; }

  /** The record that gets the focus when those go that have it now; null: none is left; undefined: they do not have it. */
  heir(going) {
    const holder = this.focused;
    if (!holder || !going.has(holder)) return undefined;
    const place = this.placeOf(holder);
    return this.#shown.slice(place).find((record) => !going.has(record))
      ?? this.#shown.slice(0, place).findLast((record) => !going.has(record)) ?? null;
  }

  /** Show these records, of `total` (-1: not known yet). What is in the window stays where it is. */
  set(records, total) {
    const anchor = this.#anchor();
    this.#shown = records;
    this.#places = new Map(records.map((record, place) => [record, place]));
    this.#total = total;
    if (this.#width === 0) this.#measure();
    this.render();
    if (!anchor || !this.#places.has(anchor.record)) return;
    const moved = this.#top(this.#places.get(anchor.record)) - anchor.top;
    if (moved !== 0) {
      scrollBy({ top: moved, behavior: "instant" });
      this.render();
    }
  }

  /** Bring a record's card into the window. */
  reveal(place) {
    const { top } = this.list.getBoundingClientRect();
    const start = top + this.#top(place);
    if (start < 0 || start + this.#height > innerHeight) {
      scrollBy({ top: start - Math.max(0, (innerHeight - this.#height) / 2), behavior: "instant" });
    }
    this.render();
  }

  /** Put the cards near the window into the document, and take the others out. */
  render() {
    const { list } = this;
    const row = this.#height + this.#gap;
    const rows = Math.ceil(this.#shown.length / this.#columns);
    list.style.height = rows ? `${rows * row - this.#gap}px` : "0";
    const { top } = list.getBoundingClientRect();
    const around = Math.ceil(AROUND / this.#columns);
    const first = Math.max(0, Math.floor(-top / row) - around) * this.#columns;
    const last = (Math.max(0, Math.ceil((innerHeight - top) / row)) + around) * this.#columns;
    const wanted = this.#shown.slice(first, last);
    const keep = new Set(wanted);
    for (const record of this.#mounted) {
      if (keep.has(record)) continue;
      // What has the focus stays in the document, or the keyboard would lose its place.
      if (this.#places.has(record) && record.card.element.contains(document.activeElement)) {
        if (this.#places.get(record) < first) wanted.unshift(record);
        else wanted.push(record);
        keep.add(record);
        continue;
      }
      record.card.element.remove();
      this.#mounted.delete(record);
      this.tell.left(record);
    }
    let at = list.firstElementChild;
    for (const record of wanted) {
      const { element } = record.card;
      this.#put(element, this.#places.get(record));
      if (element === at) at = at.nextElementSibling;
      else list.insertBefore(element, at);
      this.#mounted.add(record);
    }
    if (rows * row + top < innerHeight * (1 + AHEAD)) this.tell.nearEnd();
  }

  #put(element, place) {
    const x = (place % this.#columns) * (this.#width + this.#gap);
    const where = `translate(${x}px, ${this.#top(place)}px)`;
    if (element.style.transform !== where) element.style.transform = where;
    element.setAttribute("aria-posinset", place + 1);
    element.setAttribute("aria-setsize", this.#total);
  }

  #top(place) { return Math.floor(place / this.#columns) * (this.#height + this.#gap); }

  /** The first record below the window's upper edge, if the list begins above it. */
  #anchor() {
    const { top } = this.list.getBoundingClientRect();
    if (top > -this.#height) return null;
    const row = Math.ceil(-top / (this.#height + this.#gap));
    const record = this.#shown[row * this.#columns];
    return record ? { record, top: row * (this.#height + this.#gap) } : null;
  }

  /** Whether the columns have another size than before. */
  #measure() {
    const all = this.list.clientWidth;
    if (all === 0) return false;
    const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
    const gap = Number.parseFloat(getComputedStyle(this.list).columnGap) || 0;
    const columns = Math.max(1, Math.floor((all + gap) / (Math.min(all, COLUMN_MIN) + gap)));
    const width = Math.floor((all - gap * (columns - 1)) / columns);
    const height = Math.round(width * 0.72 + WORDS_REM * rem);
    const changed = width !== this.#width || height !== this.#height || gap !== this.#gap || columns !== this.#columns;
    this.#gap = gap;
    this.#columns = columns;
    this.#width = width;
    this.#height = height;
    this.list.style.setProperty("--card-width", `${width}px`);
    this.list.style.setProperty("--card-height", `${height}px`);
    return changed;
  }
}
