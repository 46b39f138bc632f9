/** A service, peers and a clock that the test plays, behind the library's own ports. */
import type {
  ChannelPort,
  Environment,
  PeerPort,
  Progress,
  RequestPort,
  ResponsePort,
  SenderPort,
  TransceiverPort,
} from "../src/ports.js";

export type Json = Record<string, unknown>;
type Listener = (event: any) => void;

class Target {
  readonly #listeners = new Map<string, Listener[]>();

  addEventListener(type: string, listener: Listener): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  fire(type: string, event: object = {}): void {
    for (const listener of this.#listeners.get(type) ?? []) listener(event);
  }
}

/** A channel; `receive` plays the service, `sent` is what it got. */
export class FakeChannel extends Target implements ChannelPort {
  readyState = "connecting";
  readonly sent: Json[] = [];
  onSent: (said: Json) => void = () => undefined;

  constructor(readonly label: string) {
    super();
  }

  send(text: string): void {
    const said = JSON.parse(text) as Json;
    this.sent.push(said);
    this.onSent(said);
  }

  receive(said: Json | string): void {
    this.fire("message", { data: typeof said === "string" ? said : JSON.stringify(said) });
  }

  open(): void {
    this.readyState = "open";
    this.fire("open");
  }

  close(): void {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    this.fire("close");
  }

  /** What was sent of a type. */
  of(type: string): Json[] {
    return this.sent.filter((said) => said["type"] === type);
  }
}

/** A track that is nothing but its name. */
export function fakeTrack(id: string): MediaStreamTrack {
  return { id, kind: "video", stop: () => undefined } as unknown as MediaStreamTrack;
}

/** A stream of fake tracks. */
export function fakeStream(...given: MediaStreamTrack[]): MediaStream {
  const tracks = new Set(given);
  return {
    addTrack: (track: MediaStreamTrack) => tracks.add(track),
    removeTrack: (track: MediaStreamTrack) => tracks.delete(track),
    getTracks: () => [...tracks],
    getVideoTracks: () => [...tracks],
  } as unknown as MediaStream;
}

class FakeSender implements SenderPort {
  track: MediaStreamTrack | null = null;
  parameters = { encodings: [{}] } as unknown as RTCRtpSendParameters;

  async replaceTrack(track: MediaStreamTrack | null): Promise<void> {
    this.track = track;
  }

  getParameters(): RTCRtpSendParameters {
    return this.parameters;
  }

  async setParameters(parameters: RTCRtpSendParameters): Promise<void> {
    this.parameters = parameters;
  }
}

/** A peer; it connects as soon as it has an answer. */
export class FakePeer extends Target implements PeerPort {
  connectionState = "new";
  localDescription: { sdp: string } | null = null;
  readonly channels = new Map<string, FakeChannel>();
  readonly transceivers: { kind: string; init: RTCRtpTransceiverInit; port: TransceiverPort; sender: FakeSender }[] = [];
  reports = new Map<string, unknown>();

  constructor(
    readonly configuration: RTCConfiguration,
    readonly number: number,
    readonly onAnswer: (peer: FakePeer) => void,
  ) {
    super();
  }

  get data(): FakeChannel {
    return this.channels.get("data") as FakeChannel;
  }

  addTransceiver(kind: string, init: RTCRtpTransceiverInit): TransceiverPort {
    const sender = new FakeSender();
    const index = this.transceivers.length;
    const port = { mid: String(index), sender, receiver: { track: fakeTrack(`peer ${this.number} track ${index}`) } };
    this.transceivers.push({ kind, init, port, sender });
    return port;
  }

  createDataChannel(label: string): FakeChannel {
    const channel = new FakeChannel(label);
    this.channels.set(label, channel);
    return channel;
  }

  async setLocalDescription(): Promise<void> {
    this.localDescription = { sdp: `offer ${this.number}` };
    this.fire("icecandidate", { candidate: { candidate: "candidate:1", sdpMid: "0", sdpMLineIndex: 0 } });
    this.fire("icecandidate", { candidate: null });
  }

  async setRemoteDescription(): Promise<void> {
    this.onAnswer(this);
  }

  async getStats(): Promise<ReadonlyMap<string, unknown>> {
    return this.reports;
  }

  become(state: string): void {
    this.connectionState = state;
    this.fire("connectionstatechange");
  }

  close(): void {
    this.connectionState = "closed";
    for (const channel of this.channels.values()) channel.close();
  }

  get sender(): FakeSender {
    return (this.transceivers[0] as { sender: FakeSender }).sender;
  }
}

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly body: Json;
  readonly token: string;
  readonly signal: AbortSignal | undefined;
}

type Reply = { status: number; body?: Json | string; headers?: Record<string, string> };

export const TRACKS = [
  { name: "camera", kind: "video", direction: "sendonly" },
  { name: "main_video", kind: "video", direction: "recvonly" },
];
export const PLACED: Json = {
  session_id: "s1",
  state: "ACTIVE",
  model: { name: "sana-streaming" },
  selected_transport: { protocol: "webrtc" },
  capabilities: { tracks: TRACKS, emission_fps: 24 },
};
export const STATE: Json = {
  running: false,
  started: false,
  paused: false,
  current_chunk: 0,
  current_prompt: null,
  has_prompt: false,
  has_video: false,
  num_source_frames: 0,
  seed: 0,
  mode: "live",
  phase: "idle",
  queue_position: 0,
  degraded_frame_rate: 0,
  awaiting_room: false,
  degraded_steps: 0,
};

/** A service; it accepts everything unless the test says otherwise. */
export class FakeService implements Environment {
  time = 0;
  readonly asked: Asked[] = [];
  readonly peers: FakePeer[] = [];
  /** Answers by `METHOD path`, before the usual ones; a function is asked each time. */
  readonly replies = new Map<string, Reply | (() => Reply | Promise<Reply>)>();
  /** What greets a peer; the usual greeting by default. */
  greet = (peer: FakePeer) => this.greeting(peer);
  /** What answers a command; an ack by default. */
  answer = (said: Json, channel: FakeChannel) => channel.receive({ type: "ack", id: said["id"], accepted: true });
  gap = false;
  state = { ...STATE };
  revision = 0;
  /** Whether requests reach the service. */
  reachable = true;
  uploads: (() => Promise<ResponsePort>)[] = [];
  #timers: { at: number; callback: () => void }[] = [];
  #online: (() => void)[] = [];
  #ids = 0;

  // -- the environment

  async fetch(url: string, request: RequestPort): Promise<ResponsePort> {
    const path = url.replace("http://service", "");
    const body = JSON.parse(request.body ?? "{}") as Json;
    const token = request.headers["Authorization"] ?? "";
    this.asked.push({ method: request.method, path, body, token, signal: request.signal });
    if (!this.reachable) throw new TypeError("Failed to fetch");
    request.signal?.throwIfAborted();
    const given = this.replies.get(`${request.method} ${path}`);
    const reply = typeof given === "function" ? given() : (given ?? this.#usual(request.method, path));
    return response(await Promise.race([reply, aborted(request.signal)]));
  }

  async put(url: string, file: Blob, _: string, onProgress: Progress): Promise<ResponsePort> {
    onProgress(file.size / 2, file.size);
    this.asked.push({ method: "PUT", path: url, body: {}, token: "", signal: undefined });
    const next = this.uploads.shift();
    if (next) return next();
    onProgress(file.size, file.size);
    return response({ status: 200, body: {} });
  }

  makePeer(configuration: RTCConfiguration): FakePeer {
    const peer = new FakePeer(configuration, this.peers.length + 1, (made) => this.#connect(made));
    this.peers.push(peer);
    return peer;
  }

  makeStream = () => fakeStream();
  now = () => this.time;
  random = () => 0.5;
  newId = () => `id${(this.#ids += 1)}`;

  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.time + ms, callback };
    this.#timers.push(timer);
    return () => void (this.#timers = this.#timers.filter((each) => each !== timer));
  }

  onOnline(callback: () => void): () => void {
    this.#online.push(callback);
    return () => void (this.#online = this.#online.filter((each) => each !== callback));
  }

  // -- the test's side

  /** Lets time pass, and everything happen that is due. */
  async advance(ms = 0): Promise<void> {
    const end = this.time + ms;
    await settled();
    for (;;) {
      this.#timers.sort((one, other) => one.at - other.at);
      const next = this.#timers[0];
      if (next === undefined || next.at > end) break;
      this.#timers.shift();
      this.time = next.at;
      next.callback();
      await settled();
    }
    this.time = end;
  }

  online(): void {
    for (const callback of this.#online) callback();
  }

  /** The latest peer. */
  get peer(): FakePeer {
    return this.peers.at(-1) as FakePeer;
  }

  /** Says something to the latest peer. */
  say(said: Json): void {
    this.peer.data.receive(said);
  }

  /** Says a message of the session to it. */
  tell(name: string, data: Json, more: Json = {}): void {
    if (more["revision"] === undefined) this.revision += 1;
    this.say({ type: "message", name, revision: this.revision, command_id: "", replayed: false, data, ...more });
  }

  /** Changes the state, and tells it. */
  become(changes: Json): void {
    Object.assign(this.state, changes);
    this.tell("state", this.state);
  }

  greeting(peer: FakePeer): void {
    peer.data.receive({ type: "attached", connection_id: 1001 + peer.number, gap: this.gap });
    if (peer.number === 1 || this.gap) this.become({});
  }

  /** Paths asked for with a method. */
  paths(method: string): string[] {
    return this.asked.filter((each) => each.method === method).map(({ path }) => path);
  }

  #connect(peer: FakePeer): void {
    peer.become("connected");
    peer.data.onSent = (said) => {
      if (said["type"] === "ping") peer.data.receive({ type: "pong", id: said["id"] });
      if (said["type"] === "publish") peer.data.receive({ type: "published", id: said["id"], track: said["track"] });
      if (said["type"] === "command") queueMicrotask(() => this.answer(said, peer.data));
    };
    for (const channel of peer.channels.values()) channel.open();
    this.greet(peer);
  }

  #usual(method: string, path: string): Reply {
    if (method === "POST" && path === "/sessions") return { status: 201, body: { ...PLACED, capabilities: undefined } };
    if (path === "/start_session") return { status: 200, body: PLACED };
    if (path.includes("/place")) return { status: 200, body: PLACED };
    if (path.endsWith("/ice_servers"))
      return {
        status: 200,
        body: { ice_servers: [{ uris: ["turn:t"], credentials: { username: "u", password: "p" } }] },
      };
    if (path.endsWith("/connections")) return { status: 201, body: { connection_id: 1002 } };
    if (path.endsWith("/sdp_params") && method === "GET") return { status: 200, body: { sdp_answer: "answer" } };
    if (path.endsWith("/forks")) return { status: 201, body: { sessions: [{ session_id: "s2" }, { session_id: "s3" }] } };
    if (path.endsWith("/uploads"))
      return { status: 201, body: { presigned_id: "u1", presigned_url: "http://service/uploads/x", path: "p" } };
    return { status: method === "DELETE" ? 204 : 202, body: "" };
  }
}

/** Rejects when a signal is given. */
function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason as Error)));
}

export function response({ status, body = "", headers = {} }: Reply): ResponsePort {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return { status, headers: { get: (name) => headers[name] ?? null }, text: async () => text };
}

/** Lets promises settle. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Returns what a promise rejects with. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error("it did not reject");
    },
    (error: unknown) => error,
  );
}
