/** Functions that make elements and texts. Data enters the page as text or attribute only, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An element: `text` is its text, `on…` a listener, anything else an attribute (`true` = bare, false/null = left out). */
export const el = (tag, props = {}, ...children) => fill(document.createElement(tag), props, children);

/** The same for SVG. */
export const svg = (tag, props = {}, ...children) => fill(document.createElementNS(SVG, tag), props, children);

/** @returns {HTMLElement} the page's element of that id */
export const byId = (id) => document.getElementById(id);

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** "min_score" → "Min score" */
export function sentence(name) {
  const words = String(name).replaceAll("_", " ").trim().toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Milliseconds as text. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "";
  if (ms < 1) return "under 1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** The time of day, with the date if it is not today. */
export function clock(iso) {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return "";
  const today = time.toDateString() === new Date().toDateString();
  const hours = { hour: "2-digit", minute: "2-digit" };
  return time.toLocaleString([], today ? hours : { day: "numeric", month: "short", ...hours });
}

export function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1_000_000 ? `${Math.round(bytes / 1000)} kB` : `${Number((bytes / 1_000_000).toFixed(1))} MB`;
}

/** Copy text to the clipboard, also without a secure context (plain HTTP in a home network). */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = el("textarea", { class: "hidden", readonly: true });
    field.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    const before = document.activeElement;
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    before?.focus?.();
    if (!done) throw new Error("The browser does not allow this page to copy. Select the text and copy it.");
  }
}

/** A button that copies the result of `text()` when it is pressed. */
export function copyButton(label, text, props = {}) {
  const button = el("button", { type: "button", text: label, ...props });
  button.addEventListener("click", async () => {
    try {
      await copyText(await text());
      button.textContent = "Copied";
      say("Copied.");
    } catch (error) {
      button.textContent = "Not copied";
      say(error.message);
    }
    setTimeout(() => { button.textContent = label; }, 1600);
  });
  return button;
}

/** Let the browser save a file. @param {string|Blob} content */
export function saveFile(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const ALIKE = 3;
let lines = [];
let alike = [];
let speaking = null;

/**
 * Announce a line to screen readers; lines within 250 ms are announced together. `many`: there may be any number of its
 * like, of which a few are announced, and how many more there are.
 */
export function say(line, { many = false } = {}) {
  const list = many ? alike : lines;
  if (!list.includes(line)) list.push(line);
  speaking ??= setTimeout(() => {
    const extra = alike.length > ALIKE ? [`And ${alike.length - ALIKE} more.`] : [];
    byId("status").textContent = [...alike.slice(0, ALIKE), ...extra, ...lines].join(" ");
    lines = [];
    alike = [];
    speaking = null;
  }, 250);
}

/** Store a small value between visits, if the browser allows it. */
export const memory = {
  get(key, fallback) {
    try { return JSON.parse(localStorage.getItem(`limner-${key}`)) ?? fallback; } catch { return fallback; }
  },
  set(key, value) {
    try { localStorage.setItem(`limner-${key}`, JSON.stringify(value)); } catch { /* full or forbidden */ }
  },
};
