/** What a page does with the packed `@sana-gateway/client`, flow by flow; it throws where something is wrong. */
import {
  browser,
  CommandRejected,
  ConnectionLostError,
  PublisherTakenError,
  SanaStreamingModel,
  UnknownModelError,
  UnknownSessionError,
  type ChannelPort,
  type ChunkComplete,
  type ConnectOptions,
  type Environment,
  type Message,
  type Messages,
  type SanaError,
  type Status,
} from "@sana-gateway/client";

interface Marker {
  readonly frame: number;
  readonly run: number;
}
declare function readMarker(luma: Uint8Array, stride: number, width: number, height: number): Marker | null;
declare class MediaStreamTrackProcessor {
  constructor(init: { track: MediaStreamTrack; maxBufferSize?: number });
  readonly readable: ReadableStream<VideoFrame>;
}

const PROMPT = "a watercolour of a harbour";
const OTHER = "charcoal on rough paper";
/** Longest wait for anything. */
const LONGEST_MS = 60_000;

/** Throws unless something is true. */
export function check(holds: unknown, ...about: unknown[]): asserts holds {
  if (!holds) throw new Error(`wrong: ${about.map((each) => JSON.stringify(each)).join(", ")}`);
}

const same = (one: unknown, other: unknown) =>
  check(JSON.stringify(one) === JSON.stringify(other), one, "instead of", other);

/** A model in this page, and what was seen of it. */
export class Client {
  readonly channels: ChannelPort[] = [];
  readonly model: SanaStreamingModel;
  readonly statuses: Status[] = [];
  readonly messages: Message[] = [];
  readonly errors: SanaError[] = [];
  readonly pictures: Marker[] = [];
  frames = 0;
  readonly #watchers = new Set<() => void>();

  constructor(
    readonly base: string,
    changes: Partial<Environment> = {},
  ) {
    const environment = { ...browser(), ...changes };
    const makePeer = environment.makePeer;
    environment.makePeer = (configuration) => {
      const peer = makePeer(configuration);
      const create = peer.createDataChannel.bind(peer);
      peer.createDataChannel = (label) => {
        const channel = create(label);
        if (label === "data") this.channels.push(channel);
        return channel;
      };
      return peer;
    };
    const model = (this.model = new SanaStreamingModel(environment));
    model.on("statusChanged", (status) => this.#seen(this.statuses, status));
    model.on("message", (message) => this.#seen(this.messages, message));
    model.on("error", (error) => this.#seen(this.errors, error));
    model.onTrack((track) => void this.#watch(track));
  }

  async connect(options: ConnectOptions = {}): Promise<void> {
    await this.model.connect({ apiUrl: this.base, model: "simulated", ...options });
  }

  /** Waits until something that was seen holds; returns it. */
  async until<Value>(what: string, look: () => Value): Promise<NonNullable<Value>> {
    const end = performance.now() + LONGEST_MS;
    for (;;) {
      const value = look();
      if (value) return value as NonNullable<Value>;
      if (performance.now() > end) throw new Error(`${what}: not seen; ${JSON.stringify(this.about())}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1000);
        this.#watchers.add(() => {
          clearTimeout(timer);
          resolve();
        });
      });
      this.#watchers.clear();
    }
  }

  /** Waits for so many more pictures. */
  more(count: number): Promise<unknown> {
    const wanted = this.frames + count;
    return this.until(`${count} pictures`, () => this.frames >= wanted);
  }

  /** Waits until no picture came for a while. */
  async still(): Promise<void> {
    for (let before = -1; before !== this.frames; ) {
      before = this.frames;
      await new Promise((resolve) => setTimeout(resolve, 700));
    }
  }

  /** Waits until no picture came while another client was shown a second of them. */
  async stillBeside(other: Client): Promise<void> {
    const end = performance.now() + LONGEST_MS;
    for (let before = -1; before !== this.frames; ) {
      check(performance.now() < end, "pictures go on", this.about());
      before = this.frames;
      await other.more(24);
    }
  }

  /** The chunks that were completed since a message. */
  chunks(since = 0): ChunkComplete[] {
    return this.of("chunkComplete", since);
  }

  /** The payloads of a name, since a message. */
  of<Name extends keyof Messages>(name: Name, since = 0): Messages[Name][] {
    const fits = this.messages.slice(since).filter((message) => message.name === name);
    return fits.map(({ data }) => data as Messages[Name]);
  }

  /** Publishes the browser's own camera. */
  async film(): Promise<void> {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360 } });
    await this.model.publishCamera(stream, { maxBitrate: 800_000 });
    await this.filming();
  }

  /** Waits until the camera is sent: `start` waits for two seconds, and this machine may be slow. */
  async filming(): Promise<void> {
    const end = performance.now() + LONGEST_MS;
    while (!(await this.model.stats()).camera?.width) {
      check(performance.now() < end, "the camera is not sent", this.about());
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Starts a run from the camera, again where a busy machine let none of its pictures come in time. */
  async begin(): Promise<void> {
    for (const end = performance.now() + LONGEST_MS; ; ) {
      check(performance.now() < end, "no picture of the camera comes", this.about());
      const since = this.messages.length;
      await this.model.start();
      const begun = () => this.of("generationStarted", since).length > 0;
      await this.until("the start", () => begun() || this.of("commandError", since).length);
      if (begun()) return;
      same(this.of("commandError", since).map(({ code }) => code), ["no_source"]);
      await this.filming();
    }
  }

  /** Uploads a clip and stages it. */
  async stage(clip: string): Promise<number> {
    const progress: number[] = [];
    const file = await this.model.uploadFile(fileOf(clip), { onProgress: (sent) => progress.push(sent) });
    same(progress.at(-1), file.size);
    return (await this.model.setVideo(file)).numFrames;
  }

  about(): object {
    const { statuses, frames, errors } = this;
    const names = this.messages.map(({ name }) => name).slice(-8);
    return { statuses, frames, errors: errors.map(String), names, state: this.model.state };
  }

  #seen<Value>(list: Value[], value: Value): void {
    list.push(value);
    this.#woken();
  }

  #woken(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }

  async #watch(track: MediaStreamTrack): Promise<void> {
    const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 48 }).readable.getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      const picture = next.value;
      try {
        const marker = await markerOf(picture);
        if (marker !== null) this.pictures.push(marker);
      } finally {
        picture.close();
      }
      this.frames += 1;
      this.#woken();
    }
  }
}

async function markerOf(picture: VideoFrame): Promise<Marker | null> {
  const { displayWidth: width, displayHeight: height } = picture;
  const rect = { x: 0, y: 0, width, height };
  const buffer = new Uint8Array(picture.allocationSize({ rect }));
  const [plane] = await picture.copyTo(buffer, { rect });
  return readMarker(buffer, (plane as PlaneLayout).stride, width, height);
}

function fileOf(clip: string): File {
  const bytes = Uint8Array.from(atob(clip), (letter) => letter.charCodeAt(0));
  return new File([bytes], "clip.mp4", { type: "video/mp4" });
}

/** Returns what a promise rejects with, which is of a kind. */
async function fails<Kind>(kind: new (...given: never[]) => Kind, promise: Promise<unknown>): Promise<Kind> {
  const error = await promise.then(
    () => "nothing was thrown",
    (thrown: unknown) => thrown,
  );
  check(error instanceof kind, String(error), "instead of", kind.name);
  return error;
}

export async function live(base: string): Promise<object> {
  const client = new Client(base);
  const { model } = client;
  const told: object[] = [];
  model.on("viewerStats", (figures) => told.push(figures));
  await client.connect();
  same(client.statuses, ["connecting", "waiting", "ready"]);
  same([model.state?.phase, model.state?.mode, model.state?.currentPrompt], ["idle", "live", null]);
  await client.film();
  same((await model.setPrompt(PROMPT)).prompt, PROMPT);
  await model.setMode("live");
  await model.setSeed(42);
  await client.begin();
  same(client.of("generationStarted").map(({ prompt }) => prompt), [PROMPT]);
  await client.more(24);
  await client.until("a chunk", () => client.chunks().length);
  await model.setPrompt(OTHER);
  await client.until("the other prompt", () => client.chunks().some(({ activePrompt }) => activePrompt === OTHER));
  await model.stats();
  await client.more(24);
  const stats = await model.stats();
  check(stats.video.fps > 1 && stats.video.bitrate > 0 && stats.rttMs !== null, stats);
  check(stats.camera !== null && stats.camera.width > 0, stats.camera);
  check(stats.service !== null && stats.service.sourceToEmitUs > 0 && stats.glassToGlassMs !== null, stats);
  check(stats.promptToPixelsMs !== null && stats.promptToPixelsMs > 0, told);
  await model.pause();
  const paused = await model.waitFor(({ phase }) => phase === "paused");
  same([paused.paused, paused.running], [true, false]);
  await client.still();
  await model.resume();
  await model.waitFor(({ running }) => running);
  await client.more(24);
  await model.reset();
  same([model.state?.started, model.state?.hasPrompt, model.state?.seed], [false, false, 42]);
  await model.unpublish();
  await model.disconnect();
  same(client.errors, []);
  return stats;
}

export async function file(base: string, clip: string, frames: number): Promise<number> {
  const client = new Client(base);
  const { model } = client;
  await client.connect();
  await model.setMode("file");
  same(await client.stage(clip), frames);
  await model.setPrompt(PROMPT);
  for (const run of [1, 2]) {
    const since = client.messages.length;
    await model.start();
    const { totalChunks } = await client.until("the end", () => client.of("generationComplete", since)[0]);
    const indices = client.chunks(since).map(({ chunkIndex }) => chunkIndex);
    same(indices, [...Array(totalChunks).keys()]);
    same(client.chunks(since).reduce((sum, { framesEmitted }) => sum + framesEmitted, 0), frames);
    const state = await model.waitFor(({ started }) => !started);
    same([state.hasVideo, state.hasPrompt, state.mode], [true, true, "file"]);
    const shown = (each: Marker) => each.run === run && each.frame === frames - 1;
    await client.until("the last picture", () => client.pictures.some(shown));
  }
  const seen = new Set(client.pictures.filter(({ run }) => run === 2).map(({ frame }) => frame));
  await model.disconnect();
  return seen.size;
}

export async function uploads(base: string, clip: string, other: string): Promise<void> {
  const client = new Client(base);
  const { model } = client;
  await client.connect();
  await model.setMode("file");
  await model.setPrompt(PROMPT);
  const first = await client.stage(clip);
  const second = await client.stage(other);
  check(first !== second, first, second);
  const refused = await fails(CommandRejected, client.stage(btoa("no clip ".repeat(200))));
  same([refused.code, refused.command, model.state?.numSourceFrames], ["bad_video", "set_video", second]);
  check(refused.reason.length > 10 && refused.advice.length > 10, refused);
  same(await client.stage(other), second);
  await model.start();
  await client.until("the end", () => client.of("generationComplete").length);
  check(client.frames > 0, "no pictures");
  await model.disconnect();
}

export async function reconnect(base: string, clip: string): Promise<void> {
  const client = new Client(base);
  const { model } = client;
  const ready = () => client.statuses.filter((status) => status === "ready").length;
  await client.connect();
  const { sessionId, stream } = model;
  await model.setMode("file");
  await client.stage(clip);
  await model.setPrompt(PROMPT);
  await model.start();
  await client.until("a chunk", () => client.chunks().length);
  client.channels.at(-1)?.close();
  await client.until("the loss", () => model.status === "reconnecting");
  // Given while nobody hears it.
  const seeded = model.setSeed(7);
  const prompted = model.setPrompt(OTHER);
  await client.until("the return", () => ready() === 2);
  await seeded;
  same((await prompted).prompt, OTHER);
  same([model.sessionId, model.state?.seed, model.stream === stream], [sessionId, 7, true]);
  same(stream.getVideoTracks(), [model.videoTrack]);
  const { totalChunks } = await client.until("the end", () => client.of("generationComplete")[0]);
  // Not one is missing, and none came twice.
  same(client.chunks().map(({ chunkIndex }) => chunkIndex), [...Array(totalChunks).keys()]);
  const revisions = client.messages.map(({ revision }) => revision).filter((revision) => revision > 0);
  same(revisions, [...new Set(revisions)].sort((one, two) => one - two));
  await client.until("the last picture", () => client.pictures.some(({ frame }) => frame > 24));
  // Lost while it films: the camera is there again.
  await model.setMode("live");
  await client.film();
  await client.begin();
  await client.more(24);
  client.channels.at(-1)?.close();
  await client.until("the second return", () => ready() === 3);
  const before = client.chunks().length;
  await client.more(24);
  await client.until("chunks", () => client.chunks().length > before + 1);
  same(model.state?.running, true);
  await model.disconnect();
  same(client.errors, []);
}

export async function join(base: string): Promise<void> {
  const [first, second] = [new Client(base), new Client(base)];
  await first.connect();
  await first.film();
  await first.model.setPrompt(PROMPT);
  await first.begin();
  await first.more(12);
  await second.connect({ sessionId: first.model.sessionId as string });
  same([second.model.state?.started, second.model.state?.currentPrompt], [true, PROMPT]);
  await second.more(24);
  const taken = await fails(PublisherTakenError, second.film());
  check(taken.advice.length > 10, taken);
  await second.model.setPrompt(OTHER);
  for (const each of [first, second])
    await each.until("the other prompt", () => each.chunks().some(({ activePrompt }) => activePrompt === OTHER));
  // A refusal goes to who asked.
  const since = first.messages.length;
  await fails(CommandRejected, second.model.start());
  same(second.of("commandError").length, 1);
  await first.until("a chunk after it", () => first.chunks(since).length);
  same(first.of("commandError", since).length, 0);
  // The second one's picture is paused, and nobody else's.
  second.model.pauseVideo();
  await second.stillBeside(first);
  second.model.resumeVideo();
  await second.more(24);
  await second.model.disconnect();
  await first.more(24);
  await first.model.disconnect();
  await fails(UnknownSessionError, new Client(base).connect({ sessionId: "s0" }));
}

/** One client gives signs of life, the other is silent: it is hung up on, and comes again. */
export async function pings(base: string): Promise<string[][]> {
  const usual = browser();
  const heard = new Client(base);
  // Nothing that is due after 5 s, a ping, ever happens.
  const silent = new Client(base, { after: (ms, callback) => (ms === 5000 ? () => {} : usual.after(ms, callback)) });
  await heard.connect();
  await silent.connect();
  const sessionId = silent.model.sessionId;
  await silent.until("that it is hung up on", () => silent.statuses.filter((status) => status === "ready").length > 1);
  same(silent.model.sessionId, sessionId);
  check((await heard.model.stats()).rttMs !== null, "no round trip");
  const seen = [heard.statuses, silent.statuses].map((each) => [...each]);
  await heard.model.disconnect();
  await silent.model.disconnect();
  return seen;
}

export async function errors(base: string): Promise<void> {
  const client = new Client(base);
  const { model } = client;
  const unknown = await fails(UnknownModelError, client.connect({ model: "no-such-model" }));
  check(unknown.servedModels.includes("simulated"), unknown.servedModels);
  await fails(ConnectionLostError, new Client("http://127.0.0.1:1").connect());
  await client.connect();
  const early = await fails(CommandRejected, model.start());
  same([early.code, early.command, early.phase], ["no_prompt", "start", "idle"]);
  const wrong = await fails(CommandRejected, model.resume());
  same([wrong.code, wrong.allowedPhases.includes("paused")], ["wrong_phase", true]);
  same((await fails(CommandRejected, model.setSeed(-1))).code, "bad_argument");
  same((await fails(CommandRejected, model.setMode("both" as "live"))).code, "bad_argument");
  await model.setPrompt(PROMPT);
  await model.start();
  // The wait for a camera that never comes is told after the start was accepted.
  const late = await client.until("the late refusal", () =>
    client.of("commandError").find(({ command, code }) => command === "start" && code === "no_source"),
  );
  check(late.reason.length > 10, late);
  same(model.state?.currentPrompt, PROMPT);
  await client.film();
  await client.begin();
  await client.more(12);
  await model.disconnect();
  await fails(Error, model.start());
}

export async function fork(base: string, clip: string): Promise<void> {
  const [client, twin] = [new Client(base), new Client(base)];
  await client.connect();
  await client.model.setMode("file");
  await client.stage(clip);
  await client.model.setPrompt(PROMPT);
  const [sessionId] = await client.model.fork(1);
  await twin.connect({ sessionId: sessionId as string, owned: true });
  check(twin.model.sessionId !== client.model.sessionId, sessionId);
  same([twin.model.state?.currentPrompt, twin.model.state?.hasVideo], [PROMPT, true]);
  await twin.model.setPrompt(OTHER);
  same(client.model.state?.currentPrompt, PROMPT);
  await twin.model.start();
  await twin.until("the end", () => twin.of("generationComplete").length);
  await twin.model.disconnect();
  await client.model.disconnect();
}

/** Fills the pool, waits behind it, and gets the place that becomes free. */
export async function queue(base: string): Promise<object[]> {
  const [client, behind] = [new Client(base), new Client(base)];
  const others: string[] = [];
  for (let full = false; !full; ) {
    const id = await created(base);
    const place = (await (await fetch(`${base}/sessions/${id}/place?seen=0`)).json()) as { queue?: object };
    full = place.queue !== undefined;
    if (full) await ended(base, id);
    else others.push(id);
  }
  const places: object[] = [];
  client.model.on("queueChanged", (place) => places.push(place ?? {}));
  const connected = client.connect();
  await client.until("a place", () => client.model.queue !== null);
  same([client.model.status, client.model.queue?.position], ["waiting", 1]);
  const given = client.model.setPrompt(PROMPT);
  const given_up = behind.connect().catch((error: unknown) => error);
  await behind.until("a place behind", () => behind.model.queue?.position === 2);
  await behind.model.disconnect();
  await given_up;
  await ended(base, others.pop() as string);
  await connected;
  same((await given).prompt, PROMPT);
  same([client.model.status, client.model.queue], ["ready", null]);
  await client.model.disconnect();
  for (const id of others) await ended(base, id);
  return places;
}

async function created(base: string): Promise<string> {
  const body = JSON.stringify({ model: { name: "simulated" } });
  const headers = { "Content-Type": "application/json" };
  const made = (await (await fetch(`${base}/sessions`, { method: "POST", headers, body })).json()) as SessionMade;
  return made.session_id;
}

interface SessionMade {
  readonly session_id: string;
}

const ended = (base: string, id: string) => fetch(`${base}/sessions/${id}`, { method: "DELETE" });
