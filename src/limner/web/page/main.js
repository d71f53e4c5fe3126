/** Connects the form, the uploads, the live feed and the list. Read board.js and uploads.js next. */

import { refill } from "./again.js";
import * as api from "./api.js";
import { Board } from "./board.js";
import { Deletions } from "./deletions.js";
import { byId, el, fileSize, plural, say } from "./dom.js";
import { Feed } from "./events.js";
import { Filters } from "./filters.js";
import { OperationPicker } from "./forms.js";
import { listenForPhotos } from "./intake.js";
import { listenForKeys } from "./keys.js";
import { Remembered } from "./remembered.js";
import { offerSamples, sampleOf } from "./samples.js";
import { Selection } from "./selection.js";
import { session } from "./session.js";
import { Tray } from "./tray.js";
import { Uploads } from "./uploads.js";
import { Viewer } from "./viewer.js";

const CARDS_WAITING = 24; // only this many waiting uploads have a card
const HELPERS = ["samples"]; // operations that this page uses itself

const feed = new Feed();
const uploads = new Uploads(() => feed.state === "live");
const actions = {
  open: (record) => viewer.open(record),
  json: (record) => viewer.open(record, { json: true }),
  retry: (record) => retry(record),
  again: (record) => again(record),
  erase: (record) => deletions.ask([record]),
  picked: (record, on, range) => selection.set(record, on, range),
  left: (record) => selection.left(record),
  abort: (upload) => uploads.drop(upload),
  changed: (record) => viewer.changed(record),
};
const board = new Board(actions);
const viewer = new Viewer(board, actions);
const deletions = new Deletions(board);
const selection = new Selection(board, { erase: (records) => deletions.ask(records), form: () => form });
const filters = new Filters((filter) => {
  selection.clear();
  listed(() => board.filter(filter));
});
const remembered = new Remembered();
listenForKeys(board, selection, deletions);

/** @type {?import("./forms.js").OptionsForm} */
let form = null;
/** @type {?OperationPicker} */
let picker = null;

// ---- photos and uploads --------------------------------------------------------------------------------------------

const tray = new Tray(() => {
  sampleOf(tray.photos[0] ?? null);
  showRun();
});

function showRun() {
  if (!form) return;
  const count = tray.photos.length;
  const run = byId("run");
  run.hidden = form.takesPhoto && !form.staged && count === 0;
  run.textContent = form.staged ? `Make ${count > 1 ? plural(count, "picture") : "the picture"}` : "Run";
  byId("run-hint").textContent = "";
}

const snapshot = () => ({ operation: form.operation.name, fields: form.fields(), maxBytes: form.maxBytes });

const early = []; // what came before the form was loaded

/** Photos that come in are sent at once, unless the user has more to choose first. @param {Iterable<File>} files */
function take(files) {
  const photos = [...files];
  if (photos.length === 0) return;
  if (!form) early.push(...photos);
  else if (!form.takesPhoto) say("This operation does not use a photo.");
  else if (form.staged || tray.photos.length > 0) {
    tray.set(photos);
    say(`${plural(photos.length, "photo")} chosen.`);
  } else send(photos);
}

/** @param {(File|null)[]} photos null: without a photo */
function send(photos) {
  if (!form.check()) return;
  const chosen = snapshot();
  for (const photo of photos) {
    const upload = uploads.add(photo, photo ? photo.name || "pasted picture" : form.operation.name, chosen);
    if (uploads.waiting <= CARDS_WAITING) board.upload(upload);
  }
  say(photos[0] ? `${plural(photos.length, "photo")} added.` : "Sent.");
  uploads.go();
  const gallery = byId("gallery");
  if (gallery.getBoundingClientRect().top > innerHeight * 0.8) gallery.scrollIntoView(); // on a phone the list is below the form
}

byId("run").addEventListener("click", () => {
  if (tray.photos.length > 0) send(tray.photos);
  else if (!form.needsPhoto) send([null]);
  else {
    byId("run-hint").textContent = "Choose a photo first.";
    byId("drop").focus();
  }
});

/** Send it again as it was, or, if it was refused, with the options that are selected now. */
function retry(record) {
  if (!record.job) {
    if (form.check()) uploads.again(record.upload, snapshot());
    return;
  }
  board.upload(uploads.add(record.upload.file, record.upload.name, record.upload.form));
  uploads.go();
}

async function again(record) {
  try {
    if (!await refill(record, picker, tray)) return;
    remembered.tell();
  } catch (problem) {
    say(problem.message);
    board.trouble(record, `It cannot be run again. ${problem.message}`);
    return;
  }
  document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
  byId("controls-title").scrollIntoView({ block: "start" });
  byId("run").focus({ preventScroll: true });
  say("The form has the photo and the options of this picture. Change what you like, then run it.");
}

uploads.addEventListener("change", ({ detail }) => board.upload(detail));
uploads.addEventListener("sent", ({ detail }) => board.sent(detail.upload, detail.job));
uploads.addEventListener("cancelled", ({ detail }) => {
  board.forget(detail);
  say(detail.unsure ? "Cancelled here. The connection was lost after the photo was sent, so the service may have it." : "Cancelled.");
});
uploads.addEventListener("queue", () => {
  const line = byId("waiting");
  line.hidden = uploads.waiting <= CARDS_WAITING;
  line.firstElementChild.textContent = `${uploads.waiting} photos are waiting to be sent.`;
});
byId("waiting").querySelector("button").addEventListener("click", () => uploads.dropWaiting());

let leaving = false; // the user was asked already
addEventListener("beforeunload", (event) => uploads.busy && !leaving && event.preventDefault()); // the browser asks

listenForPhotos(take);

// ---- operations ----------------------------------------------------------------------------------------------------

let loading = false;

async function loadOperations() {
  if (loading) return;
  loading = true;
  try {
    const operations = await api.operations();
    const offered = operations.filter(({ name }) => !HELPERS.includes(name));
    if (!offered.length) throw new api.Problem({ title: "The server has no operations." });
    const paint = offered.some(({ parameters }) => parameters?.properties?.painter);
    const samples = operations.find(({ name }) => name === "samples");
    offerSamples(samples?.parameters.properties.painter.enum ?? []);
    const startsWith = remembered.operation; // the picker chooses the first one meanwhile
    picker = new OperationPicker(offered, paint ? await api.painters() : [], (chosen) => {
      form = chosen;
      remembered.show(form);
      selection.show();
      byId("intake").hidden = !form.takesPhoto;
      const limit = Number.isFinite(form.maxBytes) ? ` The limit is ${fileSize(form.maxBytes)} per photo.` : "";
      const ways = matchMedia("(pointer: coarse)").matches ? "several photos at once" : "several photos or a folder, or paste one";
      byId("drop-hint").textContent = `You can add ${ways}.${limit}`;
      tray.show();
    });
    filters.offer(offered);
    picker.pick(startsWith);
    take(early.splice(0));
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

const refresh = () => listed(() => board.refresh());

/** Load the list, and tell if that fails. @param {() => Promise<void>} load */
async function listed(load) {
  const box = byId("list-problem");
  try {
    await load();
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
  if (!login.hidden && !detail.had) return; // several requests were refused at once
  feed.close();
  if (deletions.any) deletions.undo(); // nothing can be deleted, and the next key may be another person's
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

byId("logout").addEventListener("click", async () => {
  if (uploads.busy && !confirm("Photos are still being sent. They are lost when you log out. Log out now?")) return;
  const failed = await deletions.finish(); // as long as there is a key
  if (failed && !confirm(`${plural(failed, "picture")} could not be deleted. Log out all the same?`)) return;
  leaving = true;
  session.end();
  location.reload(); // nothing of the pictures stays in the page
});

/** Load what the page shows, or show the log-in if the service asks for a key. */
async function enter() {
  let asked = false;
  const note = () => { asked = true; };
  session.addEventListener("refused", note);
  refresh(); // it does not wait for the form and the live feed: people want to see their pictures
  await loadOperations();
  session.removeEventListener("refused", note);
  if (asked) return;
  showLogin(false);
  feed.open();
  viewer.openFromAddress();
}

enter();
