"use strict";

// A client of the wire that js-sdk 2.12 speaks: numbered connections, candidates trickled in
// batches, a control channel beside the data channel. It has the SDK's surface as far as the
// tests need it, so that one scenario drives both. Written from a description of the wire.

/** Where the ways of 2.12 are told from those of other versions. */
const WIRE = {
  headers: { "Reactor-API-Version": "1", "Reactor-API-Accept-Version": "1" },
  transportHeaders: { "Reactor-WebRTC-Version": "1.0" },
  client: { sdk_version: "2.12.3", sdk_type: "js" },
  transports: [{ protocol: "webrtc", version: "1.0" }],
  placing: { firstMs: 200, mostMs: 10_000, attempts: 20 },
  answering: { firstMs: 200, mostMs: 15_000, attempts: 6 },
  /** How long candidates are gathered before they are sent together. */
  batchMs: 25,
  pingMs: 5000,
  /** How long a request on a channel may take. */
  replyMs: 10_000,
  channels: ["control", "data"],
  ended: ["CLOSED", "INACTIVE"],
  versionFaults: { 426: "CLIENT_VERSION_TOO_OLD", 501: "SERVER_VERSION_TOO_OLD" },
};

/** What went wrong, with the code that an app sees. */
class WireFault extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, retryAfter?: number, route?: string}} about
   */
  constructor(code, message, about = {}) {
    super(message);
    Object.assign(this, { code, ...about });
  }

  /** Whether the session that the request was about is over, so that another may be begun. */
  get losesSession() {
    return this.status === 400 && /\/(start_session|connections|sdp_params)$/.test(this.route);
  }
}

/** An uploaded file, as commands name it. */
class UploadedFile {
  constructor(reference) {
    this.reference = reference;
  }
}

/** Fails unless a value of an answer is a text: what 2.12 refuses to go on without. */
function required(object, ...path) {
  const value = path.reduce((inner, key) => inner?.[key], object);
  if (typeof value !== "string")
    throw new WireFault("CONNECTION_FAILED", `the answer lacks ${path.join(".")}`);
}

class Wire212 {
  /**
   * @param {{modelName: string, apiUrl: string, local?: boolean, pings?: boolean}} options
   *   `pings` false makes a client that gives no sign of life of its own.
   */
  constructor({ modelName, apiUrl, local = false, pings = true }) {
    Object.assign(this, { modelName, apiUrl, local, pings });
    this.listeners = new Map();
    this.status = "disconnected";
    this.tracks = [];
    /** Requests on the control channel that wait for their answer, by id. */
    this.asked = new Map();
    /** Requests for clips, answered in order. */
    this.clips = [];
    this.requests = 0;
    this.abortion = new AbortController();
  }

  // -- events

  on(event, listener) {
    if (!this.listeners.has(event)) this.listeners.set(event, new Set());
    this.listeners.get(event).add(listener);
  }

  off(event, listener) {
    this.listeners.get(event)?.delete(listener);
  }

  emit(event, ...values) {
    for (const listener of this.listeners.get(event) ?? []) listener(...values);
  }

  getStatus() {
    return this.status;
  }

  getSessionId() {
    return this.sessionId;
  }

  getSchema() {
    return this.schema;
  }

  setStatus(status) {
    if (status === this.status) return;
    this.status = status;
    this.emit("statusChanged", status);
  }

  fail(code, error, component) {
    const { message, retryAfter } = error;
    this.emit("error", {
      code, message, component, retryAfter, timestamp: Date.now(), recoverable: true,
    });
  }

  /** Tells of a request that failed and that nobody waits for; one that was given up did not. */
  stray(error) {
    if (error.name !== "AbortError") this.emit("stray", error);
  }

  // -- HTTP

  /** Asks, and returns status and body; only the statuses named are no fault. */
  async ask(method, path, { body, transport = false, statuses } = {}) {
    const headers = { ...WIRE.headers, ...(transport ? WIRE.transportHeaders : {}) };
    const token = this.local
      ? (transport ? "local" : undefined)
      : typeof this.token === "function" ? await this.token() : this.token;
    if (token !== undefined) headers.Authorization = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await fetch(this.apiUrl + path, {
      method, headers, signal: this.abortion.signal,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    if (statuses ? !statuses.includes(response.status) : !response.ok)
      throw new WireFault(
        WIRE.versionFaults[response.status] ?? "CONNECTION_FAILED",
        `${method} ${path}: ${response.status} ${text}`,
        {
          status: response.status, route: path,
          retryAfter: Number(response.headers.get("Retry-After")) || undefined,
        },
      );
    return { status: response.status, body: text ? JSON.parse(text) : undefined };
  }

  /** Asks again and again, less and less often, until there is an answer. */
  async poll({ firstMs, mostMs, attempts }, look) {
    for (let attempt = 0, wait = firstMs; attempt < attempts; attempt++) {
      const found = await look();
      if (found !== undefined) return found;
      await this.sleep(wait);
      wait = Math.min(2 * wait, mostMs);
    }
    throw new WireFault("CONNECTION_FAILED", `no answer after ${attempts} attempts`);
  }

  sleep(ms) {
    const { signal } = this.abortion;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(signal.reason);
      }, { once: true });
    });
  }

  // -- sessions

  /**
   * Creates a session, or joins one, and negotiates. Resolves before it is ready.
   * @param {string|(() => Promise<string>)|undefined} token
   * @param {{sessionId?: string, connectionId?: number, maxAttempts?: number}} options
   */
  async connect(token, options = {}) {
    if (this.status !== "disconnected") throw new Error("already connected or connecting");
    if (token === undefined && !this.local) throw new Error("a token is needed");
    Object.assign(this, { token, options });
    this.setStatus("connecting");
    await this.attempt("CONNECTION_FAILED", () => this.establish("POST"));
  }

  /** Comes back to the session with a new connection. */
  async reconnect(options = {}) {
    if (this.sessionId === undefined || this.status === "ready") return;
    this.options = { ...this.options, ...options, connectionId: undefined };
    this.setStatus("connecting");
    await this.attempt("RECONNECTION_FAILED", () => this.establish("PUT"));
  }

  /** Tries, and tries once more from the beginning where the session turned out to be over. */
  async attempt(code, establish) {
    try {
      try {
        await establish();
      } catch (error) {
        if (!error.losesSession) throw error;
        this.drop();
        this.forget();
        this.options = {};
        this.setStatus("connecting");
        await this.establish("POST");
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      this.fail(error.code?.endsWith("TOO_OLD") ? error.code : code, error, "api");
      await this.disconnect(code === "RECONNECTION_FAILED");
      throw error;
    }
  }

  async establish(method) {
    if (this.sessionId === undefined) {
      const session = this.options.sessionId === undefined
        ? await this.create() : await this.join(this.options.sessionId);
      if (session.selected_transport.protocol !== "webrtc")
        throw new WireFault("CONNECTION_FAILED", "no transport in common");
      this.tracks = session.capabilities.tracks;
    }
    await this.negotiate(method);
  }

  async create() {
    const made = this.check((await (this.local
      ? this.ask("POST", "/start_session", { body: {} })
      : this.ask("POST", "/sessions", {
        body: {
          model: { name: this.modelName }, client_info: WIRE.client,
          supported_transports: WIRE.transports,
        },
      }))).body);
    this.isCreator = true;
    this.setSession(made.session_id);
    this.setStatus("waiting");
    return this.local ? this.complete(made) : this.placed();
  }

  async join(sessionId) {
    this.isCreator = false;
    this.setSession(sessionId);
    this.setStatus("waiting");
    if (!this.local) return this.placed();
    return this.complete(this.check((await this.ask("GET", "/session")).body));
  }

  placed() {
    return this.poll(WIRE.placing, async () => {
      const session = this.check((await this.ask("GET", `/sessions/${this.sessionId}`)).body);
      if (WIRE.ended.includes(session.state))
        throw new WireFault("CONNECTION_FAILED", `the session is ${session.state}`);
      if (session.capabilities && session.selected_transport) return this.complete(session);
    });
  }

  check(session) {
    for (const path of [["session_id"], ["state"], ["cluster"], ["model", "name"],
      ["server_info", "server_version"]]) required(session, ...path);
    return session;
  }

  complete(session) {
    required(session, "selected_transport", "protocol");
    required(session, "capabilities", "protocol_version");
    for (const track of session.capabilities.tracks)
      for (const key of ["name", "kind", "direction"]) required(track, key);
    for (const command of session.capabilities.commands ?? [])
      for (const key of ["name", "description"]) required(command, key);
    return session;
  }

  setSession(id) {
    if (id === this.sessionId) return;
    this.sessionId = id;
    this.emit("sessionIdChanged", id);
  }

  forget() {
    this.setSession(undefined);
    this.tracks = [];
    this.schema = undefined;
  }

  /** Ends the connection; and the session too, if it was made here and none is to come back. */
  async disconnect(recoverable = false) {
    this.abortion.abort();
    this.abortion = new AbortController();
    if (!recoverable && this.isCreator && this.sessionId !== undefined) {
      const end = this.local
        ? ["POST", "/stop_session"] : ["DELETE", `/sessions/${this.sessionId}`];
      this.isCreator = false;
      // A session that is gone already was to end anyway.
      await this.ask(...end, { statuses: [200, 204, 404] }).catch((error) => this.stray(error));
    }
    this.drop();
    this.setStatus("disconnected");
    if (!recoverable) this.forget();
  }

  /** Closes the peer. */
  drop() {
    clearInterval(this.pinging);
    clearTimeout(this.batching);
    const peer = this.peer;
    this.peer = this.control = this.data = undefined;
    peer?.close();
    for (const { reject } of [...this.asked.values(), ...this.clips.splice(0)])
      reject(new WireFault("DISCONNECTED", "the connection is closed"));
    this.asked.clear();
  }

  // -- negotiation

  get transport() {
    return `/sessions/${this.sessionId}/transport/webrtc`;
  }

  /** @param {"POST"|"PUT"} method How the offer is sent: PUT where one comes back. */
  async negotiate(method) {
    const about = { transport: true };
    const { ice_servers: servers } = (await this.ask("GET", `${this.transport}/ice_servers`, about)).body;
    this.connectionId = this.options.connectionId
      ?? (await this.ask("POST", `${this.transport}/connections`, { ...about, statuses: [201] }))
        .body.connection_id;
    const path = `${this.transport}/connections/${this.connectionId}`;
    const peer = this.peer = new RTCPeerConnection({
      iceServers: servers.map(({ uris, credentials }) => ({
        urls: uris, username: credentials?.username, credential: credentials?.password,
      })),
    });
    this.follow(peer);
    this.transceivers = {};
    this.received = [];
    for (const label of WIRE.channels) this[label] = this.channel(peer, label);
    for (const { name, kind, direction } of this.tracks)
      this.transceivers[name] = peer.addTransceiver(kind, { direction });
    this.emit("offering", this.transceivers, peer);
    const offer = await peer.createOffer();
    const trickle = this.trickle(peer, path);
    await peer.setLocalDescription(offer);
    await this.ask(method, `${path}/sdp_params`, {
      ...about, statuses: [202],
      body: {
        // As it was made: without any candidate.
        sdp_offer: offer.sdp, client_info: WIRE.client,
        track_mapping: this.tracks.map(({ name, kind, direction }) => ({
          mid: this.transceivers[name].mid, name, kind, direction,
        })),
      },
    });
    trickle.begin();
    const attempts = this.options.maxAttempts ?? WIRE.answering.attempts;
    const sdp = await this.poll({ ...WIRE.answering, attempts }, async () => {
      const { status, body } = await this.ask("GET", `${path}/sdp_params`, {
        ...about, statuses: [200, 202],
      });
      if (status === 200) return body.sdp_answer;
    });
    this.emit("answered");
    await peer.setRemoteDescription({ type: "answer", sdp });
  }

  /** Sends candidates in batches, from when the offer has been taken. */
  trickle(peer, path) {
    let waiting = [], isFinal = false, begun = false;
    const send = () => {
      this.batching = undefined;
      const candidates = waiting.splice(0);
      this.ask("POST", `${path}/ice_candidates`, {
        transport: true, statuses: [202],
        body: { candidates, is_final: isFinal, client_info: WIRE.client },
      }).catch((error) => this.stray(error));
    };
    const schedule = () => {
      if (begun && !isSent()) this.batching ??= setTimeout(send, WIRE.batchMs);
    };
    const isSent = () => !waiting.length && !isFinal;
    peer.onicecandidate = ({ candidate }) => {
      if (candidate === null) isFinal = true;
      else if (candidate.candidate)
        waiting.push({
          candidate: candidate.candidate, sdp_mid: candidate.sdpMid,
          sdp_mline_index: candidate.sdpMLineIndex,
        });
      schedule();
    };
    return { begin: () => { begun = true; schedule(); } };
  }

  /** Tells what becomes of a peer, as long as it is the current one. */
  follow(peer) {
    peer.ontrack = ({ track, streams, transceiver }) => {
      const name = Object.keys(this.transceivers)
        .find((each) => this.transceivers[each] === transceiver);
      this.emit("trackReceived", name, track, streams[0] ?? new MediaStream([track]));
      this.received.push(name);
      if (this.status === "ready") this.resumeTrack(name);
    };
    peer.onconnectionstatechange = () => {
      if (peer !== this.peer) return;
      if (peer.connectionState === "connected") this.advance();
      if (["disconnected", "closed"].includes(peer.connectionState)) this.disconnect(true);
      if (peer.connectionState === "failed") {
        this.fail("GPU_CONNECTION_ERROR", new Error("the connection failed"), "gpu");
        this.disconnect();
      }
    };
  }

  channel(peer, label) {
    const channel = peer.createDataChannel(label);
    channel.onopen = () => this.advance();
    channel.onmessage = ({ data }) => this.heard(label, JSON.parse(data));
    return channel;
  }

  /** Becomes ready once the peer and both channels are. */
  advance() {
    const isOpen = WIRE.channels.every((label) => this[label]?.readyState === "open");
    if (!isOpen || this.peer.connectionState !== "connected" || this.status === "ready") return;
    this.setStatus("ready");
    if (this.pings) this.pinging = setInterval(() => this.say("ping", {}), WIRE.pingMs);
    this.say("requestSchema", {});
    for (const { name, direction } of this.tracks)
      if (direction === "recvonly") this.resumeTrack(name);
    // And again for every track that came.
    for (const name of this.received) this.resumeTrack(name);
  }

  // -- channels

  heard(label, message) {
    if (label === "control") {
      const asked = message.type === "response" && this.asked.get(message.request_id);
      if (!asked) return;
      this.asked.delete(message.request_id);
      if (message.error) asked.reject(new WireFault(message.error.code, message.error.message));
      else asked.resolve(message.data);
    } else if (message.scope === "application") {
      this.emit("message", message.data);
    } else if (message.scope === "runtime") {
      this.platform(message.data);
    }
  }

  /** Takes what the platform says, beside the model. */
  platform({ type, data }) {
    if (type === "modelSchema") {
      this.schema = data;
      this.emit("schemaReceived", data);
    }
    const clip = type.startsWith("clip") ? this.clips.shift() : undefined;
    if (type === "clipReady") clip?.resolve(data);
    if (type === "clipFailed") {
      const code = data.reason === "recorder disabled" ? "RECORDER_DISABLED" : "INTERNAL_ERROR";
      clip?.reject(new WireFault(code, data.reason));
    }
    this.emit("runtimeMessage", { type, data });
  }

  say(type, data) {
    if (this.data?.readyState === "open")
      this.data.send(JSON.stringify({ scope: "runtime", data: { type, data } }));
  }

  async sendCommand(type, given) {
    if (this.status !== "ready") throw new WireFault("NOT_READY", `the status is ${this.status}`);
    const data = {}, uploads = {};
    for (const [key, value] of Object.entries(given))
      if (value instanceof UploadedFile) uploads[key] = value.reference;
      else data[key] = value;
    const inner = { type, data };
    if (Object.keys(uploads).length) inner.uploads = uploads;
    this.data.send(JSON.stringify({ scope: "application", data: inner }));
  }

  notify(event, data) {
    if (this.control?.readyState === "open")
      this.control.send(JSON.stringify({ type: "notification", event, data }));
  }

  /** Asks on the control channel; an answer has to come in time. */
  request(method, data) {
    const id = `ctrl_${++this.requests}`;
    const answer = this.answer((entry) => this.asked.set(id, entry), () => this.asked.delete(id));
    this.control.send(JSON.stringify({ type: "request", method, request_id: id, data }));
    return answer;
  }

  answer(keep, forget) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        forget();
        reject(new WireFault("REQUEST_TIMEOUT", "no answer in time"));
      }, WIRE.replyMs);
      const settle = (how) => (value) => {
        clearTimeout(timer);
        how(value);
      };
      keep({ resolve: settle(resolve), reject: settle(reject) });
    });
  }

  requestClip(duration_seconds) {
    const answer = this.answer((entry) => this.clips.push(entry), () => this.clips.shift());
    this.say("requestClip", { duration_seconds });
    return answer;
  }

  // -- tracks

  async publishTrack(name, track) {
    try {
      await this.request("publish_track", { name });
      await this.transceivers[name].sender.replaceTrack(track);
    } catch (error) {
      this.fail("TRACK_PUBLISH_FAILED", error, "gpu");
      throw error;
    }
  }

  async unpublishTrack(name) {
    await this.transceivers[name].sender.replaceTrack(null);
    this.notify("unpublish_track", { name });
  }

  pauseTrack(name) {
    this.notify("pause_track", { name });
  }

  resumeTrack(name) {
    this.notify("resume_track", { name });
  }

  // -- uploads

  async uploadFile(file) {
    if (this.status !== "ready") throw new WireFault("NOT_READY", `the status is ${this.status}`);
    if (!file.size) throw new Error("the file is empty");
    const about = {
      name: file.name ?? "upload", size: file.size,
      mime_type: file.type || "application/octet-stream",
    };
    const path = `/sessions/${this.sessionId}/uploads`;
    const { body: slot } = await this.ask("POST", path, { body: about });
    for (const key of ["presigned_id", "presigned_url", "path"]) required(slot, key);
    const url = new URL(slot.presigned_url);
    if (this.local) {
      const { protocol, host } = new URL(this.apiUrl);
      Object.assign(url, { protocol, host });
    }
    const put = await fetch(url, { method: "PUT", body: file });
    if (!put.ok) throw new Error(`the upload failed: ${put.status}`);
    const reference = { upload_id: slot.presigned_id, ...about };
    this.say("fileUploaded", reference);
    return new UploadedFile(reference);
  }
}
