"use strict";

// What every JavaScript client of the Reactor wire is put through, whatever its SDK. A step
// that goes wrong throws; tests call the steps of the global `player`, which `play` makes.

const FIRST_PROMPT = "Van Gogh oil painting, swirling brushstrokes, vivid colors";
const SECOND_PROMPT = "Charcoal drawing on rough paper";
const SIZE = "1280x704";
const STATE = [
  "current_chunk", "current_prompt", "has_prompt", "has_video", "num_source_frames", "paused",
  "running", "seed", "started",
];
/** Sizes that the camera takes on, one after the other, while its pictures are edited. */
const SIZES = [{ width: 1280, height: 720 }, { width: 320, height: 240 }, { width: 640, height: 480 }];
/** Pictures in which something is to be seen: least spread of the luma of their samples. */
const LEAST_SPREAD = 20;
/** A stream without a picture for so long is paused. */
const STILL_MS = 500;
/** Every so many pictures one is looked at closely. */
const LOOK_EVERY = 6;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function expect(holds, what, ...about) {
  if (!holds) throw new Error(`${what} ${about.map((each) => JSON.stringify(each)).join(" ")}`);
}

class Player {
  /**
   * @param {new (options: object) => object} Client
   * @param {{base: string, mode: "cloud"|"local", model?: string}} options And what the client
   *   takes beside them.
   */
  constructor(Client, { base, mode, model = "sana-streaming", ...rest }) {
    Object.assign(this, { base, mode });
    this.messages = [];
    this.statuses = [];
    this.errors = [];
    /** Pictures that reached the screen, by size. */
    this.sizes = {};
    this.shown = 0;
    /** Some of them, looked at: {frame, run, spread}. */
    this.looks = [];
    this.watchers = new Set();
    const client = this.client = new Client({ modelName: model, apiUrl: base, local: mode === "local", ...rest });
    client.on("message", (message) => this.note(this.messages, message));
    client.on("statusChanged", (status) => this.note(this.statuses, status));
    client.on("error", (error) => this.note(this.errors, error));
    client.on("stray", (error) => this.note(this.errors, error));
    client.on("trackReceived", (name, track, stream) => name === "main_video" && this.watch(stream));
  }

  note(list, entry) {
    list.push(entry);
    this.wake();
  }

  wake() {
    const woken = [...this.watchers];
    this.watchers.clear();
    woken.forEach((resolve) => resolve());
  }

  /** Waits until a condition on what was seen holds; it is looked at after all that happens. */
  async until(condition) {
    for (let value; ;) {
      if ((value = condition())) return value;
      await new Promise((resolve) => this.watchers.add(resolve));
    }
  }

  /** Waits for a message of a type with these values, at index `since` or later. */
  told(type, values = {}, since = 0) {
    const fits = (each) => each.type === type
      && Object.entries(values).every(([name, value]) => each.data[name] === value);
    return this.until(() => this.messages.slice(since).find(fits)).then(({ data }) => data);
  }

  /** Returns the data of the messages of a type, since an index. */
  of(type, since = 0) {
    return this.messages.slice(since).filter((each) => each.type === type).map(({ data }) => data);
  }

  /** Sends a command; returns how many messages had come before. */
  command(type, data = {}) {
    const since = this.messages.length;
    this.client.sendCommand(type, data);
    return since;
  }

  /** Sends a command and waits for its reply, which comes once, and the state after it. */
  async reply(type, reply, data = {}) {
    const since = this.command(type, data);
    if (reply) await this.told(reply, {}, since);
    await this.told("state", {}, since);
    expect(!reply || this.of(reply, since).length === 1, `${reply} came more than once`);
    return since;
  }

  // -- pictures

  watch(stream) {
    const video = this.video = document.getElementById("main_video");
    video.srcObject = stream;
    void video.play().catch(() => { /* Another stream took its place. */ });
    const [track] = stream.getVideoTracks();
    const look = (_, { width, height }) => {
      // A track that has ended shows black: that is no picture of the service.
      if (video.srcObject !== stream || track.readyState !== "live") return;
      const size = `${width}x${height}`;
      this.sizes[size] = (this.sizes[size] ?? 0) + 1;
      if (this.shown++ % LOOK_EVERY === 0) void this.examine(video, track);
      this.wake();
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
  }

  /** Looks at what the video element shows: its marker, and how much its luma varies. */
  async examine(video, track) {
    const picture = new VideoFrame(video), { displayWidth: width, displayHeight: height } = picture;
    try {
      const rect = { x: 0, y: 0, width, height };
      const buffer = new Uint8Array(picture.allocationSize({ rect }));
      const [{ stride }] = await picture.copyTo(buffer, { rect });
      if (track.readyState !== "live") return;
      this.note(this.looks, {
        ...(readMarker(buffer, stride, width, height) ?? { frame: -1, run: -1 }),
        spread: spread(buffer, stride, width, height),
      });
    } finally {
      picture.close();
    }
  }

  /** Waits for so many more pictures on the screen. */
  async more(count) {
    const wanted = this.shown + count;
    await this.until(() => this.shown >= wanted);
  }

  /** Waits until no picture has come for a while: what was under way may still arrive. */
  async still() {
    for (let count = -1; count !== this.shown; await pause(STILL_MS)) count = this.shown;
  }

  /** Fails unless real pictures of the full size were shown, one after the other. */
  checkPictures() {
    const { looks } = this;
    expect(Object.keys(this.sizes)[0] === SIZE, "sizes of pictures", this.sizes);
    expect(looks.length > 3, "pictures that were looked at", looks);
    expect(looks.every((each) => each.spread > LEAST_SPREAD), "an empty picture", looks);
    expect(looks.every((each) => each.frame >= 0), "a picture without a marker", looks);
    const places = looks.map(({ run, frame }) => run * 1e6 + frame);
    expect(places.every((each, index) => !index || each >= places[index - 1]), "back in time", looks);
    expect(new Set(places).size > 3, "pictures that do not change", looks);
  }

  // -- the camera

  /** Publishes the browser's camera, as the documented example does. */
  async publish() {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
    [this.camera] = stream.getVideoTracks();
    this.camera.contentHint = "detail";
    await this.client.publishTrack("camera", this.camera);
  }

  /** Returns the browser's report about the camera that it sends. */
  async sending() {
    const peer = seen.peers.at(-1);
    const reports = await Promise.all(peer.getSenders().map((each) => each.getStats()));
    return reports.flatMap((each) => [...each.values()]).find(({ type }) => type === "outbound-rtp");
  }

  /** Changes the size of the camera's pictures, and waits until they are sent so. */
  async resize(size) {
    await this.camera.applyConstraints(size);
    while ((await this.sending()).frameWidth !== size.width) await pause(20);
  }

  // -- the flows

  async connect(token = "any", options = {}) {
    await this.client.connect(this.mode === "local" ? undefined : token, options);
    await this.until(() => this.client.getStatus() === "ready");
    const state = await this.told("state");
    expect(Object.keys(state).sort().join() === STATE.join(), "the nine fields of state", state);
    return this.client.getSessionId();
  }

  /** Connects to a service that may still be busy with who was here before. */
  async connectsSoon() {
    for (; ;) {
      try {
        return await this.connect();
      } catch (error) {
        if (!error.message.includes("409")) throw error;
        await pause(250);
      }
    }
  }

  async disconnect(recoverable = false) {
    this.camera?.stop();
    await this.client.disconnect(recoverable);
    expect(this.client.getStatus() === "disconnected", "the status after the end");
  }

  /** The documented live example up to where its pictures are shown. */
  async live() {
    await this.told("state", { started: false, current_prompt: null });
    await this.publish();
    await this.reply("set_prompt", "prompt_accepted", { prompt: FIRST_PROMPT });
    await this.reply("set_mode", null, { mode: "live" });
    await this.reply("set_seed", null, { seed: 42 });
    await this.told("state", { seed: 42, current_prompt: FIRST_PROMPT });
    const since = this.command("start");
    const started = await this.told("generation_started", {}, since);
    expect(
      started.prompt === FIRST_PROMPT && started.chunk_num === 0 && started.frame_num === 0,
      "generation_started", started,
    );
    await this.told("chunk_complete", { chunk_index: 0 }, since);
    await this.more(24);
    return since;
  }

  /** Changes the size of the camera in the middle of chunks: the session goes on. */
  async resizes(started) {
    for (const size of SIZES) {
      await this.resize(size);
      await this.told("chunk_complete", {}, this.messages.length);
    }
    const refusals = this.of("command_error", started);
    expect(!refusals.length, "a refusal", refusals);
  }

  /** Everything else that a live session can be told. */
  async edits(started) {
    await this.reply("set_prompt", "prompt_accepted", { prompt: SECOND_PROMPT });
    await this.told("chunk_complete", { active_prompt: SECOND_PROMPT }, started);
    let since = await this.reply("pause", null);
    await this.told("state", { paused: true, running: false }, since);
    await this.still();
    since = await this.reply("resume", null);
    await this.told("state", { paused: false, running: true }, since);
    await this.told("chunk_complete", {}, since);
    await this.more(12);
    const chunks = this.of("chunk_complete", started).map(({ chunk_index }) => chunk_index);
    expect(chunks.every((each, index) => each === index), "chunks one after the other", chunks);
    expect(!this.errors.length, "errors", this.errors);
  }

  /** Ends the run. */
  async resets() {
    const since = await this.reply("reset", "generation_reset");
    await this.told("state", { started: false, has_prompt: false, current_chunk: 0 }, since);
    await this.client.unpublishTrack("camera");
    expect(!this.errors.length, "errors", this.errors);
  }

  async stage(clip, count) {
    const reference = await this.client.uploadFile(fileOf(clip));
    const since = await this.reply("set_video", "video_accepted", { video: reference });
    const [accepted] = this.of("video_accepted", since);
    expect(accepted.num_frames === count, "num_frames", accepted);
    expect(accepted.num_latent_frames === Math.floor((count - 1) / 8) + 1, "num_latent_frames", accepted);
    await this.told("state", { has_video: true, num_source_frames: count }, since);
    return reference;
  }

  /** The documented file example, and a replay. */
  async file(clip, count) {
    await this.told("state", { has_video: false });
    await this.reply("set_mode", null, { mode: "file" });
    await this.stage(clip, count);
    await this.reply("set_prompt", "prompt_accepted", { prompt: FIRST_PROMPT });
    for (let run = 0; run < 2; run++) await this.plays(count);
    expect(!this.errors.length, "errors", this.errors);
  }

  /** Plays the clip that is staged, to its end. */
  async plays(count) {
    const shown = this.shown, since = this.command("start");
    await this.told("generation_started", {}, since);
    const complete = await this.told("generation_complete", {}, since);
    await this.told("state", { started: false, has_video: true, has_prompt: true }, since);
    const chunks = this.of("chunk_complete", since);
    expect(chunks.every(({ chunk_index }, index) => chunk_index === index), "chunks", chunks);
    expect(chunks.length === complete.total_chunks, "total_chunks", complete, chunks);
    const frames = chunks.reduce((sum, { frames_emitted }) => sum + frames_emitted, 0);
    expect(frames === count, "frames_emitted", chunks);
    // The number of the run before is not shown until the first chunk of this one.
    const first = this.messages.findIndex(({ type }, index) => index >= since && type === "chunk_complete");
    const stale = this.messages.slice(since, first)
      .filter(({ type, data }) => type === "state" && data.started && data.current_chunk !== 0);
    expect(!stale.length, "a stale current_chunk", stale);
    expect(this.shown > shown, "no picture was shown");
  }

  /** Other clips in place of the first, what is no clip, and the first one once more. */
  async uploads(clip, count, another, fewer) {
    await this.reply("set_mode", null, { mode: "file" });
    const reference = await this.stage(clip, count);
    await this.stage(another, fewer);
    const junk = await this.client.uploadFile(
      new File(["no video ".repeat(1000)], "junk.mp4", { type: "video/mp4" }));
    let since = await this.reply("set_video", "command_error", { video: junk });
    expect(this.of("command_error", since)[0].command === "set_video", "what was refused");
    await this.told("state", { has_video: true, num_source_frames: fewer }, since);
    const empty = await this.client.uploadFile(new File([], "empty.mp4")).catch((error) => error);
    expect(empty instanceof Error, "an empty file is refused");
    // A clip that was accepted is never refused later.
    for (let turn = 0; turn < 3; turn++) {
      since = await this.reply("set_video", "video_accepted", { video: reference });
      await this.told("state", { num_source_frames: count }, since);
    }
    await this.reply("set_prompt", "prompt_accepted", { prompt: FIRST_PROMPT });
    since = this.command("start");
    await this.told("chunk_complete", {}, since);
    await this.reply("reset", "generation_reset");
  }

  /** Loses the connection in the middle of a live session, and comes back to it. */
  async reconnects() {
    const id = this.client.getSessionId(), known = this.messages.length;
    const { current_prompt } = this.of("state").at(-1);
    this.camera.stop();
    await this.client.disconnect(true);
    expect(this.client.getStatus() === "disconnected", "the status", this.statuses);
    expect(this.client.getSessionId() === id, "the session is kept");
    await this.client.reconnect();
    await this.until(() => this.client.getStatus() === "ready");
    const state = await this.told("state", { current_prompt, started: true }, known);
    await this.publish();
    const since = this.messages.length;
    const next = await this.told("chunk_complete", {}, since);
    expect(next.chunk_index >= state.current_chunk, "the run goes on", next, state);
    await this.more(24);
    expect(this.client.getSessionId() === id, "the same session");
    expect(!this.errors.length, "errors", this.errors);
  }

  /** What the model refuses is told, and the session goes on. */
  async refusals() {
    for (const [type, data] of [
      ["start", {}], ["no_such_command", {}], ["set_seed", { seed: "many" }], ["pause", {}],
      ["set_mode", { mode: "dream" }], ["set_prompt", { prompt: "" }], ["set_video", {}],
    ]) {
      const since = await this.reply(type, "command_error", data);
      const [{ command, reason }] = this.of("command_error", since);
      expect(command === type && reason.length > 5, "a refusal", command, reason);
    }
    await this.reply("set_seed", null, { seed: 7 });
    await this.told("state", { seed: 7, started: false });
  }

  /** Waits until the service has hung up. */
  async leaves() {
    await this.until(() => this.client.getStatus() === "disconnected");
  }

  /** Waits until so many pings were sent since now. */
  async pings(count) {
    const sent = () => seen.said.filter(({ text }) => text.includes('"ping"')).length;
    const wanted = sent() + count;
    while (sent() < wanted) await pause(100);
  }

  // -- what a second connection does

  /** Joins a session in the middle of a run. */
  async joins(sessionId, token = "any", options = {}) {
    await this.connect(token, { sessionId, ...options });
    await this.told("state", { started: true });
    await this.more(12);
  }

  /** Returns the code with which the camera is refused. */
  async claims() {
    const camera = new MediaStreamTrackGenerator({ kind: "video" });
    const refusal = await this.client.publishTrack("camera", camera).catch((error) => error);
    camera.stop();
    expect(refusal instanceof Error, "the camera was given twice");
    expect(this.errors.at(-1).code === "TRACK_PUBLISH_FAILED", "errors", this.errors);
    return refusal.code;
  }

  /** Stops the pictures of this connection; returns how many there have been. */
  async pausesPictures() {
    this.client.pauseTrack("main_video");
    await this.still();
    return this.shown;
  }

  /** Lets them come again. */
  async resumesPictures() {
    this.client.resumeTrack("main_video");
    await this.more(12);
  }

  /** Says what there is to see of it. */
  report() {
    const { messages, statuses, errors, sizes, shown, looks } = this;
    return {
      messages: messages.slice(-12), statuses, errors, sizes, shown, looks: looks.slice(-3),
    };
  }
}

/** Connects and expects to be refused; returns what the app is told. */
async function refused(Client, options, token = "any", how = {}) {
  const player = new Player(Client, options);
  const thrown = await player.connect(token, how).then(() => null, (error) => error);
  expect(thrown, "it was let in");
  expect(player.client.getStatus() === "disconnected", "the status", player.statuses);
  expect(player.errors.length === 1, "one error event", player.errors);
  const [{ code, message }] = player.errors;
  return { thrown: thrown.message, code, message };
}

function fileOf(clip) {
  const bytes = Uint8Array.from(atob(clip), (letter) => letter.charCodeAt(0));
  return new File([bytes], "clip.mp4", { type: "video/mp4" });
}

/** Returns the standard deviation of the luma at a few hundred places. */
function spread(luma, stride, width, height) {
  const values = [];
  for (let y = 8; y < height; y += 32)
    for (let x = 8; x < width; x += 32) values.push(luma[y * stride + x]);
  const mean = values.reduce((sum, each) => sum + each, 0) / values.length;
  return Math.sqrt(values.reduce((sum, each) => sum + (each - mean) ** 2, 0) / values.length);
}

/** Makes the player of this page. */
function play(Client, options) {
  globalThis.player = new Player(Client, options);
}
