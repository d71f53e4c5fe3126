/**
 * The service's HTTP calls. Addresses are relative to the page, so that it works behind a path prefix too.
 *
 * @typedef {{name: string, media_type: string, size: number, width?: number, height?: number, url: string}} Artifact
 * @typedef {{id: string, operation: string, status: string, progress: number, cached: ?string, created_at: string,
 *   started_at: ?string, finished_at: ?string, result: ?object, error: ?object, artifacts: Artifact[], preview: ?string,
 *   inputs?: Artifact[], parameters?: ?object, label?: ?string, thumbnail?: ?string, summary?: ?object}} Job
 * @typedef {{name: string, summary: string, version: number, url: string, parameters: object, result: object}} Operation
 */

import { session } from "./session.js";

/** An error of the server or of the connection to it. `status` 0: the server was not reached. */
export class Problem extends Error {
  constructor({ status = 0, title = "Something went wrong", detail = "", retryable = false, retryAfterS = null }) {
    super(detail || title);
    Object.assign(this, { status, title, detail, retryable, retryAfterS });
  }

  static unreachable() {
    return new Problem({ title: "No connection to the server", detail: "The server did not answer. Check that it is running, then try again.", retryable: true });
  }

  /** From a response's status, body text and Retry-After; an HTML error page of a proxy becomes one sentence. */
  static from(status, text, retryAfter) {
    let body = {};
    try { body = JSON.parse(text) ?? {}; } catch { /* not JSON */ }
    const seconds = Number.parseFloat(retryAfter);
    return new Problem({
      status,
      title: body.title ?? `The server answered ${status}`,
      detail: typeof body.detail === "string" ? body.detail : "",
      retryable: body.retryable ?? [408, 429, 502, 503, 504].includes(status),
      retryAfterS: Number.isFinite(seconds) ? seconds : null,
    });
  }
}

const UNEXPECTED = "The answer is not JSON. Another program or a proxy may have sent it.";

/** An absolute URL from one relative to the service's root, on the host and path by which this page was opened. */
export const address = (path) => new URL(path, document.baseURI).href;

/** The same for a socket; with a ticket, if one is needed. @returns {URL} */
export function socketAddress(path, pass = null) {
  const url = new URL(address(path));
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (pass) url.searchParams.set("ticket", pass);
  return url;
}

/** With the signature that the service has given it, if it asks for keys. */
export const artifactAddress = (job, artifact) =>
  address(`v1/jobs/${encodeURIComponent(job.id)}/artifacts/${encodeURIComponent(artifact.stored ?? artifact.name)}`)
    + new URL(artifact.url, document.baseURI).search;

/** A picture that was sent, by its parameter's name. */
export const inputAddress = (job, input) =>
  address(`v1/jobs/${encodeURIComponent(job.id)}/inputs/${encodeURIComponent(input.name)}`)
    + new URL(input.url, document.baseURI).search;

/** A small picture of what a job made, or of its photo. */
export const thumbnailAddress = (job) =>
  address(`v1/jobs/${encodeURIComponent(job.id)}/thumbnail`) + new URL(job.thumbnail, document.baseURI).search;

/** What a running job's result looks like so far; `version` makes the browser load it again. */
export function previewAddress(job, version) {
  const url = new URL(address(`v1/jobs/${encodeURIComponent(job.id)}/preview`) + new URL(job.preview, document.baseURI).search);
  url.searchParams.set("version", version);
  return url.href;
}

/** An example of a painter or a style, one of the page's own files. */
export const exampleAddress = (url) => address(`page/painters/${new URL(url, document.baseURI).pathname.split("/").at(-1)}`);

export const jobAddress = (id) => address(`v1/jobs/${encodeURIComponent(id)}`);

/** The response, if it is a good one. Throws Problem. */
async function send(method, url, { headers = {}, body, keepalive = false } = {}) {
  let response;
  try {
    response = await fetch(url, { method, body, keepalive, headers: { Accept: "application/json", ...headers, ...session.headers() } });
  } catch {
    throw Problem.unreachable();
  }
  if (response.status === 401) session.refuse();
  if (!response.ok) throw Problem.from(response.status, await response.text(), response.headers.get("Retry-After"));
  return response;
}

async function call(method, url, options) {
  const response = await send(method, url, options);
  const text = await response.text();
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    throw new Problem({ status: response.status, title: "Unexpected answer", detail: UNEXPECTED });
  }
}

let offered = null;

/** @returns {Promise<Operation[]>} fetched once */
export function operations() {
  offered ??= call("GET", address("v1/operations")).then((answer) => answer.operations);
  offered.catch(() => { offered = null; }); // the next one asks again
  return offered;
}

/** @returns {Promise<import("./painters.js").Painter[]>} */
export const painters = async () => (await call("GET", address("v1/painters"))).painters;

/** A sheet of samples of a photo, finished if it takes no longer than a few seconds. @returns {Promise<Job>} */
export function samples(photo, painter, size) {
  const body = new FormData();
  body.append("image", photo, "photo");
  body.append("painter", painter);
  body.append("size", size);
  return call("POST", address("v1/samples"), { body, headers: { Prefer: "wait=10" } });
}

/** A picture that was sent, as a file. @returns {Promise<File>} */
export async function inputFile(job, input, name) {
  let response;
  try {
    response = await fetch(inputAddress(job, input));
  } catch {
    throw Problem.unreachable();
  }
  if (!response.ok) throw Problem.from(response.status, await response.text(), null);
  return new File([await response.blob()], name, { type: input.media_type });
}

/**
 * One page, newest first, of jobs without their results and parameters.
 * @param {{limit: number, cursor: ?string}} query also the filters of `GET /v1/jobs`; what is null or "" is not sent
 * @returns {Promise<{jobs: Job[], next_cursor: ?string}>}
 */
export function jobs(query) {
  const url = new URL(address("v1/jobs"));
  for (const [name, value] of Object.entries(query)) if (value) url.searchParams.set(name, value);
  return call("GET", url);
}

/** @returns {Promise<Job>} */
export const job = (id) => call("GET", jobAddress(id));
export const cancel = (id) => call("POST", `${jobAddress(id)}/cancel`);
/** The request is sent even if the page is left meanwhile. */
export const erase = (id) => call("DELETE", jobAddress(id), { keepalive: true });

/** The job's pictures again, with changed parameters: a JSON merge patch. @returns {Promise<Job>} */
export const rerun = (id, changes, token) => call("POST", `${jobAddress(id)}/rerun`, {
  body: JSON.stringify(changes), headers: { "Content-Type": "application/merge-patch+json", "Idempotency-Key": token } });

/** Where several jobs are one zip. */
export function archiveAddress(ids) {
  const url = new URL(address("v1/jobs/archive"));
  for (const id of ids) url.searchParams.append("id", id);
  return url.href;
}

/** That zip. @returns {Promise<Blob>} */
export async function archive(ids) {
  const response = await send("GET", archiveAddress(ids), { headers: { Accept: "application/zip, application/json" } });
  try {
    return await response.blob();
  } catch {
    throw Problem.unreachable(); // it broke off
  }
}

/** A ticket for one event stream, null where none is needed. @returns {Promise<?string>} */
export const ticket = async () => (await call("POST", address("v1/tickets"))).ticket;

/** Why the service cannot take work now, or null when it can. */
export async function notReady() {
  try {
    await call("GET", address("readyz"));
    return null;
  } catch (problem) {
    return problem.status === 503 ? problem : null;
  }
}

/**
 * Submit a job. With XMLHttpRequest, because fetch does not report the progress of an upload.
 * @param {string} operation
 * @param {{fields: [string, string|Blob, string?][], token: string}} content a repeat with the same `token` returns the
 *   same job, so sending again after a broken connection is safe
 * @returns {{done: Promise<Job>, abort: () => void}}
 */
export function submit(operation, { fields, token }, onProgress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.open("POST", address(`v1/${encodeURIComponent(operation)}`));
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Idempotency-Key", token);
    for (const [name, value] of Object.entries(session.headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.upload.onload = () => onProgress(1);
    request.onerror = () => reject(Problem.unreachable());
    request.onabort = () => reject(new Problem({ title: "Cancelled" }));
    request.onload = () => {
      const { status, responseText } = request;
      if (status === 401) session.refuse();
      if (status < 200 || status > 299) {
        reject(Problem.from(status, responseText, request.getResponseHeader("Retry-After")));
        return;
      }
      try {
        resolve(JSON.parse(responseText));
      } catch {
        reject(new Problem({ status, title: "Unexpected answer", detail: UNEXPECTED }));
      }
    };
    const form = new FormData();
    for (const [name, value, fileName] of fields) {
      if (value instanceof Blob) form.append(name, value, fileName ?? value.name ?? "photo");
      else form.append(name, value);
    }
    request.send(form);
  });
  return { done, abort: () => request.abort() };
}

/** A random name; `crypto.randomUUID` exists only in secure contexts. */
export function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
