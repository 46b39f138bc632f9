/**
 * What the operators' routes tell, read from their JSON. Pure.
 *
 * The service writes protocol messages as JSON (`pool.proto`, `event.proto`, `usage.proto`) with the names of
 * their fields, leaves out what is zero, and writes 64-bit numbers as text. Nothing here trusts that a field is there.
 */

/** Where the lease of a session stands; see `LeaseState` of `pool.proto`. */
export type LeaseState =
  | "queued"
  | "assigned"
  | "active"
  | "detached"
  | "parked"
  | "moving"
  | "draining"
  | "lost"
  | "unknown";

/** A session as the scheduler sees it. Times are milliseconds since 1970 by this machine's clock. */
export interface Session {
  readonly id: string;
  readonly tenant: string;
  readonly model: string;
  readonly state: LeaseState;
  /** The actor it is on; empty: none. */
  readonly actor: string;
  /** While it moves: where to. */
  readonly target: string;
  readonly computing: boolean;
  /** When it was created. */
  readonly createdAt: number;
  /** Share of the model's frame rate that it runs at. */
  readonly rate: number;
  /** Steps for each window while it is degraded; 0: all. */
  readonly steps: number;
  /** Place in the queue from 1; 0: it does not wait, or that is not known. */
  readonly position: number;
  /** Estimate of the wait in milliseconds; null: there is none. */
  readonly waitMs: number | null;
  /** Priority of its tenant; a higher one goes first. */
  readonly priority: number;
}

/** What a process takes from its machine. */
export interface ProcessFigures {
  readonly residentBytes: number;
  readonly openDescriptors: number;
  readonly cpuS: number;
  readonly loopLagS: number;
}

/** An actor: one loaded model on one GPU, with its three ledgers. */
export interface Actor {
  readonly id: string;
  readonly model: string;
  readonly host: string;
  /** Its GPU as `CUDA_VISIBLE_DEVICES` of its process names it; empty: it has none to itself. */
  readonly gpus: string;
  readonly address: string;
  readonly healthy: boolean;
  readonly draining: boolean;
  /** Sessions it has memory for. */
  readonly slots: number;
  /** Memory for sessions in bytes; 0: only the slots count. */
  readonly residentBytes: number;
  readonly bookedBytes: number;
  /** Chunk-milliseconds per second that are booked, and that may be. */
  readonly bookedMs: number;
  readonly ceilingMs: number;
  /** Encode-milliseconds per second that are booked here, and that may be on the whole host; 0: not counted. */
  readonly encodeMs: number;
  readonly encodeCeilingMs: number;
  /** Compute of a window over its play-out time. */
  readonly realTimeFactor: number;
  readonly process: ProcessFigures | null;
}

/** What an autoscaler goes by. */
export interface Signals {
  readonly queueAgeS: number;
  readonly queued: number;
  readonly utilisation: number;
  readonly missRate: number;
  readonly actorsWanted: number;
  readonly batchFill: number;
  /** Chunks, and late ones of them, since the scheduler began. */
  readonly chunks: number;
  readonly lateChunks: number;
}

/** The pool at one moment. */
export interface Snapshot {
  /** Sequence of the last event that is part of it. */
  readonly sequence: number;
  readonly actors: readonly Actor[];
  /** Those that wait first, in their order. */
  readonly sessions: readonly Session[];
  readonly signals: Signals;
}

/** One event of the journal. */
export interface PoolEvent {
  readonly sequence: number;
  /** Milliseconds since 1970 by the scheduler's clock. */
  readonly at: number;
  /** What happened, for example `session_placed`. */
  readonly kind: string;
  readonly session: string;
  readonly tenant: string;
  readonly model: string;
  readonly actor: string;
  readonly fromActor: string;
  readonly gateway: string;
  readonly reason: string;
  readonly traceId: string;
  readonly rate: number;
  readonly steps: number;
}

/** A chunk that an actor made. Times are by the scheduler's clock. */
export interface Chunk {
  readonly session: string;
  readonly run: number;
  readonly chunk: number;
  /** When the model began with its window, and when that was finished. */
  readonly beganAt: number;
  readonly finishedAt: number;
  /** Milliseconds that its window waited for its turn before that. */
  readonly waitMs: number;
  /** Windows of that call of the model. */
  readonly batch: number;
  /** Milliseconds left until its first frame was due; below 0: late; null: nothing was due. */
  readonly slackMs: number | null;
  readonly late: boolean;
  /** Its share of the compute of that call. */
  readonly computeMs: number;
}

/** A word of the journal. */
export type Word =
  | { readonly is: "started"; readonly sequence: number; readonly at: number | null }
  | { readonly is: "gap"; readonly after: number; readonly next: number }
  | {
      readonly is: "chunks";
      readonly actor: string;
      readonly chunks: readonly Chunk[];
      readonly omitted: number;
      /** When the scheduler heard of them. */
      readonly at: number | null;
    }
  | { readonly is: "event"; readonly event: PoolEvent };

/** How far a drain has come. */
export interface DrainProgress {
  readonly remaining: number;
  readonly withoutRoom: number;
  readonly cancelled: boolean;
  readonly lost: boolean;
}

/** What a tenant or session has used; see `UsageRow` of `usage.proto`. */
export interface UsageRow {
  readonly tenant: string;
  readonly session: string;
  readonly model: string;
  readonly chunks: number;
  readonly frames: number;
  readonly streamedS: number;
  readonly computeS: number;
  readonly spentS: number;
  readonly bytesOut: number;
  readonly bytesIn: number;
  readonly uploadedBytes: number;
  readonly parkedS: number;
}

/** A page of usage. */
export interface UsagePage {
  readonly rows: readonly UsageRow[];
  readonly next: string;
  /** The hours that count; null: from the beginning, up to now. */
  readonly since: number | null;
  readonly until: number | null;
}

type Json = Readonly<Record<string, unknown>>;

const LEASE = "LEASE_STATE_";
const EVENT = "EVENT_KIND_";
const LEASE_STATES = new Set<string>(["queued", "assigned", "active", "detached", "parked", "moving", "draining", "lost"]);

/** Reads the answer of `GET /operator/pool`. `now` is this machine's clock. */
export function snapshotOf(told: unknown, now: number): Snapshot {
  const pool = object(told);
  const signals = object(pool["signals"]);
  return {
    sequence: number(pool["event_sequence"]),
    actors: list(pool["actors"]).map(actorOf),
    sessions: list(pool["sessions"]).map((each) => sessionOf(each, now)),
    signals: {
      queueAgeS: number(signals["queue_age_s"]),
      queued: number(signals["queued"]),
      utilisation: number(signals["predicted_utilisation"]),
      missRate: number(signals["miss_rate"]),
      actorsWanted: number(signals["actors_wanted"]),
      batchFill: number(signals["batch_fill"]),
      chunks: number(signals["chunks"]),
      lateChunks: number(signals["late_chunks"]),
    },
  };
}

/** Reads a `PooledSession`. */
export function sessionOf(told: unknown, now: number): Session {
  const session = object(told);
  const state = enumerated(session["state"], LEASE);
  const rate = number(session["rate_share"]);
  return {
    id: text(session["session_id"]),
    tenant: text(session["tenant"]),
    model: text(session["model"]),
    state: LEASE_STATES.has(state) ? (state as LeaseState) : "unknown",
    actor: text(session["actor_id"]),
    target: "",
    computing: session["computing"] === true,
    createdAt: now - (durationMs(session["age"]) ?? 0),
    rate: rate > 0 ? rate : 1,
    steps: number(session["steps"]),
    position: number(session["queue_position"]),
    waitMs: durationMs(session["estimated_wait"]),
    priority: number(session["priority"]),
  };
}

/** Reads an `Actor`. */
export function actorOf(told: unknown): Actor {
  const actor = object(told);
  const process = actor["process"] === undefined ? null : object(actor["process"]);
  return {
    id: text(actor["actor_id"]),
    model: text(actor["model"]),
    host: text(actor["host"]),
    gpus: text(actor["gpus"]),
    address: text(actor["address"]),
    healthy: actor["healthy"] === true,
    draining: actor["draining"] === true,
    slots: number(actor["resident_slots"]),
    residentBytes: number(actor["resident_bytes"]),
    bookedBytes: number(actor["booked_bytes"]),
    bookedMs: number(actor["booked_ms_per_s"]),
    ceilingMs: number(actor["ceiling_ms_per_s"]),
    encodeMs: number(actor["booked_encode_ms_per_s"]),
    encodeCeilingMs: number(actor["encode_ceiling_ms_per_s"]),
    realTimeFactor: number(actor["real_time_factor"]),
    process: process && {
      residentBytes: number(process["resident_bytes"]),
      openDescriptors: number(process["open_descriptors"]),
      cpuS: number(process["cpu_s"]),
      loopLagS: number(process["loop_lag_s"]),
    },
  };
}

/** Reads an `Event`. */
export function eventOf(told: unknown): PoolEvent {
  const event = object(told);
  return {
    sequence: number(event["sequence"]),
    at: timeMs(event["time"]) ?? 0,
    kind: enumerated(event["kind"], EVENT),
    session: text(event["session_id"]),
    tenant: text(event["tenant"]),
    model: text(event["model"]),
    actor: text(event["actor_id"]),
    fromActor: text(event["from_actor_id"]),
    gateway: text(event["gateway_id"]),
    reason: text(event["reason"]),
    traceId: text(event["trace_id"]),
    rate: number(event["rate_share"]),
    steps: number(event["steps"]),
  };
}

/**
 * Reads a server-sent event of `GET /events`.
 *
 * @param name Its `event`: a kind of event, `gap`, `chunks` or `started`.
 */
export function wordOf(name: string, told: unknown): Word {
  const word = object(told);
  switch (name) {
    case "started":
      return { is: "started", sequence: number(word["sequence"]), at: timeMs(word["time"]) };
    case "gap":
      return { is: "gap", after: number(word["after_sequence"]), next: number(word["next_sequence"]) };
    case "chunks":
      return chunksOf(word);
    default:
      return { is: "event", event: eventOf(word) };
  }
}

function chunksOf(word: Json): Word {
  const [byActor, heard] = [timeMs(word["actor_time"]), timeMs(word["heard_time"])];
  const ahead = byActor === null || heard === null ? 0 : heard - byActor;
  return {
    is: "chunks",
    actor: text(word["actor_id"]),
    chunks: list(word["chunks"]).map((each) => chunkOf(each, ahead)),
    omitted: number(word["omitted"]),
    at: heard,
  };
}

/** Reads a `ChunkEvent`; the scheduler's clock is `ahead` milliseconds ahead of the actor's. */
function chunkOf(told: unknown, ahead: number): Chunk {
  const chunk = object(told);
  const slack = number(chunk["slack_us"]);
  const finished = (timeMs(chunk["finish_time"]) ?? 0) + ahead;
  const [computeMs, began] = [number(chunk["compute_us"]) / 1000, timeMs(chunk["begin_time"])];
  return {
    session: text(chunk["session_id"]),
    run: number(chunk["run"]),
    chunk: number(chunk["chunk"]),
    beganAt: began === null ? finished - computeMs : began + ahead,
    finishedAt: finished,
    waitMs: number(chunk["wait_us"]) / 1000,
    batch: Math.max(1, number(chunk["batch"])),
    slackMs: slack === 0 ? null : slack / 1000,
    late: chunk["late"] === true,
    computeMs,
  };
}

/** Reads a `DrainActorResponse`. */
export function drainOf(told: unknown): DrainProgress {
  const progress = object(told);
  return {
    remaining: number(progress["remaining"]),
    withoutRoom: number(progress["without_room"]),
    cancelled: progress["cancelled"] === true,
    lost: progress["lost"] === true,
  };
}

/** Reads a `ReadUsageResponse`. */
export function usageOf(told: unknown): UsagePage {
  const page = object(told);
  return {
    rows: list(page["rows"]).map(usageRowOf),
    next: text(page["next_page_token"]),
    since: timeMs(page["since"]),
    until: timeMs(page["until"]),
  };
}

function usageRowOf(told: unknown): UsageRow {
  const row = object(told);
  return {
    tenant: text(row["tenant"]),
    session: text(row["session_id"]),
    model: text(row["model"]),
    chunks: number(row["chunks"]),
    frames: number(row["frames"]),
    streamedS: number(row["streamed_us"]) / 1e6,
    computeS: number(row["compute_us"]) / 1e6,
    spentS: number(row["spent_us"]) / 1e6,
    bytesOut: number(row["bytes_out"]),
    bytesIn: number(row["bytes_in"]),
    uploadedBytes: number(row["uploaded_bytes"]),
    parkedS: number(row["parked_us"]) / 1e6,
  };
}

/** Returns an object, empty where it is none. */
export function object(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

/** Returns a list, empty where it is none. */
export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Returns a text, empty where it is none. */
export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Returns a number, also one that was written as text; 0 where it is none. */
export function number(value: unknown): number {
  const read = typeof value === "string" && value !== "" ? Number(value) : value;
  return typeof read === "number" && Number.isFinite(read) ? read : 0;
}

/** Returns the milliseconds of a `Duration` ("1.5s") or of a number of seconds; null where it is neither. */
export function durationMs(value: unknown): number | null {
  if (typeof value === "number") return Number.isFinite(value) ? value * 1000 : null;
  const seconds = typeof value === "string" ? /^(-?\d+(?:\.\d+)?)s$/.exec(value)?.[1] : undefined;
  return seconds === undefined ? null : Number(seconds) * 1000;
}

/** Returns the milliseconds since 1970 of a `Timestamp`, with fractions; null where it is none. */
export function timeMs(value: unknown): number | null {
  if (typeof value !== "string") return null;
  const parsed = Date.parse(value);
  if (Number.isNaN(parsed)) return null;
  const fraction = /\.(\d+)/.exec(value)?.[1];
  return Math.floor(parsed / 1000) * 1000 + (fraction === undefined ? 0 : Number(`0.${fraction}`) * 1000);
}

function enumerated(value: unknown, prefix: string): string {
  const name = text(value);
  return name.startsWith(prefix) ? name.slice(prefix.length).toLowerCase() : name.toLowerCase();
}
