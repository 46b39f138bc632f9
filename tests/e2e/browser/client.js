"use strict";

// A viewer on the wire of js-sdk 2.12 (`Wire212`) that looks at every picture, and a camera drawn
// on a canvas. Driven from outside through the global `client`.

/** Where the ground of the picture is looked at: left, top, width, height as parts of it. */
const GROUND = [0.05, 0.55, 0.1, 0.1];

const now = () => performance.now();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Client {
  constructor(base) {
    this.base = base;
    /** When what happened, in ms. */
    this.times = {};
    /** Messages of the model in order: {type, data, at}. */
    this.messages = [];
    /** What the decoder put out: {at, timestamp, width, height, frame, run, ground}. */
    this.frames = [];
    /** What reached the screen, as requestVideoFrameCallback tells it. */
    this.shown = [];
    this.watchers = new Set();
    /** Encoded frames as they came: {at, key, bytes, rtpTimestamp, spoilt}. */
    this.encoded = [];
    this.wire = new Wire212({ modelName: "sana-streaming", apiUrl: base });
    this.wire.on("message", (message) => {
      this.messages.push({ ...message, at: now() });
      this.wake();
    });
    this.wire.on("statusChanged", () => this.wake());
    this.wire.on("answered", () => { this.times.answered = now(); });
  }

  /**
   * Creates or joins a session and returns once both channels are open.
   * @param {{session?: string, codec?: string, cameraCodec?: string}} options
   */
  async connect({ session, codec, cameraCodec } = {}) {
    const { times, wire } = this;
    times.begun = now();
    wire.on("offering", (transceivers, peer) => {
      this.transceivers = transceivers;
      peer.addEventListener("connectionstatechange", () => { times[peer.connectionState] ??= now(); });
      prefer(transceivers.main_video, RTCRtpReceiver, codec);
      prefer(transceivers.camera, RTCRtpSender, cameraCodec);
      this.tap(transceivers.main_video.receiver);
      this.watch(transceivers.main_video.receiver.track);
    });
    await wire.connect("any", { sessionId: session });
    await this.until(() => wire.getStatus() === "ready");
    times.ready = now();
    setStatus(`${codec ?? "any codec"}: ready`);
    return { session: wire.getSessionId(), times };
  }

  /** Claims the camera; returns the code of a refusal, or null. */
  claim() {
    return this.wire.request("publish_track", { name: "camera" }).then(() => null, ({ code }) => code);
  }

  /** Sends a command. Returns how many messages there were before. */
  command(type, data = {}) {
    void this.wire.sendCommand(type, data);
    return this.messages.length;
  }

  /** Uploads a clip, given in base64, and stages it. */
  async stage(clip, prompt) {
    const bytes = Uint8Array.from(atob(clip), (letter) => letter.charCodeAt(0));
    const file = new File([bytes], "clip.mp4", { type: "video/mp4" });
    const video = await this.wire.uploadFile(file);
    this.command("set_mode", { mode: "file" });
    const since = this.command("set_video", { video });
    this.command("set_prompt", { prompt });
    await this.told("prompt_accepted", {}, since);
    await this.told("state", { has_video: true, has_prompt: true }, since);
  }

  /** Waits for a message of a type with these values, at index `since` or later. */
  told(type, values = {}, since = 0) {
    const fits = (each) => each.type === type
      && Object.entries(values).every(([name, value]) => each.data[name] === value);
    return this.until(() => this.messages.slice(since).find(fits));
  }

  /** Waits until a condition on what was seen holds; it is looked at after all that happens. */
  async until(condition) {
    for (let value; ;) {
      if ((value = condition())) return value;
      await new Promise((resolve) => this.watchers.add(resolve));
    }
  }

  wake() {
    const woken = [...this.watchers];
    this.watchers.clear();
    woken.forEach((resolve) => resolve());
  }

  // -- main_video

  watch(track) {
    const video = document.getElementById("main_video");
    video.srcObject = new MediaStream([track]);
    const shown = (at, data) => {
      this.times.shown ??= at;
      this.shown.push({ at, ...data });
      this.wake();
      video.requestVideoFrameCallback(shown);
    };
    video.requestVideoFrameCallback(shown);
    this.read(new MediaStreamTrackProcessor({ track, maxBufferSize: 48 }).readable.getReader());
  }

  /** Looks at encoded frames before their decoder does, in a worker. */
  tap(receiver) {
    this.worker = new Worker("tap.js");
    this.worker.onmessage = ({ data }) => {
      this.encoded.push({ at: now(), ...data });
      this.wake();
    };
    receiver.transform = new RTCRtpScriptTransform(this.worker);
  }

  /** Spoils the next encoded frames, so that their decoder fails. */
  spoil(count) {
    this.worker.postMessage({ spoil: count });
  }

  /** Asks for a keyframe; returns after how many ms it came. */
  async refresh() {
    const asked = now(), known = this.encoded.length;
    this.worker.postMessage({ refresh: true });
    await this.until(() => this.encoded.slice(known).some(({ key }) => key));
    return now() - asked;
  }

  async read(reader) {
    for (let next; !(next = await reader.read()).done;) {
      const picture = next.value, at = now();
      try {
        this.frames.push({ at, timestamp: picture.timestamp, ...await look(picture) });
      } finally {
        picture.close();
      }
      this.wake();
    }
  }

  /** Waits for so many more frames. */
  async more(count) {
    const wanted = this.frames.length + count;
    await this.until(() => this.frames.length >= wanted);
  }

  /** Returns what the video element shows at this moment. */
  async showing() {
    const picture = new VideoFrame(document.getElementById("main_video"));
    try {
      return await look(picture);
    } finally {
      picture.close();
    }
  }

  /** Waits until nothing new has come for a while; returns what the video element shows. */
  async settled() {
    for (let count = -1; count !== this.frames.length || this.frames.at(-1).at > now() - 300;) {
      count = this.frames.length;
      await pause(100);
    }
    return this.showing();
  }

  /** Waits for a picture of a run. */
  async shownOf(run) {
    await this.until(() => this.frames.some((each) => each.run === run));
  }

  /** Waits until the video element shows a picture of a run, or of a later one. */
  async shows(run, frame) {
    for (let seen; (seen = await this.showing()).run < run || seen.frame !== frame;)
      await new Promise(requestAnimationFrame);
  }

  // -- camera

  /** Sends a track as the camera; null sends nothing. */
  async send(track, maxBitrate = 1_500_000) {
    const { sender } = this.transceivers.camera;
    await sender.replaceTrack(track);
    const parameters = sender.getParameters();
    // A browser that is short of time or bandwidth sends smaller pictures else.
    parameters.degradationPreference = "maintain-resolution";
    parameters.encodings[0].maxBitrate = maxBitrate;
    await sender.setParameters(parameters);
  }

  /** Publishes another canvas. */
  async film(width, height, rate, level) {
    this.canvas?.stop();
    this.canvas = new CanvasCamera(width, height, rate, level);
    await this.send(this.canvas.track);
  }

  /** Changes what the canvas shows, and waits until the browser sends pictures of this size. */
  async turn(width, height, rate, level) {
    this.canvas.show(width, height, rate, level);
    await this.sends(width);
  }

  async sends(width) {
    while ((await this.stats("camera"))["outbound-rtp"].frameWidth !== width) await pause(20);
  }

  /** Publishes the browser's fake device. */
  async capture(constraints) {
    const stream = await navigator.mediaDevices.getUserMedia({ video: constraints });
    [this.device] = stream.getVideoTracks();
    await this.send(this.device);
  }

  /** Changes the pictures of the device, and waits until they are sent. */
  async constrain(constraints) {
    await this.device.applyConstraints(constraints);
    await this.sends(constraints.width);
  }

  /** Waits for a picture whose ground is of about this luma; only those since `since` count. */
  async ground(luma, since = 0) {
    const fits = (each) => Math.abs(each.ground - luma) < 4;
    await this.until(() => this.frames.slice(since).some(fits));
  }

  // -- statistics

  /** Returns the reports about one track: by type, and the codec. */
  async stats(name) {
    const { sender, receiver } = this.transceivers[name];
    const about = name === "camera" ? sender : receiver;
    const reports = [...(await about.getStats()).values()];
    return Object.fromEntries(reports.map((each) => [each.type, each]));
  }
}

/** Reads a decoded picture: its size, its marker, the luma of its ground. */
async function look(picture) {
  const { displayWidth: width, displayHeight: height, format } = picture;
  if (!["I420", "NV12"].includes(format)) throw new Error(`pictures in ${format}`);
  const whole = { x: 0, y: 0, width, height };
  const buffer = new Uint8Array(picture.allocationSize({ rect: whole }));
  const [{ stride }] = await picture.copyTo(buffer, { rect: whole });
  const [left, top, wide, tall] = GROUND;
  return {
    width, height, frame: -1, run: -1, ...readMarker(buffer, stride, width, height),
    ground: meanOf(buffer, stride, left * width, top * height, wide * width, tall * height),
  };
}

/** Restricts a transceiver to one codec, and what it needs beside it. */
function prefer(transceiver, side, codec) {
  if (!codec) return;
  const known = side.getCapabilities("video").codecs;
  const chosen = known.filter(({ mimeType }) => mimeType === `video/${codec}`);
  if (!chosen.length) throw new Error(`this browser does not speak ${codec}`);
  const beside = known.filter(({ mimeType }) => mimeType === "video/rtx");
  transceiver.setCodecPreferences([...chosen, ...beside]);
}

function setStatus(text) {
  document.getElementById("status").textContent = text;
}

/** Makes the client of this page. */
function makeClient(base) {
  globalThis.client = new Client(base);
}
