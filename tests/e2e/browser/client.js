"use strict";

// A client of the Reactor wire on plain browser APIs: JSON on two data channels, HTTP
// signalling, candidates trickled. Driven from outside through the global `client`.

const VERSIONS = {
  "Reactor-API-Version": "1", "Reactor-API-Accept-Version": "1", "Reactor-WebRTC-Version": "1.0",
};
const INFO = { sdk_type: "js", sdk_version: "2.12.3" };
/** How often a client gives a sign of life. */
const PING_MS = 5000;
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
    this.answers = new Map();
    /** Encoded frames as they came: {at, key, bytes, rtpTimestamp, spoilt}. */
    this.encoded = [];
  }

  // -- signalling

  async ask(method, path, body) {
    const response = await fetch(this.base + path, {
      method,
      headers: { ...VERSIONS, "Content-Type": "application/json", Authorization: "Bearer local" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return { status: response.status, body: text ? JSON.parse(text) : {} };
  }

  /**
   * Creates or joins a session and returns once both channels are open.
   * @param {{session?: string, codec?: string, cameraCodec?: string}} options
   */
  async connect({ session, codec, cameraCodec } = {}) {
    this.times.begun = now();
    this.session = session ?? (await this.ask("POST", "/sessions", {
      model: { name: "sana-streaming" }, client_info: INFO,
      supported_transports: [{ protocol: "webrtc", version: "1.0" }],
    })).body.session_id;
    const { tracks } = await this.placed();
    this.times.placed = now();
    const path = `/sessions/${this.session}/transport/webrtc`;
    const servers = (await this.ask("GET", `${path}/ice_servers`)).body.ice_servers;
    const { connection_id: id } = (await this.ask("POST", `${path}/connections`)).body;
    this.connection = `${path}/connections/${id}`;
    const peer = this.peer = new RTCPeerConnection({
      iceServers: servers.map(({ uris, credentials }) => ({ urls: uris, ...credentials })),
    });
    this.transceivers = {};
    peer.onconnectionstatechange = () => { this.times[peer.connectionState] ??= now(); };
    for (const { name, kind, direction } of tracks)
      this.transceivers[name] = peer.addTransceiver(kind, { direction });
    prefer(this.transceivers.main_video, RTCRtpReceiver, codec);
    prefer(this.transceivers.camera, RTCRtpSender, cameraCodec);
    this.tap(this.transceivers.main_video.receiver);
    const open = ["control", "data"].map((label) => this.channel(peer, label));
    this.watch(this.transceivers.main_video.receiver.track);
    await this.negotiate(tracks);
    await Promise.all(open);
    this.times.ready = now();
    this.pinging = setInterval(() => this.ping(), PING_MS);
    for (const { name, direction } of tracks)
      if (direction === "recvonly") this.notify("resume_track", { name });
    setStatus(`${codec ?? "any codec"}: ready`);
    return { session: this.session, times: this.times };
  }

  async placed() {
    for (let wait = 200; ; wait = Math.min(2 * wait, 10000)) {
      const { body } = await this.ask("GET", `/sessions/${this.session}`);
      if (body.state === "CLOSED") throw new Error("the session has ended");
      if (body.capabilities && body.selected_transport) return body.capabilities;
      await pause(wait);
    }
  }

  async negotiate(tracks) {
    const peer = this.peer, early = [];
    let send = (candidate) => early.push(candidate);
    peer.onicecandidate = ({ candidate }) => send(candidate);
    await peer.setLocalDescription();
    const mapping = tracks.map((track) => ({ ...track, mid: this.transceivers[track.name].mid }));
    await this.ask("POST", `${this.connection}/sdp_params`, {
      sdp_offer: peer.localDescription.sdp, client_info: INFO, track_mapping: mapping,
    });
    send = (candidate) => this.trickle([candidate]);
    await this.trickle(early);
    for (let wait = 200; ; wait *= 2) {
      const { status, body } = await this.ask("GET", `${this.connection}/sdp_params`);
      if (status === 200) {
        this.times.answered = now();
        return peer.setRemoteDescription({ type: "answer", sdp: body.sdp_answer });
      }
      await pause(wait);
    }
  }

  async trickle(candidates) {
    const usable = candidates.filter((each) => each?.candidate);
    await this.ask("POST", `${this.connection}/ice_candidates`, {
      candidates: usable.map((each) => ({
        candidate: each.candidate, sdp_mid: each.sdpMid, sdp_mline_index: each.sdpMLineIndex,
      })),
      is_final: candidates.includes(null),
      client_info: INFO,
    });
  }

  // -- channels

  channel(peer, label) {
    const channel = this[label] = peer.createDataChannel(label);
    channel.onmessage = ({ data }) => this.heard(JSON.parse(data));
    return new Promise((resolve, reject) => {
      channel.onopen = resolve;
      channel.onclose = () => { reject(new Error(`${label} is closed`)); this.closed = true; };
    });
  }

  heard(message) {
    if (message.type === "response") {
      this.answers.get(message.request_id)?.(message);
    } else if (message.scope === "application") {
      this.messages.push({ ...message.data, at: now() });
      this.wake();
    }
  }

  ping() {
    const ping = { scope: "runtime", data: { type: "ping", data: {} } };
    if (this.data.readyState === "open") this.data.send(JSON.stringify(ping));
  }

  notify(event, data) {
    this.control.send(JSON.stringify({ type: "notification", event, data }));
  }

  /** Claims the camera; returns the code of a refusal, or null. */
  async claim() {
    const id = `ctrl_${this.answers.size + 1}`;
    const answered = new Promise((resolve) => this.answers.set(id, resolve));
    this.control.send(JSON.stringify({
      type: "request", method: "publish_track", request_id: id, data: { name: "camera" },
    }));
    return (await answered).error?.code ?? null;
  }

  /** Sends a command. Returns how many messages there were before. */
  command(type, data = {}, uploads = undefined) {
    this.data.send(JSON.stringify({ scope: "application", data: { type, data, uploads } }));
    return this.messages.length;
  }

  /** Uploads a clip, given in base64, and stages it. */
  async stage(clip, prompt) {
    const bytes = Uint8Array.from(atob(clip), (letter) => letter.charCodeAt(0));
    const file = { name: "clip.mp4", size: bytes.length, mime_type: "video/mp4" };
    const slot = (await this.ask("POST", `/sessions/${this.session}/uploads`, file)).body;
    const headers = { "Content-Type": file.mime_type };
    await fetch(slot.presigned_url, { method: "PUT", headers, body: bytes });
    this.command("set_mode", { mode: "file" });
    const { presigned_id: upload_id } = slot;
    const since = this.command("set_video", {}, { video: { upload_id, ...file } });
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

  close() {
    clearInterval(this.pinging);
    this.canvas?.stop();
    this.device?.stop();
    this.peer.close();
    this.worker.terminate();
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
