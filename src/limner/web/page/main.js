/** The page: puts the form, the uploads, the live feed and the cards together. Read board.js and uploads.js next. */

import * as api from "./api.js";
import { Board } from "./board.js";
import { Camera } from "./camera.js";
import { byId, el, plural, say } from "./dom.js";
import { Feed } from "./events.js";
import { operationPicker } from "./forms.js";
import { Uploads } from "./uploads.js";
import { Viewer } from "./viewer.js";

const CARDS_WAITING = 24; // of a large pile of photos, as many get a card before their turn comes

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

// ---- photos in -----------------------------------------------------------------------------------------------------

const snapshot = () => ({ operation: form.operation.name, fields: form.fields() });

/** @param {Iterable<File>} files */
function add(files) {
  const photos = [...files];
  if (photos.length === 0) return;
  if (!form?.takesPhoto) {
    say("There is nothing here that takes a photo yet.");
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
  if (gallery.getBoundingClientRect().top > innerHeight * 0.8) gallery.scrollIntoView(); // a phone: go to where they appear
}

function again(record) {
  if (!record.job) {
    // It was refused; the options may be what was wrong, so those now chosen count.
    if (form.check()) uploads.again(record.upload, snapshot());
    return;
  }
  add([record.upload.file]);
}

uploads.addEventListener("change", ({ detail }) => board.upload(detail));
uploads.addEventListener("sent", ({ detail }) => board.sent(detail.upload, detail.job));
uploads.addEventListener("line", () => {
  const line = byId("waiting");
  line.hidden = uploads.waiting <= CARDS_WAITING;
  line.firstElementChild.textContent = `${uploads.waiting} photos wait their turn.`;
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

// The whole page takes what is dropped; leaving an inner element is told too, hence the count.
let depth = 0;
const veil = byId("drag-veil");
const bringsFiles = (event) => event.dataTransfer?.types.includes("Files") && !document.querySelector("dialog[open]");
const veiled = (on) => {
  depth = on ? depth : 0;
  veil.hidden = !on;
};
addEventListener("dragenter", (event) => {
  if (!bringsFiles(event)) return;
  depth += 1;
  veiled(true);
});
addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  if (depth === 0) veiled(false);
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault(); // else the browser leaves the page to show the file
  veiled(false);
  if (bringsFiles(event)) add(event.dataTransfer.files);
});

// ---- what the server can do ----------------------------------------------------------------------------------------

let loading = false;

async function loadOperations() {
  if (loading) return;
  loading = true;
  try {
    const operations = await api.operations();
    if (!operations.length) throw new api.Problem({ title: "The server offers no operation." });
    operationPicker(operations, (chosen) => {
      form = chosen;
      byId("intake").hidden = !form.takesPhoto;
      byId("run").hidden = form.takesPhoto;
    });
  } catch (problem) {
    const retry = el("button", { type: "button", text: "Try again", onclick: () => loadOperations() });
    byId("operations").replaceChildren(el("div", { class: "problem-box", role: "alert" },
      el("p", { text: `What the server can do is not known: ${problem.message}` }), retry));
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
  pill.textContent = { connecting: "Connecting…", live: "Live", lost: "Reconnecting…" }[state];
  if (state !== "lost") return;
  const left = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
  showBanner(listWorks
    ? "Live news do not get through. The page looks for new pictures now and then instead."
    : `Reconnecting… The server is out of reach; trying again in ${left} s. What you add meanwhile is sent when it is back.`, true);
}

function showBanner(words, retry) {
  const text = byId("banner-text");
  byId("banner").hidden = !words;
  byId("banner-retry").hidden = !retry;
  if (text.textContent !== words) text.textContent = words;
}

async function refresh() {
  const box = byId("list-problem");
  try {
    await board.refresh();
    listWorks = true;
    box.hidden = true;
  } catch (problem) {
    listWorks = false;
    box.hidden = feed.state !== "live"; // the banner tells of a lost server
    box.firstElementChild.textContent = `The pictures cannot be listed: ${problem.message}`;
  }
  showState();
}

async function showReadiness() {
  const reason = await api.notReady();
  if (feed.state !== "live") return;
  showBanner(reason ? `The service is up but cannot take work now. ${reason.detail}`.trim() : "", false);
  if (reason) setTimeout(() => feed.state === "live" && showReadiness(), 5000);
}

feed.addEventListener("job", ({ detail }) => board.apply(detail));
feed.addEventListener("state", async ({ detail }) => {
  retryAt = detail.retryAt;
  showState();
  if (detail.state === "live") {
    // The socket first, then the list: what happens in between comes by the socket.
    refresh();
    showReadiness();
    if (!form) loadOperations();
    uploads.release();
  } else {
    refresh(); // where only the socket is blocked, the list still works
  }
});
byId("banner-retry").addEventListener("click", () => feed.nudge());
byId("list-problem").querySelector("button").addEventListener("click", () => refresh());
addEventListener("online", () => feed.nudge());
setInterval(() => {
  if (feed.state === "lost") showState();
  board.tick();
}, 1000);

// After a sleep a socket may be dead without knowing it: look, and if there is no answer, begin anew.
let hiddenSince = null;
document.addEventListener("visibilitychange", async () => {
  if (document.hidden) {
    hiddenSince = Date.now();
  } else if (hiddenSince && Date.now() - hiddenSince > 60_000) {
    if (feed.state !== "live") feed.nudge();
    else await board.refresh().catch(() => feed.restart());
  }
});

loadOperations();
feed.open();
viewer.openFromAddress();
