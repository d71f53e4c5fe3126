/** Photos from the camera, or, if the browser does not allow it, from the phone's camera app or a file. */

import { byId, plural, say } from "./dom.js";
import { LiveFaces } from "./live.js";

const MESSAGES = {
  NotAllowedError: "The browser does not let this page use the camera. Allow it in the address bar, or choose a photo instead.",
  NotFoundError: "No camera was found. Choose a photo instead.",
  NotReadableError: "Another program is using the camera. Close it and try again, or choose a photo instead.",
  insecure: "Browsers allow the camera only over HTTPS or on the same computer. Choose a photo instead; a phone then offers its camera app.",
};

export class Camera {
  #dialog = byId("camera-dialog");
  #video = byId("camera-video");
  #words = byId("camera-words");
  #shoot = byId("camera-shoot");
  #switch = byId("camera-switch");
  #instead = byId("camera-app");
  #live = byId("camera-live");
  #faces = new LiveFaces(this.#video, byId("camera-faces"), byId("camera-live-words"), () => { this.#live.checked = false; });
  #stream = null;
  #run = 0; // counts what would make a stream that is still awaited useless
  #facing = "user";
  #device = null;
  #taken = 0;

  /** @param {(photo: File) => void} taken called with each photo */
  constructor(taken) {
    this.taken = taken;
    this.#dialog.addEventListener("close", () => this.#stop());
    this.#dialog.addEventListener("click", (event) => {
      if (event.target === this.#dialog || event.target.closest("[data-close]")) this.#dialog.close();
    });
    this.#shoot.addEventListener("click", () => this.#take());
    this.#switch.addEventListener("click", () => this.#other());
    this.#live.addEventListener("change", () => (this.#live.checked ? this.#faces.start() : this.#faces.stop()));
    this.#instead.addEventListener("click", () => {
      this.#dialog.close();
      byId("capture").click();
    });
    byId("capture").addEventListener("change", ({ target }) => {
      for (const file of target.files) this.taken(file);
      target.value = "";
    });
  }

  open() {
    this.#taken = 0;
    this.#live.checked = false;
    this.#dialog.showModal();
    this.#start();
  }

  async #start() {
    this.#stop();
    const run = this.#run;
    this.#shoot.hidden = false;
    this.#shoot.disabled = true;
    this.#instead.hidden = true;
    this.#words.textContent = "Waiting for permission to use the camera…";
    try {
      if (!navigator.mediaDevices?.getUserMedia) throw Object.assign(new Error(), { name: "insecure" });
      const which = this.#device ? { deviceId: { exact: this.#device } } : { facingMode: this.#facing };
      const stream = await navigator.mediaDevices.getUserMedia({ audio: false,
        video: { ...which, width: { ideal: 1920 }, height: { ideal: 1080 } } });
      if (run !== this.#run) { // closed, or another one started, while the browser asked
        for (const track of stream.getTracks()) track.stop();
        return;
      }
      this.#stream = stream;
      this.#video.srcObject = stream;
      const { facingMode, deviceId } = stream.getVideoTracks()[0].getSettings();
      this.#device = deviceId ?? null;
      for (const seen of [this.#video, byId("camera-faces")]) seen.classList.toggle("mirrored", facingMode !== "environment");
      await this.#video.play();
      if (run !== this.#run) return;
      this.#words.textContent = "";
      this.#shoot.disabled = this.#live.disabled = false;
      if (this.#live.checked) this.#faces.start(); // with another camera than before
      this.#shoot.focus();
      const single = (await this.#cameras()).length < 2;
      if (run === this.#run) this.#switch.hidden = single;
    } catch (error) {
      if (run !== this.#run) return;
      this.#stop();
      this.#words.textContent = MESSAGES[error.name] ?? `The camera did not start: ${error.message} Choose a photo instead.`;
      this.#shoot.hidden = true;
      this.#live.checked = false;
      this.#switch.hidden = true;
      this.#instead.hidden = false;
      this.#instead.focus();
    }
  }

  async #cameras() {
    return (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
  }

  async #other() {
    const run = this.#run;
    const cameras = await this.#cameras();
    if (run !== this.#run) return;
    const at = cameras.findIndex((camera) => camera.deviceId === this.#device);
    this.#device = cameras[(at + 1) % cameras.length]?.deviceId ?? null;
    await this.#start();
  }

  #take() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (!width) return;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").drawImage(this.#video, 0, 0);
    canvas.toBlob((blob) => {
      if (!blob) return;
      this.#taken += 1;
      this.#words.textContent = `${plural(this.#taken, "photo")} taken`;
      say("Photo taken.");
      this.taken(new File([blob], `camera-${this.#taken}.jpg`, { type: "image/jpeg" }));
    }, "image/jpeg", 0.92);
  }

  #stop() {
    this.#run += 1;
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#video.srcObject = null;
    this.#live.disabled = true;
    this.#faces.stop();
  }
}
