/** The camera of this client: claimed, sent, and claimed again after a reconnect. */
import { within, type Connection } from "./connection.js";
import { NotConnectedError, PublisherTakenError, SanaError } from "./errors.js";
import { pause, type Environment } from "./ports.js";
import { CAMERA } from "./transport.js";
import type { Heard } from "./wire.js";

/** How long the answer to a claim may take. */
const ANSWER_MS = 10_000;
/** How long a connection that was lost may hold the camera. */
const HELD_MS = 30_000;
const HELD_PAUSE_MS = 1_000;

/** Options of `publishCamera`. */
export interface CameraOptions {
  /** Most bits a second that the camera is sent with. */
  readonly maxBitrate?: number;
}

interface Claim {
  resolve(): void;
  reject(error: SanaError): void;
}

/** See above. Ends with the signal that it was made with. */
export class Camera {
  readonly #environment: Environment;
  readonly #connection: Connection;
  readonly #signal: AbortSignal;
  readonly #claims = new Map<string, Claim>();
  #published: { readonly track: MediaStreamTrack; readonly options: CameraOptions } | null = null;
  #count = 0;

  constructor(environment: Environment, connection: Connection, signal: AbortSignal) {
    this.#environment = environment;
    this.#connection = connection;
    this.#signal = signal;
  }

  /** What is published; null: nothing. */
  get track(): MediaStreamTrack | null {
    return this.#published?.track ?? null;
  }

  /** Publishes a track, or another one in its place. */
  async publish(track: MediaStreamTrack, options: CameraOptions): Promise<void> {
    if (this.#published === null) await this.#claim();
    this.#published = { track, options };
    await this.#send();
  }

  async unpublish(): Promise<void> {
    if (this.#published === null) return;
    this.#published = null;
    await this.#connection.transport?.transceivers.get(CAMERA)?.sender.replaceTrack(null);
    this.#connection.say({ type: "unpublish", track: CAMERA });
  }

  /** There is another transport: publishes there what was published. */
  async reopened(): Promise<void> {
    if (this.#published === null) return;
    await this.#send();
    const deadline = this.#environment.now() + HELD_MS;
    while (this.#published !== null) {
      try {
        return await this.#claim();
      } catch (error) {
        const held = error instanceof PublisherTakenError && this.#environment.now() < deadline;
        if (!held) throw error;
      }
      await pause(this.#environment, HELD_PAUSE_MS, this.#signal);
    }
  }

  /** Takes the answer to a claim. */
  heard(heard: Extract<Heard, { type: "published" | "refused" }>): void {
    const claim = this.#claims.get(heard.id);
    if (heard.type === "published") claim?.resolve();
    else claim?.reject(refusal(heard.code, heard.reason));
  }

  async #send(): Promise<void> {
    const sender = this.#connection.transport?.transceivers.get(CAMERA)?.sender;
    if (sender === undefined || this.#published === null) return;
    const { track, options } = this.#published;
    await sender.replaceTrack(track);
    const parameters = sender.getParameters?.();
    const encoding = parameters?.encodings?.[0];
    if (options.maxBitrate === undefined || encoding === undefined || parameters === undefined) return;
    encoding.maxBitrate = options.maxBitrate;
    await sender.setParameters?.(parameters);
  }

  #claim(): Promise<void> {
    if (this.#connection.transport === null)
      return Promise.reject(new NotConnectedError("the connection is lost just now: wait for the status ready"));
    this.#count += 1;
    const id = `camera-${this.#count}`;
    const answered = new Promise<void>((resolve, reject) => this.#claims.set(id, { resolve, reject }));
    this.#connection.say({ type: "publish", id, track: CAMERA });
    const done = within(this.#environment, ANSWER_MS, answered, this.#signal);
    return done.finally(() => this.#claims.delete(id));
  }
}

function refusal(code: string, reason: string): SanaError {
  if (code === "publisher_slot_taken") return new PublisherTakenError(reason);
  return new SanaError(reason, code, "This session takes no camera.");
}
