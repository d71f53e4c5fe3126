// How clients of Node.js send a picture; prints the answers. Arguments: the server's URL, a JPEG file.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import axios from "axios";
import { EventSource } from "eventsource";
import FormData_ from "form-data";
import got from "got";
import superagent from "superagent";

const [, , url, file] = process.argv;
const photo = readFileSync(file);
const wait = { Prefer: "wait=60" };

// A Buffer with a media type and without a file name.
function form(field) {
  const made = new FormData_();
  made.append(field, photo, { contentType: "image/jpeg" });
  return made;
}

const web = new FormData();
web.append("image", new Blob([photo], { type: "image/jpeg" }));
web.append("mark", "none");

const seen = {
  fetch: await fetch(`${url}/v1/detect`, { method: "POST", body: web, headers: wait }).then((answer) => answer.json()),
  "fetch, a raw body": await fetch(`${url}/v1/detect/?mark=none`, {
    method: "POST", body: photo, headers: { ...wait, "Content-Type": "image/jpeg" },
  }).then((answer) => answer.json()),
  "fetch, gzip": await fetch(`${url}/v1/detect?mark=none`, {
    method: "POST", body: gzipSync(JSON.stringify({ image: `data:image/jpeg;base64,${photo.toString("base64")}` })),
    headers: { ...wait, "Content-Type": "application/json", "Content-Encoding": "gzip" },
  }).then((answer) => answer.json()),
  "axios with form-data": (await axios.post(`${url}/v1/detect?mark=none`, form("image"), { headers: wait })).data,
  "axios with parameters": (await axios.post(`${url}/v1/detect`, web, { headers: wait, params: {} })).data,
  "axios, base64url and null": (await axios.post(
    `${url}/v1/detect`, { image: photo.toString("base64url"), mark: "none", max_faces: null, format: null }, { headers: wait },
  )).data,
  "got with form-data": await got.post(`${url}/v1/detect?mark=none`, { body: form("image"), headers: wait }).json(),
  superagent: (await superagent.post(`${url}/v1/detect`).set(wait).query({ mark: "none" })
    .attach("image", photo, { contentType: "image/jpeg" })).body,
};
const classic = (await axios.post(`${url}/image`, form("file"))).status;

const events = await new Promise((resolve) => {
  const types = [];
  const source = new EventSource(`${url}/v1/events?after=0&named=false`);
  source.onmessage = (message) => {
    types.push(JSON.parse(message.data).type);
    if (types.includes("job.succeeded")) {
      source.close();
      resolve(types);
    }
  };
});
console.log(JSON.stringify({ seen, classic, events }));
