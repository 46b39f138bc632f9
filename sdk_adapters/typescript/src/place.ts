/** From options to a session that has its place. */
import { Api, type Credentials, type SessionShown, type TrackShown } from "./api.js";
import { SessionEndedError } from "./errors.js";
import type { ReconnectPolicy } from "./backoff.js";
import { pause, type Environment } from "./ports.js";

/** Between two looks at a queue that has not moved. */
const PAUSE_MS = 1_000;

/** Place in the queue for a GPU. */
export interface QueuePlace {
  /** From 1. */
  readonly position: number;
  /** Estimate of the wait in seconds; null: unknown. */
  readonly etaSeconds: number | null;
}

/** How to connect. */
export interface ConnectOptions extends Credentials {
  /** Where the service is, for example `https://gateway.example.org`; the page's own origin by default. */
  readonly apiUrl?: string;
  /** Name of the model. */
  readonly model?: string;
  /** A session to join; without it one is made, which `disconnect` ends. */
  readonly sessionId?: string;
  /** Whether `disconnect` ends the session; by default only where `connect` made it. */
  readonly owned?: boolean;
  /** Uses the one session of a service on this machine, without a token. */
  readonly local?: boolean;
  /** How long and how often to take up a lost connection. */
  readonly reconnect?: Partial<ReconnectPolicy>;
  /** Gives up connecting. */
  readonly signal?: AbortSignal;
}

/** A session of a service. */
export interface Session {
  readonly api: Api;
  readonly id: string;
  /** Whether it is ours to end. */
  readonly owned: boolean;
  readonly local: boolean;
}

/** Makes the session, or joins the one that is named. It may still have to wait for its place. */
export async function begin(environment: Environment, options: ConnectOptions, signal: AbortSignal): Promise<Session> {
  const { local = false, model = "sana-streaming", sessionId } = options;
  const api = new Api(environment, options.apiUrl ?? (local ? "http://localhost:8080" : ""), options);
  const owned = options.owned ?? sessionId === undefined;
  if (sessionId !== undefined) return { api, id: sessionId, owned, local };
  const made = local ? await api.startLocal(signal) : await api.create(model, signal);
  return { api, id: made.session_id, owned, local };
}

/** Waits until a session has its place; returns its tracks. */
export async function placed(
  environment: Environment,
  { api, id }: Session,
  onQueue: (place: QueuePlace | null) => void,
  signal: AbortSignal,
): Promise<readonly TrackShown[]> {
  let seen = 0;
  for (;;) {
    const asked = environment.now();
    const shown: SessionShown = await api.place(id, seen, signal);
    if (shown.state === "CLOSED") throw new SessionEndedError("it ended while it waited for its place");
    const { position = 0, eta_seconds: etaSeconds = null } = shown.queue ?? {};
    onQueue(position > 0 ? { position, etaSeconds } : null);
    if (shown.capabilities !== undefined) return shown.capabilities.tracks;
    const soon = position === seen && environment.now() - asked < PAUSE_MS;
    if (soon) await pause(environment, PAUSE_MS, signal);
    seen = position;
  }
}
