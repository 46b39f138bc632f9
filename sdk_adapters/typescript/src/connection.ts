/**
 * The connection to a session: opened, watched, and taken up again when it is lost.
 *
 * It knows tracks and channels, and nothing of commands or state: what comes goes to its listener.
 */
import type { TrackShown } from "./api.js";
import { backoff, type ReconnectPolicy } from "./backoff.js";
import { ConnectionLostError, SanaError, SessionEndedError, TimedOutError, UnknownSessionError } from "./errors.js";
import type { Session } from "./place.js";
import { pause, type Environment } from "./ports.js";
import { openTransport, Transport } from "./transport.js";
import { decode, type Heard, type Said } from "./wire.js";

/** How often a sign of life is given. */
const PING_MS = 5_000;
/** Without an answer to it for so long the connection is lost. */
const SILENCE_MS = 15_000;
/** How long the greeting of the service may take. */
const GREETING_MS = 30_000;

/** Who hears what happens. */
export interface ConnectionListener {
  /** Revision after which what was missed is to be repeated; null: the state is enough. */
  resumeAfter(): number | null;
  onHeard(heard: Heard): void;
  onStats(text: string): void;
  /** A transport is open and greeted: the first, or another. */
  onOpen(transport: Transport, again: boolean): void;
  /** It was lost, and is being taken up again. */
  onLost(): void;
  /** It is lost for good. */
  onOver(error: SanaError): void;
}

/** See above. Ends with the signal that it was made with. */
export class Connection {
  readonly #environment: Environment;
  readonly #session: Session;
  readonly #tracks: readonly TrackShown[];
  readonly #policy: ReconnectPolicy;
  readonly #listener: ConnectionListener;
  readonly #signal: AbortSignal;
  #transport: Transport | null = null;
  #link: number | null = null;
  #greeted: () => void = () => undefined;
  #cancelPing: () => void = () => undefined;
  #pingedAt = 0;
  #heardAt = 0;
  #pings = 0;
  #pongMs: number | null = null;

  constructor(
    environment: Environment,
    session: Session,
    tracks: readonly TrackShown[],
    policy: ReconnectPolicy,
    listener: ConnectionListener,
    signal: AbortSignal,
  ) {
    this.#environment = environment;
    this.#session = session;
    this.#tracks = tracks;
    this.#policy = policy;
    this.#listener = listener;
    this.#signal = signal;
    signal.addEventListener("abort", () => this.#close(), { once: true });
  }

  /** The transport; null while there is none. */
  get transport(): Transport | null {
    return this.#transport;
  }

  /** Round trip over the data channel in milliseconds; null while unknown. */
  get pongMs(): number | null {
    return this.#pongMs;
  }

  /** Says something; it is lost while there is no transport. */
  say(said: Said): void {
    this.#transport?.say(said);
  }

  /** Opens a transport; returns once the service has greeted. */
  async open(again = false): Promise<void> {
    const { api, id: session } = this.#session;
    let gone = (_: string) => {};
    const greeted = new Promise<void>((resolve, reject) => {
      this.#greeted = resolve;
      gone = (reason) => reject(new ConnectionLostError(reason));
    });
    greeted.catch(() => undefined);
    const resumeAfter = this.#listener.resumeAfter();
    const wanted = { session, tracks: this.#tracks, link: this.#link, resumeAfter, signal: this.#signal };
    const transport = await openTransport(this.#environment, api, wanted, {
      onText: (text) => this.#heard(text),
      onStats: (text) => this.#listener.onStats(text),
      onLost: (reason) => gone(reason),
    });
    try {
      await within(this.#environment, GREETING_MS, greeted, this.#signal);
    } catch (error) {
      transport.close();
      throw error;
    }
    gone = (reason) => void this.#lost(reason);
    this.#transport = transport;
    this.#link = transport.link;
    this.#heardAt = this.#environment.now();
    this.#ping(transport);
    this.#listener.onOpen(transport, again);
  }

  #heard(text: string): void {
    this.#heardAt = this.#environment.now();
    const heard = decode(text);
    if (heard === null) return;
    if (heard.type === "pong") this.#pongMs = this.#heardAt - this.#pingedAt;
    else this.#listener.onHeard(heard);
    if (heard.type === "attached") this.#greeted();
  }

  #ping(transport: Transport): void {
    if (this.#transport !== transport) return;
    const now = (this.#pingedAt = this.#environment.now());
    if (now - this.#heardAt > SILENCE_MS) {
      transport.close();
      return void this.#lost("the service is silent");
    }
    this.#pings += 1;
    transport.say({ type: "ping", id: String(this.#pings) });
    this.#cancelPing = this.#environment.after(PING_MS, () => this.#ping(transport));
  }

  async #lost(reason: string): Promise<void> {
    if (this.#signal.aborted) return;
    this.#transport = null;
    this.#cancelPing();
    this.#listener.onLost();
    const error = await this.#reopened(reason);
    if (error !== null && !this.#signal.aborted) this.#listener.onOver(error);
  }

  /** Tries until a transport is open; returns why it cannot be. */
  async #reopened(reason: string): Promise<SanaError | null> {
    const deadline = this.#environment.now() + this.#policy.window;
    for (let attempt = 1; !this.#signal.aborted; attempt += 1) {
      let wait = 0;
      try {
        await this.open(true);
        return null;
      } catch (error) {
        const forgotten = error instanceof UnknownSessionError;
        // A connection that the service has forgotten is made anew; a session is not.
        if (forgotten && this.#link === null) return new SessionEndedError(error.message);
        if (error instanceof SessionEndedError) return error;
        if (forgotten) {
          this.#link = null;
          continue;
        }
        const asked = error instanceof SanaError ? error.retryAfter : null;
        wait = backoff(this.#policy, attempt, this.#environment.random(), asked);
      }
      if (this.#environment.now() + wait > deadline)
        return new ConnectionLostError(`${reason}, and the service could not be reached again`);
      await this.#soon(wait);
    }
    return null;
  }

  /** Waits some time, or until the network is there again. */
  async #soon(ms: number): Promise<void> {
    let stop = () => {};
    const online = new Promise<void>((resolve) => (stop = this.#environment.onOnline(resolve)));
    await Promise.race([pause(this.#environment, ms, this.#signal).catch(() => undefined), online]);
    stop();
  }

  #close(): void {
    this.#cancelPing();
    this.#transport?.close();
    this.#transport = null;
  }
}

/** Returns what a promise does, unless it takes too long or is not wanted any more. */
export function within<Value>(
  environment: Environment,
  ms: number,
  promise: Promise<Value>,
  signal: AbortSignal,
): Promise<Value> {
  return new Promise((resolve, reject) => {
    const late = () => reject(new TimedOutError("the service did not answer in time"));
    const cancel = environment.after(ms, late);
    const aborted = () => reject(signal.reason as Error);
    if (signal.aborted) aborted();
    signal.addEventListener("abort", aborted, { once: true });
    void promise.then(resolve, reject).finally(() => {
      cancel();
      signal.removeEventListener("abort", aborted);
    });
  });
}
