/** The faces in the camera's picture while it runs: frames go to the server one after the other, and it answers boxes. */

import { socketAddress, ticket } from "./api.js";
import { plural } from "./dom.js";
import { session } from "./session.js";

const LONGEST_SIDE = 640; // the server looks at no more
const QUALITY = 0.7;
const FRAME_MS = 40; // at most 25 frames a second
const LATE_MS = 3000; // an answer that has not come by then will not come
const STEADY_MS = 600; // a number of faces is told when it has been the same for so long

export class LiveFaces {
  #video;
  #canvas;
  #words;
  #ended;
  #frame = document.createElement("canvas");
  #socket = null;
  #run = 0; // counts what would make an answer that is still awaited useless
  #timer = null;
  #sentAt = 0;
  #count = null;
  #countedAt = 0;

  /**
   * @param {HTMLVideoElement} video
   * @param {HTMLCanvasElement} canvas lies over the video, with the same `object-fit`
   * @param {HTMLElement} words tells how many faces there are, or what is wrong
   * @param {() => void} ended called when it ends by itself
   */
  constructor(video, canvas, words, ended) {
    this.#video = video;
    this.#canvas = canvas;
    this.#words = words;
    this.#ended = ended;
  }

  async start() {
    this.stop();
    const run = this.#run;
    this.#words.textContent = "Looking for faces…";
    let pass = null;
    try {
      if (session.active) pass = await ticket();
    } catch (problem) {
      if (run === this.#run) this.#fail(problem.message);
      return;
    }
    if (run !== this.#run) return;
    const socket = new WebSocket(socketAddress("v1/live/detect", pass));
    this.#socket = socket;
    socket.onopen = () => this.#send();
    socket.onmessage = ({ data }) => this.#read(data);
    socket.onclose = ({ code, reason }) =>
      this.#fail(reason && code !== 1000 ? reason : "The server shows no faces live, or the connection was lost.");
  }

  stop() {
    this.#run += 1;
    clearTimeout(this.#timer);
    if (this.#socket) {
      this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close();
      this.#socket = null;
    }
    this.#canvas.hidden = true;
    this.#words.textContent = "";
    this.#count = null;
  }

  #fail(words) {
    this.stop();
    this.#words.textContent = words;
    this.#ended();
  }

  #send() {
    clearTimeout(this.#timer);
    const { videoWidth, videoHeight } = this.#video;
    const socket = this.#socket;
    if (!videoWidth || document.hidden) {
      this.#timer = setTimeout(() => this.#send(), 5 * FRAME_MS);
      return;
    }
    this.#sentAt = performance.now();
    const factor = Math.min(1, LONGEST_SIDE / Math.max(videoWidth, videoHeight));
    this.#frame.width = Math.round(videoWidth * factor);
    this.#frame.height = Math.round(videoHeight * factor);
    this.#frame.getContext("2d", { alpha: false }).drawImage(this.#video, 0, 0, this.#frame.width, this.#frame.height);
    this.#frame.toBlob((blob) => {
      if (socket !== this.#socket || socket.readyState !== WebSocket.OPEN) return;
      if (blob) socket.send(blob);
      this.#timer = setTimeout(() => this.#send(), LATE_MS);
    }, "image/jpeg", QUALITY);
  }

  #read(text) {
    const { width, height, faces } = JSON.parse(text);
    if (faces) {
      this.#draw(width, height, faces);
      this.#tell(faces.length);
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#send(), Math.max(0, this.#sentAt + FRAME_MS - performance.now()));
  }

  #draw(width, height, faces) {
    this.#canvas.hidden = false;
    this.#canvas.width = width;
    this.#canvas.height = height;
    const pen = this.#canvas.getContext("2d");
    const thickness = Math.max(2, width / 200);
    for (const [colour, more] of [["#10131a", 2], ["#ffd24d", 0]]) { // dark round light: seen on any picture
      pen.strokeStyle = colour;
      pen.lineWidth = thickness + more;
      for (const { box } of faces) {
        pen.beginPath();
        pen.roundRect(box.x, box.y, box.width, box.height, thickness * 2);
        pen.stroke();
      }
    }
  }

  #tell(count) {
    const now = performance.now();
    if (count !== this.#count) {
      this.#count = count;
      this.#countedAt = now;
    }
    if (now - this.#countedAt < STEADY_MS) return;
    const words = count ? `${plural(count, "face")} in the picture` : "No face in the picture";
    if (this.#words.textContent !== words) this.#words.textContent = words;
  }
}
