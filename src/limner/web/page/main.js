/** Connects the form, the uploads, the live feed and the cards. Read board.js and uploads.js next. */

import * as api from "./api.js";
import { Board } from "./board.js";
import { Camera } from "./camera.js";
import { byId, el, fileSize, plural, say } from "./dom.js";
import { Feed } from "./events.js";
import { operationPicker } from "./forms.js";
import { session } from "./session.js";
import { Uploads } from "./uploads.js";
import { Viewer } from "./viewer.js";

const CARDS_WAITING = 24; // only this many waiting uploads have a card

const feed = new Feed();
const uploads = new Uploads(() => feed.state === "live");
const board = new Board({
  open: (record) => viewer.open(record),
  json: (record) => viewer.open(record, { json: true }),
  again: (record) => again(record),
  abort: (upload) => uploads.drop(upload),
  changed: (record) => viewer.changed(record),
});
const viewer = new Viewer(board);

/** @type {?import("./forms.js").OptionsForm} */
let form = null;

// ---- uploads -------------------------------------------------------------------------------------------------------

const snapshot = () => ({ operation: form.operation.name, fields: form.fields(), maxBytes: form.maxBytes });

/** @param {Iterable<File>} files */
function add(files) {
  const photos = [...files];
  if (photos.length === 0) return;
  if (!form?.takesPhoto) {
    say("This operation does not use a photo.");
    return;
  }
  if (!form.check()) return;
  const chosen = snapshot();
  for (const photo of photos) {
    const upload = uploads.add(photo, photo.name || "pasted picture", chosen);
    if (uploads.waiting <= CARDS_WAITING) board.upload(upload);
  }
  say(`${plural(photos.length, "photo")} added.`);
  uploads.go();
  const gallery = byId("gallery");
  if (gallery.getBoundingClientRect().top > innerHeight * 0.8) gallery.scrollIntoView(); // on a phone the list is below the form
}

function again(record) {
  if (!record.job) {
    // It was refused, perhaps because of its options, so use those that are selected now.
    if (form.check()) uploads.again(record.upload, snapshot());
    return;
  }
  add([record.upload.file]);
}

uploads.addEventListener("change", ({ detail }) => board.upload(detail));
uploads.addEventListener("sent", ({ detail }) => board.sent(detail.upload, detail.job));
uploads.addEventListener("queue", () => {
  const line = byId("waiting");
  line.hidden = uploads.waiting <= CARDS_WAITING;
  line.firstElementChild.textContent = `${uploads.waiting} photos are waiting to be sent.`;
});
byId("waiting").querySelector("button").addEventListener("click", () => {
  for (const upload of uploads.dropWaiting()) board.forget(upload);
});

addEventListener("beforeunload", (event) => uploads.busy && event.preventDefault()); // the browser asks

const picker = byId("files");
byId("drop").addEventListener("click", () => picker.click());
picker.addEventListener("change", () => {
  add(picker.files);
  picker.value = "";
});
const camera = new Camera((photo) => add([photo]));
byId("camera").addEventListener("click", () => camera.open());
byId("run").addEventListener("click", () => {
  if (!form.check()) return;
  board.upload(uploads.add(null, form.operation.name, snapshot()));
  uploads.go();
});

addEventListener("paste", (event) => {
  const files = event.clipboardData?.files ?? [];
  if (files.length === 0) return;
  event.preventDefault();
  add(files);
});

// Files can be dropped anywhere. Entering and leaving inner elements fires events too, so they are counted.
let depth = 0;
const overlay = byId("drop-overlay");
const hasFiles = (event) => event.dataTransfer?.types.includes("Files") && !document.querySelector("dialog[open]");
const showOverlay = (on) => {
  depth = on ? depth : 0;
  overlay.hidden = !on;
};
addEventListener("dragenter", (event) => {
  if (!hasFiles(event)) return;
  depth += 1;
  showOverlay(true);
});
addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  if (depth === 0) showOverlay(false);
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault(); // otherwise the browser opens the file instead of the page
  showOverlay(false);
  if (hasFiles(event)) add(event.dataTransfer.files);
});

// ---- operations ----------------------------------------------------------------------------------------------------

let loading = false;

async function loadOperations() {
  if (loading) return;
  loading = true;
  try {
    const operations = await api.operations();
    if (!operations.length) throw new api.Problem({ title: "The server has no operations." });
    operationPicker(operations, (chosen) => {
      form = chosen;
      byId("intake").hidden = !form.takesPhoto;
      const limit = Number.isFinite(form.maxBytes) ? ` The limit is ${fileSize(form.maxBytes)} per photo.` : "";
      byId("drop-hint").textContent = `You can add several photos at once, or paste one.${limit}`;
      byId("run").hidden = form.takesPhoto;
    });
  } catch (problem) {
    if (problem.status === 401) return;
    const retry = el("button", { type: "button", text: "Try again", onclick: () => loadOperations() });
    byId("operations").replaceChildren(el("div", { class: "problem-box", role: "alert" },
      el("p", { text: `The operations could not be loaded. ${problem.message}` }), retry));
  } finally {
    loading = false;
  }
}

// ---- the live feed -------------------------------------------------------------------------------------------------

let retryAt = null;
let listWorks = false;

function showState() {
  const { state } = feed;
  const pill = byId("link-state");
  pill.dataset.state = state;
  pill.textContent = { connecting: "Connecting…", live: "Live", lost: "Reconnecting…", off: "No live updates" }[state];
  if (state !== "lost") return;
  const left = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
  showBanner(listWorks
    ? `The live connection was lost. Reconnecting in ${left} s. New pictures appear at each try.`
    : `The connection to the server was lost. Reconnecting in ${left} s. Photos that you add now are sent after that.`, true);
}

function showBanner(message, retry) {
  const text = byId("banner-text");
  byId("banner").hidden = !message;
  byId("banner-retry").hidden = !retry;
  if (text.textContent !== message) text.textContent = message;
}

async function refresh() {
  const box = byId("list-problem");
  try {
    await board.refresh();
    listWorks = true;
    box.hidden = true;
  } catch (problem) {
    listWorks = false;
    box.hidden = !["live", "off"].includes(feed.state); // the banner already reports a lost connection
    box.firstElementChild.textContent = `The list of pictures could not be loaded. ${problem.message}`;
  }
  showState();
}

async function showReadiness() {
  const reason = await api.notReady();
  if (feed.state !== "live") return;
  showBanner(reason ? `The service is running but cannot accept photos now. ${reason.detail}`.trim() : "", false);
  if (reason) setTimeout(() => feed.state === "live" && showReadiness(), 5000);
}

feed.addEventListener("job", ({ detail }) => board.apply(detail));
feed.addEventListener("state", async ({ detail }) => {
  retryAt = detail.retryAt;
  showState();
  if (detail.state === "off") {
    if (session.active) refresh(); // the key may not read: the list says so
    return;
  }
  if (detail.state === "live") {
    // The list is loaded after the socket is open, so that no event in between is missed.
    refresh();
    showReadiness();
    if (!form) loadOperations();
    uploads.release();
  } else {
    refresh(); // a proxy may block only WebSockets
  }
});
byId("banner-retry").addEventListener("click", () => feed.nudge());
byId("list-problem").querySelector("button").addEventListener("click", () => refresh());
addEventListener("online", () => feed.nudge());
setInterval(() => {
  if (feed.state === "lost") showState();
  board.tick();
}, 1000);

// After the computer slept, the socket may be dead without an event: send a request, and reconnect if it fails.
let hiddenSince = null;
document.addEventListener("visibilitychange", async () => {
  if (document.hidden) {
    hiddenSince = Date.now();
  } else if (hiddenSince && Date.now() - hiddenSince > 60_000) {
    if (feed.state !== "live") feed.nudge();
    else await board.refresh().catch(() => feed.restart());
  }
});

// ---- the log-in ----------------------------------------------------------------------------------------------------

const login = byId("login");
const keyField = byId("key");

/** Show the page, or the log-in in its place. */
function showLogin(on, message = "") {
  login.hidden = !on;
  byId("content").hidden = byId("link-state").hidden = on;
  byId("logout").hidden = on || !session.active;
  byId("login-problem").textContent = message;
  if (on) keyField.focus();
}

session.addEventListener("refused", ({ detail }) => {
  feed.close();
  showBanner("", false);
  document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
  showLogin(true, detail.had ? "The service does not accept this key. It may be mistyped, revoked or expired." : "");
});

login.addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = keyField.value.trim();
  if (!key) return;
  session.begin(key);
  const button = login.querySelector("button");
  button.disabled = true;
  await enter();
  button.disabled = false;
  if (session.active) keyField.value = "";
});

byId("logout").addEventListener("click", () => {
  session.end();
  location.reload(); // nothing of the pictures stays in the page
});

/** Load what the page shows, or show the log-in if the service asks for a key. */
async function enter() {
  let asked = false;
  const note = () => { asked = true; };
  session.addEventListener("refused", note);
  await loadOperations();
  session.removeEventListener("refused", note);
  if (asked) return;
  showLogin(false);
  feed.open();
  viewer.openFromAddress();
}

enter();
