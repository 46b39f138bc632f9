/** A session of the SANA-Streaming surface, as a page uses it. */
import { RECONNECT } from "./backoff.js";
import { browser } from "./browser.js";
import { Camera, type CameraOptions } from "./camera.js";
import { Connection } from "./connection.js";
import { COMMANDS, type Commands, type FileRef, type Messages, type Mode, type State, type ViewerStats } from "./contract.js";
import { Emitter } from "./emitter.js";
import { LimitError, NotConnectedError, SanaError, SessionEndedError, TimedOutError } from "./errors.js";
import { MOST, PendingCommands, type CommandName, type Pending, type Reply } from "./pending.js";
import { begin, placed, type ConnectOptions, type QueuePlace, type Session } from "./place.js";
import type { Environment, Progress } from "./ports.js";
import { figures, type ConnectionStats, type Look, type Report } from "./statistics.js";
import { MAIN_VIDEO, type Transport } from "./transport.js";
import { decodeStats, snaked, type Heard, type Message } from "./wire.js";

/** How long the answer to a command may take. */
const ANSWER_MS = 30_000;

/** Where a model stands. */
export type Status = "disconnected" | "connecting" | "waiting" | "ready" | "reconnecting";

/** Options of `uploadFile`. */
export interface UploadOptions {
  readonly onProgress?: Progress;
  /** Name to give along; that of the file by default. */
  readonly name?: string;
  readonly signal?: AbortSignal;
}

/** What happens, by name, and what listeners are given. */
export interface Events extends Omit<Messages, "state"> {
  /** The snapshot changed; the single source of truth. */
  readonly stateChanged: State;
  readonly statusChanged: Status;
  /** The place in the queue changed; null: not queued. */
  readonly queueChanged: QueuePlace | null;
  /** Every message, whole. */
  readonly message: Message;
  /** There is a track of the edited video. Also after each reconnect. */
  readonly trackReceived: MediaStreamTrack;
  /** The service's share of the delays, with each chunk. */
  readonly viewerStats: ViewerStats;
  /** Messages after this revision were missed; `state` makes up for them. */
  readonly gap: number;
  /** What went wrong behind the scenes. */
  readonly error: SanaError;
  /** The session has ended; the reason. */
  readonly ended: string;
}

/** What lives from `connect` to the end of the connection. */
interface Life {
  readonly abort: AbortController;
  session: Session | null;
  connection: Connection | null;
  camera: Camera | null;
}

/** Every command has a method of its name. */
type CommandMethods = { [Name in CommandName]: (...given: never[]) => Promise<Reply<Name>> };

/**
 * A session: its commands, its messages and its media. A lost connection is taken up again
 * behind the scenes; commands given meanwhile wait for it.
 */
export class SanaStreamingModel implements CommandMethods {
  readonly #environment: Environment;
  readonly #events = new Emitter<Events>();
  readonly #pending = new PendingCommands();
  readonly #waiting = new Set<(error: SanaError) => void>();
  readonly #ids: string;
  #count = 0;
  #status: Status = "disconnected";
  #life: Life | null = null;
  #state: State | null = null;
  #queue: QueuePlace | null = null;
  #revision: number | null = null;
  #stream: MediaStream | null = null;
  #track: MediaStreamTrack | null = null;
  #videoPaused = false;
  #service: ViewerStats | null = null;
  #commandUs = 0;
  #underruns = 0;
  #look: Look | null = null;

  /** @param environment Where it runs; the browser by default. */
  constructor(environment: Environment = browser()) {
    this.#environment = environment;
    this.#ids = environment.newId();
  }

  /** Where it stands. */
  get status(): Status {
    return this.#status;
  }

  /** Latest snapshot of the session; null until it is ready. */
  get state(): State | null {
    return this.#state;
  }

  /** Place in the queue for a GPU; null while not queued. */
  get queue(): QueuePlace | null {
    return this.#queue;
  }

  /** Id of the session; null while there is none. */
  get sessionId(): string | null {
    return this.#life?.session?.id ?? null;
  }

  /** Highest revision seen. */
  get revision(): number {
    return this.#revision ?? 0;
  }

  /** The edited video; null before there is one. Another one after a reconnect: see `stream`. */
  get videoTrack(): MediaStreamTrack | null {
    return this.#track;
  }

  /** The edited video as a stream that stays the same over reconnects, for `video.srcObject`. */
  get stream(): MediaStream {
    this.#stream ??= this.#environment.makeStream();
    return this.#stream;
  }

  /** The camera that is published; null without one. */
  get cameraTrack(): MediaStreamTrack | null {
    return this.#life?.camera?.track ?? null;
  }

  /** Calls back whenever something happens; returns what stops that. */
  on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void {
    return this.#events.on(name, listener);
  }

  /** Calls back with every track of the edited video, the present one included; returns what stops that. */
  onTrack(listener: (track: MediaStreamTrack) => void): () => void {
    if (this.#track !== null) listener(this.#track);
    return this.on("trackReceived", listener);
  }

  // -- connecting

  /**
   * Connects; returns once commands are taken and the first snapshot is there. While every GPU is
   * taken it waits in the queue: see `queue`.
   *
   * @throws {RequestError} The service refuses.
   * @throws {ConnectionLostError} It cannot be reached.
   * @throws {SessionEndedError} The session has ended.
   */
  async connect(options: ConnectOptions = {}): Promise<void> {
    if (this.#life !== null) throw new SanaError("already connected", "already_connected", "Call disconnect first.");
    options.signal?.throwIfAborted();
    const abort = new AbortController();
    const life: Life = (this.#life = { abort, session: null, connection: null, camera: null });
    const aborted = () => void this.disconnect();
    options.signal?.addEventListener("abort", aborted, { once: true });
    try {
      await this.#connect(life, options);
    } catch (error) {
      if (this.#life === life) await this.disconnect();
      options.signal?.throwIfAborted();
      throw error;
    } finally {
      options.signal?.removeEventListener("abort", aborted);
    }
  }

  /** Disconnects. Ends the session where `connect` made it, unless it is to be kept. */
  async disconnect({ keepSession = false }: { keepSession?: boolean } = {}): Promise<void> {
    const session = this.#life?.session;
    this.#over(new NotConnectedError());
    if (session?.owned && !keepSession) await session.api.close(session.id, session.local);
  }

  async #connect(life: Life, options: ConnectOptions): Promise<void> {
    const [environment, { signal }] = [this.#environment, life.abort];
    this.#set("connecting");
    const session = (life.session = await begin(environment, options, signal));
    signal.throwIfAborted();
    this.#set("waiting");
    const tracks = await placed(environment, session, (place) => this.#queued(place), signal);
    const policy = { ...RECONNECT, ...options.reconnect };
    const connection = new Connection(environment, session, tracks, policy, this.#listener(), signal);
    life.connection = connection;
    life.camera = new Camera(environment, connection, signal);
    await connection.open();
    await this.waitFor(() => true);
  }

  // -- commands: each resolves with its acknowledgement, or rejects with CommandRejected

  /** Chooses the source of video: `live` or `file`. */
  setMode(mode: Exclude<Mode, "unspecified">): Promise<Reply<"setMode">> {
    return this.#command("setMode", { mode });
  }

  /** Stages an uploaded clip; resolves once it was looked at. */
  setVideo(video: FileRef): Promise<Reply<"setVideo">> {
    return this.#command("setVideo", { video });
  }

  /**
   * Sets or changes the prompt; it takes effect at the next chunk. With `transitionChunks`, 0 to
   * 16, the prompt before becomes this one over so many chunks of a run, where the model can.
   */
  setPrompt(prompt: string, { transitionChunks }: { transitionChunks?: number } = {}): Promise<Reply<"setPrompt">> {
    return this.#command("setPrompt", transitionChunks === undefined ? { prompt } : { prompt, transitionChunks });
  }

  /** Sets the noise seed of the next start, 0 to 2^53-1. */
  setSeed(seed: number): Promise<Reply<"setSeed">> {
    return this.#command("setSeed", { seed });
  }

  /**
   * Begins a run. Needs a prompt, and a source for the present mode. Resolves when it is
   * accepted; the first picture follows `generationStarted`. A wait for a camera or a GPU that
   * was in vain is told by `commandError`.
   */
  start(): Promise<Reply<"start">> {
    return this.#command("start", {});
  }

  /** Halts after the chunk under way. */
  pause(): Promise<Reply<"pause">> {
    return this.#command("pause", {});
  }

  /** Goes on after a pause. */
  resume(): Promise<Reply<"resume">> {
    return this.#command("resume", {});
  }

  /** Aborts the run and drops clip, prompt and progress; keeps mode and seed. */
  reset(): Promise<Reply<"reset">> {
    return this.#command("reset", {});
  }

  // -- the session

  /**
   * Waits until a snapshot satisfies a condition, and returns it.
   *
   * @throws {TimedOutError} None came in time.
   * @throws {SanaError} The session ended, or the connection.
   */
  waitFor(condition: (state: State) => unknown, { timeoutMs }: { timeoutMs?: number } = {}): Promise<State> {
    return new Promise((resolve, reject) => {
      const undo: (() => void)[] = [];
      const settle = (how: () => void) => {
        for (const each of undo) each();
        how();
      };
      const look = (state: State | null) => {
        if (state !== null && condition(state)) settle(() => resolve(state));
      };
      const fail = (error: SanaError) => settle(() => reject(error));
      if (this.#life === null) return fail(new NotConnectedError());
      this.#waiting.add(fail);
      undo.push(() => this.#waiting.delete(fail), this.on("stateChanged", look));
      if (timeoutMs !== undefined) {
        const late = new TimedOutError("the session did not come to this state in time");
        undo.push(this.#environment.after(timeoutMs, () => fail(late)));
      }
      look(this.#state);
    });
  }

  /** Uploads a clip; returns the reference for `setVideo`. Goes on after interruptions. */
  async uploadFile(file: File | Blob, options: UploadOptions = {}): Promise<FileRef> {
    const { api, id } = this.#session;
    const name = options.name ?? ("name" in file && file.name ? file.name : "upload");
    const mimeType = file.type || "video/mp4";
    const { onProgress = () => undefined, signal } = options;
    const uploadId = await api.upload(id, file, name, mimeType, onProgress, signal);
    return { uploadId, name, mimeType, size: file.size };
  }

  /**
   * Copies the session as it is now: the same shot, to be edited differently. Returns the ids of
   * the copies; connect a model to each, with `owned`.
   */
  async fork(copies: number): Promise<string[]> {
    const { api, id } = this.#session;
    return (await api.fork(id, copies, this.#nextId())).map((made) => made.session_id);
  }

  // -- media

  /**
   * Publishes a camera, or anything else that is a video track.
   *
   * @throws {PublisherTakenError} Another connection publishes.
   */
  async publishCamera(source: MediaStreamTrack | MediaStream, options: CameraOptions = {}): Promise<void> {
    const track = "getVideoTracks" in source ? source.getVideoTracks()[0] : source;
    if (track === undefined) throw new SanaError("the stream has no video", "no_video", "Ask getUserMedia for video.");
    const camera = this.#life?.camera;
    if (!camera) throw new NotConnectedError();
    await camera.publish(track, options);
  }

  /** Publishes no more. */
  async unpublish(): Promise<void> {
    await this.#life?.camera?.unpublish();
  }

  /** Stops the edited video for this client alone; the session goes on. */
  pauseVideo(): void {
    this.#videoPaused = true;
    this.#life?.connection?.say({ type: "pause_track", track: MAIN_VIDEO });
  }

  /** Starts it again. */
  resumeVideo(): void {
    this.#videoPaused = false;
    this.#life?.connection?.say({ type: "resume_track", track: MAIN_VIDEO });
  }

  /** Shows the edited video in an element; returns what takes it away again. */
  attach(video: HTMLVideoElement): () => void {
    video.srcObject = this.stream;
    video.playsInline = true;
    video.muted = true;
    const stop = this.onTrack(() => void video.play().catch(() => undefined));
    return () => {
      stop();
      video.srcObject = null;
    };
  }

  /** Tells how good the connection is and what limits it. Rates are those since the last call. */
  async stats(): Promise<ConnectionStats> {
    const connection = this.#life?.connection;
    const reports = await connection?.transport?.peer.getStats().catch(() => null);
    const look: Look = {
      at: this.#environment.now(),
      reports: (reports ?? new Map()) as ReadonlyMap<string, Report>,
      underruns: this.#underruns,
    };
    const shown = figures(look, this.#look, {
      connected: this.#status === "ready",
      state: this.#state,
      service: this.#service,
      commandUs: this.#commandUs,
      pongMs: connection?.pongMs ?? null,
      publishing: this.cameraTrack !== null,
    });
    this.#look = look;
    return shown;
  }

  // -- what happens

  #listener() {
    return {
      resumeAfter: () => this.#revision,
      onHeard: (heard: Heard) => this.#heard(heard),
      onStats: (text: string) => this.#told(decodeStats(text)),
      onOpen: (transport: Transport, again: boolean) => this.#opened(transport, again),
      onLost: () => {
        this.#pending.lost();
        this.#set("reconnecting");
      },
      onOver: (error: SanaError) => {
        const ended = error instanceof SessionEndedError;
        this.#over(error);
        if (ended) this.#events.emit("ended", error.reason);
        else this.#events.emit("error", error);
      },
    };
  }

  #opened(transport: Transport, again: boolean): void {
    this.#look = null;
    const track = transport.transceivers.get(MAIN_VIDEO)?.receiver.track;
    if (track !== undefined) {
      for (const old of this.stream.getTracks()) this.stream.removeTrack(old);
      this.stream.addTrack(track);
      this.#track = track;
    }
    for (const pending of this.#pending.all()) this.#send(pending);
    if (this.#videoPaused) transport.say({ type: "pause_track", track: MAIN_VIDEO });
    this.#set("ready");
    if (track !== undefined) this.#events.emit("trackReceived", track);
    if (again) this.#life?.camera?.reopened().catch((error: unknown) => this.#failed(error));
  }

  #heard(heard: Heard): void {
    switch (heard.type) {
      case "attached":
        if (heard.gap && this.#revision !== null) this.#missed(this.#revision);
        return;
      case "message":
        return this.#message(heard.message);
      case "ack":
        return this.#pending.ack(heard.id, heard.accepted);
      case "queue":
        return this.#queued(heard.position > 0 ? heard : null);
      case "published":
      case "refused":
        return this.#life?.camera?.heard(heard);
      case "ended":
        this.#over(new SessionEndedError(heard.reason));
        return this.#events.emit("ended", heard.reason);
    }
  }

  #message(message: Message): void {
    const known = message.revision > 0 && message.revision <= this.revision;
    // A snapshot is repeated to who connects.
    if (known && message.name !== "state") return;
    if (message.revision > this.revision) this.#revision = message.revision;
    if (message.name === "state") {
      this.#state = message.data;
      this.#queued(message.data.queuePosition > 0 ? { position: message.data.queuePosition, etaSeconds: null } : null);
      this.#events.emit("stateChanged", message.data);
    } else {
      this.#events.emit(message.name, message.data as never);
    }
    this.#events.emit("message", message);
    this.#pending.message(message);
  }

  #missed(revision: number): void {
    this.#revision = null;
    this.#pending.gap();
    this.#events.emit("gap", revision);
  }

  #told(told: ViewerStats | null): void {
    if (told === null) return;
    const before = this.#service?.run === told.run ? this.#service.underruns : 0;
    this.#underruns += Math.max(0, told.underruns - before);
    this.#commandUs = told.commandToEmitUs || this.#commandUs;
    this.#service = told;
    this.#events.emit("viewerStats", told);
  }

  #queued(place: QueuePlace | null): void {
    const [position, etaSeconds] = [place?.position, place?.etaSeconds];
    if (this.#queue?.position === position && this.#queue?.etaSeconds === etaSeconds) return;
    this.#queue = place && { position: place.position, etaSeconds: place.etaSeconds };
    this.#events.emit("queueChanged", this.#queue);
  }

  #failed(error: unknown): void {
    if (error instanceof SanaError && this.#life !== null) this.#events.emit("error", error);
  }

  #command<Name extends CommandName>(name: Name, given: Commands[Name]): Promise<Reply<Name>> {
    if (this.#life === null) return Promise.reject(new NotConnectedError());
    if (this.#pending.size >= MOST) {
      const refusal = { status: 0, code: "limit", retryAfter: 1, servedModels: [] };
      return Promise.reject(new LimitError("too many commands wait for their answer", refusal));
    }
    const [pending, answered] = this.#pending.add(this.#nextId(), name, given);
    if (this.#status === "ready") this.#send(pending);
    return answered;
  }

  #send(pending: Pending): void {
    const { id, name } = pending;
    const late = () => this.#pending.fail(id, new TimedOutError(`${name} was not answered in time`));
    pending.cancel ??= this.#environment.after(ANSWER_MS, late);
    const said = { type: "command", id, name: COMMANDS[name], arguments: snaked(pending.arguments) } as const;
    this.#life?.connection?.say(said);
  }

  #over(error: SanaError): void {
    this.#life?.abort.abort(error);
    this.#life = this.#revision = this.#state = this.#service = this.#look = null;
    this.#commandUs = 0;
    this.#queued(null);
    this.#pending.failAll(error);
    for (const fail of [...this.#waiting]) fail(error);
    this.#set("disconnected");
  }

  get #session(): Session {
    const session = this.#life?.session;
    if (!session) throw new NotConnectedError();
    return session;
  }

  #set(status: Status): void {
    if (this.#status === status) return;
    this.#status = status;
    this.#events.emit("statusChanged", status);
  }

  #nextId(): string {
    this.#count += 1;
    return `${this.#ids}-${this.#count}`;
  }
}
