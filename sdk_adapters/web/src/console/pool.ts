/**
 * The pool: a snapshot, and the events after it. Pure but for its own state.
 *
 * Events tell where sessions are and whether they compute; what is booked, the clients' connections and the order
 * of the queue come with the next snapshot.
 */
import { phaseOf, PHASE_NAMES, type Phase } from "./phases";
import { Slots } from "./slots";
import type { Actor, LeaseState, PoolEvent, Session, Signals, Snapshot } from "./wire";

const NO_SIGNALS: Signals = {
  queueAgeS: 0,
  queued: 0,
  utilisation: 0,
  missRate: 0,
  actorsWanted: 0,
  batchFill: 0,
  chunks: 0,
  lateChunks: 0,
};
const WAITING: ReadonlySet<LeaseState> = new Set(["queued", "parked", "lost"]);
const OFF_ACTOR: ReadonlySet<LeaseState> = new Set(["queued", "parked", "lost"]);

/** Of a session that has its place. */
const OUT_OF_LINE = { position: 0, waitMs: null } as const;

type Apply = (session: Session, event: PoolEvent) => Partial<Session>;

/** What an event says of its session. One that is not here says nothing of where it stands. */
const SESSION_EVENTS: Readonly<Record<string, Apply>> = {
  session_queued: () => ({ state: "queued", actor: "", target: "", computing: false }),
  session_assigned: (_, event) => ({ ...OUT_OF_LINE, state: "assigned", actor: event.actor, target: "", computing: false }),
  session_placed: (session, event) => ({ ...placed(session, event), ...quality(event) }),
  session_restored: (session, event) => ({ ...placed(session, event), ...quality(event) }),
  session_moving: (_, event) => ({ state: "moving", actor: event.fromActor, target: event.actor }),
  session_moved: (_, event) => ({ state: "active", actor: event.actor, target: "", ...quality(event) }),
  session_stayed: (_, event) => ({ state: "active", actor: event.actor, target: "" }),
  session_awaits_room: () => ({ state: "draining" }),
  session_parked: () => ({ state: "parked", actor: "", target: "", computing: false }),
  session_lost: () => ({ state: "lost", actor: "", target: "", computing: false }),
  session_computing: (_, event) => ({ computing: true, ...quality(event) }),
  session_idle: () => ({ computing: false }),
  session_degraded: (_, event) => quality(event),
  session_full_quality: () => ({ rate: 1, steps: 0 }),
};

type ApplyToActor = (actor: Actor) => Partial<Actor> | null;

/** What an event says of its actor; null: it is gone. */
const ACTOR_EVENTS: Readonly<Record<string, ApplyToActor>> = {
  actor_enrolled: () => ({ healthy: true }),
  actor_draining: () => ({ draining: true }),
  actor_kept: () => ({ draining: false }),
  actor_lost: () => null,
  actor_retired: () => null,
  actor_repurposed: () => null,
};

/** The pool as far as it is known. */
export class Pool {
  #actors = new Map<string, Actor>();
  #sessions = new Map<string, Session>();
  readonly #slots = new Map<string, Slots>();
  readonly #touched = new Map<string, number>();
  #signals = NO_SIGNALS;
  #version = 0;

  /** Grows with each change. */
  get version(): number {
    return this.#version;
  }

  get signals(): Signals {
    return this.#signals;
  }

  get actors(): ReadonlyMap<string, Actor> {
    return this.#actors;
  }

  get sessions(): ReadonlyMap<string, Session> {
    return this.#sessions;
  }

  /** Returns the version at which the sessions on an actor changed last. */
  touched(actor: string): number {
    return this.#touched.get(actor) ?? 0;
  }

  /** Which session is at which place of an actor. A session keeps its place while it is there. */
  placesOf(actor: string): Slots {
    return this.#slots.get(actor) ?? EMPTY;
  }

  /** Takes the pool as it is at one moment. */
  replace(snapshot: Snapshot): void {
    const before = this.#sessions;
    this.#actors = new Map(snapshot.actors.map((actor) => [actor.id, actor]));
    this.#sessions = new Map(
      snapshot.sessions.map((session) => [session.id, kept(session, before.get(session.id))] as const),
    );
    this.#signals = snapshot.signals;
    this.#seat();
    this.#version += 1;
    this.#touched.clear();
    for (const actor of this.#actors.keys()) this.#touched.set(actor, this.#version);
  }

  /** Takes the actors, their ledgers and the signals as they are at one moment, and leaves the sessions. */
  refresh(snapshot: Snapshot): void {
    this.#actors = new Map(snapshot.actors.map((actor) => [actor.id, actor]));
    this.#signals = snapshot.signals;
    this.#version += 1;
  }

  /** Takes the queue as it is at one moment: positions and estimates of those that still wait. */
  line(waiting: readonly Session[]): void {
    for (const { id, position, waitMs, priority } of waiting) {
      const session = this.#sessions.get(id);
      if (session === undefined || !WAITING.has(session.state)) continue;
      this.#sessions.set(id, { ...session, position, waitMs, priority });
    }
    this.#version += 1;
  }

  /** Takes what happened after that. */
  apply(event: PoolEvent): void {
    this.#version += 1;
    if (event.session === "") this.#applyToActor(event);
    else this.#applyToSession(event);
  }

  /** Returns how many sessions do what. */
  counts(): Readonly<Record<Phase, number>> {
    const counts = Object.fromEntries(PHASE_NAMES.map((phase) => [phase, 0])) as Record<Phase, number>;
    for (const session of this.#sessions.values()) counts[phaseOf(session)] += 1;
    return counts;
  }

  #applyToActor(event: PoolEvent): void {
    if (event.kind === "scheduler_started") {
      // It knows nothing yet, and neither do we.
      this.replace({ sequence: event.sequence, actors: [], sessions: [], signals: NO_SIGNALS });
      return;
    }
    const told = ACTOR_EVENTS[event.kind];
    if (told === undefined || event.actor === "") return;
    const actor = this.#actors.get(event.actor) ?? unknownActor(event);
    const after = told(actor);
    this.#touch(actor.id);
    if (after !== null) {
      this.#actors.set(actor.id, { ...actor, ...after });
    } else {
      this.#actors.delete(actor.id);
      this.#slots.delete(actor.id);
      this.#touched.delete(actor.id);
    }
  }

  #applyToSession(event: PoolEvent): void {
    const before = this.#sessions.get(event.session);
    if (event.kind === "session_released") {
      if (before !== undefined) this.#leave(before);
      this.#sessions.delete(event.session);
      this.#touch(before?.actor ?? "");
      return;
    }
    const told = SESSION_EVENTS[event.kind];
    if (told === undefined) return;
    const session = before ?? unknownSession(event);
    const after = { ...session, ...told(session, event) };
    if (before !== undefined && before.actor !== after.actor) this.#leave(before);
    this.#sessions.set(event.session, after);
    this.#touch(session.actor);
    this.#touch(after.actor);
    if (after.actor !== "" && !OFF_ACTOR.has(after.state)) this.#slotsOf(after.actor).take(after.id);
  }

  #touch(actor: string): void {
    if (actor !== "") this.#touched.set(actor, this.#version);
  }

  #leave(session: Session): void {
    this.#slots.get(session.actor)?.leave(session.id);
  }

  #slotsOf(actor: string): Slots {
    let slots = this.#slots.get(actor);
    if (slots === undefined) this.#slots.set(actor, (slots = new Slots()));
    return slots;
  }

  /** Gives each session of a snapshot a place, those that had one the same. */
  #seat(): void {
    const there = new Map<string, Set<string>>();
    for (const session of this.#sessions.values()) {
      if (session.actor === "" || OFF_ACTOR.has(session.state)) continue;
      let those = there.get(session.actor);
      if (those === undefined) there.set(session.actor, (those = new Set()));
      those.add(session.id);
    }
    for (const [actor, slots] of this.#slots) {
      const those = there.get(actor);
      if (those === undefined) this.#slots.delete(actor);
      else slots.keep(those);
    }
    for (const [actor, those] of there) {
      const slots = this.#slotsOf(actor);
      for (const session of those) slots.take(session);
    }
  }
}

const EMPTY = new Slots();

function placed(session: Session, event: PoolEvent): Partial<Session> {
  return { ...OUT_OF_LINE, state: "active", actor: event.actor || session.actor, target: "", computing: false };
}

function quality(event: PoolEvent): Partial<Session> {
  return event.rate > 0 ? { rate: event.rate, steps: event.steps } : {};
}

/** A snapshot says not where to a session moves, and its age only roughly. */
function kept(session: Session, before: Session | undefined): Session {
  if (before === undefined) return session;
  return {
    ...session,
    target: session.state === "moving" ? before.target : "",
    createdAt: Math.abs(session.createdAt - before.createdAt) < 2000 ? before.createdAt : session.createdAt,
  };
}

function unknownSession(event: PoolEvent): Session {
  return {
    id: event.session,
    tenant: event.tenant,
    model: event.model,
    state: "unknown",
    actor: "",
    target: "",
    computing: false,
    createdAt: event.at,
    rate: 1,
    steps: 0,
    position: 0,
    waitMs: null,
    priority: 0,
  };
}

function unknownActor(event: PoolEvent): Actor {
  return {
    id: event.actor,
    model: event.model,
    host: "",
    gpus: "",
    address: "",
    healthy: true,
    draining: false,
    slots: 0,
    residentBytes: 0,
    bookedBytes: 0,
    bookedMs: 0,
    ceilingMs: 0,
    encodeMs: 0,
    encodeCeilingMs: 0,
    realTimeFactor: 0,
    process: null,
  };
}
