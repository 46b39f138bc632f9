/**
 * Keeps the pool as it is: a snapshot, then the journal after it, again and again.
 *
 * What is cheap is asked often, what is not seldom: ledgers and signals every two seconds, the queue's order every
 * five while somebody waits, all sessions once a minute (that a client went away is no event) and wherever events
 * are missing. When the stream ends it is taken up after its last event; until then the page says since when it is stale.
 */
import { ProblemError } from "../shared/problems";
import type { Chunks } from "./chunks";
import type { SchedulerClock } from "./clock";
import type { Journal } from "./journal";
import type { Pool } from "./pool";
import { EventReader } from "./sse";
import { snapshotOf, wordOf, type Snapshot } from "./wire";

/** How the console stands with the service. */
export type Link =
  | { readonly is: "connecting" }
  | { readonly is: "live" }
  /** Some events were missed and a snapshot is on its way; or the scheduler does not answer, which `why` says. */
  | { readonly is: "behind"; readonly since: number; readonly why: string }
  /** Nothing comes. */
  | { readonly is: "away"; readonly since: number; readonly why: string; readonly againAt: number };

/** Where the feed asks. */
export interface Asking {
  /** Returns the answer of a route, parsed; throws `ProblemError`. */
  json(path: string, signal: AbortSignal): Promise<unknown>;
  /** Returns the answer of a route as text that comes in pieces; throws `ProblemError`. */
  stream(path: string, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<ReadableStream<string>>;
  /** Milliseconds since 1970. */
  now(): number;
  /** Returns after a time, or once it is aborted. */
  pause(ms: number, signal: AbortSignal): Promise<void>;
}

/** What it feeds. */
export interface Fed {
  readonly pool: Pool;
  readonly journal: Journal;
  readonly chunks: Chunks;
  readonly clock: SchedulerClock;
  onLink(link: Link): void;
}

export const TIMES = {
  /** Ledgers and signals. */
  ledgersMs: 2_000,
  /** The order of the queue, while somebody waits. */
  queueMs: 5_000,
  /** All sessions. */
  wholeMs: 60_000,
  /** Longest silence: the service says something every 15 s. */
  silenceMs: 35_000,
  /** Pauses before the stream is taken up again. */
  firstPauseMs: 500,
  longestPauseMs: 8_000,
  /** Chunks that are older are of no interest. */
  chunksMs: 45_000,
} as const;

/** So many answers that fail are no accident. */
const FEW = 2;
/** Events of before the page was opened, for the log. */
const HISTORY = 200;

/** Follows the service until it is stopped. */
export class Feed {
  readonly #asking: Asking;
  readonly #fed: Fed;
  #since = 0;
  /** Ledgers that were not answered, one after the other, and since when. */
  #unanswered = { times: 0, since: 0, why: "" };
  #misses = 0;
  #opened = false;
  #snapshots: Promise<void> | null = null;

  constructor(asking: Asking, fed: Fed) {
    this.#asking = asking;
    this.#fed = fed;
  }

  /** Runs until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    this.#fed.onLink({ is: "connecting" });
    while (!signal.aborted) {
      const why = await this.#round(signal).catch(reasonOf);
      if (signal.aborted) return;
      const pause = pauseMs(this.#misses);
      this.#misses += 1;
      const now = this.#asking.now();
      this.#fed.onLink({ is: "away", since: this.#since || now, why, againAt: now + pause });
      await this.#asking.pause(pause, signal);
    }
  }

  /** Follows one stream to its end; returns why it ended. */
  async #round(outer: AbortSignal): Promise<string> {
    const ended = new AbortController();
    const signal = AbortSignal.any([outer, ended.signal]);
    try {
      if (!this.#fed.journal.isWhole) await this.#whole(signal);
      const stream = await this.#open(signal);
      // What was missed while nothing came is told by the stream; where clients went is not.
      if (this.#misses > 0) await this.#whole(signal);
      this.#misses = this.#unanswered.times = 0;
      const asking = Promise.all([this.#refresh(signal), this.#line(signal), this.#again(signal)]);
      const read = this.#read(stream, signal);
      return await Promise.race([read, asking.then(() => "")]);
    } finally {
      ended.abort();
    }
  }

  async #open(signal: AbortSignal): Promise<ReadableStream<string>> {
    const { journal } = this.#fed;
    this.#fed.clock.reset();
    if (this.#opened) return this.#asking.stream("/events?chunks=1", { "Last-Event-ID": String(journal.heard) }, signal);
    const after = Math.max(0, journal.known - HISTORY);
    const stream = await this.#asking.stream(`/events?chunks=1&after=${after}`, {}, signal);
    this.#opened = true;
    return stream;
  }

  async #read(stream: ReadableStream<string>, signal: AbortSignal): Promise<string> {
    const [events, reader] = [new EventReader(), stream.getReader()];
    try {
      for (;;) {
        const piece = await this.#orSilence(reader.read(), signal);
        if (piece === null) return "the service has fallen silent";
        if (piece.done) return "the service has ended the stream";
        for (const event of events.push(piece.value)) this.#hear(event.name, event.data);
        this.#since = this.#asking.now();
        this.#tell(signal);
      }
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  async #orSilence<T>(read: Promise<T>, signal: AbortSignal): Promise<T | null> {
    const waited = new AbortController();
    const silence = this.#asking.pause(TIMES.silenceMs, AbortSignal.any([signal, waited.signal])).then(() => null);
    try {
      return await Promise.race([read, silence]);
    } finally {
      waited.abort();
    }
  }

  #hear(name: string, data: string): void {
    const { journal, chunks, clock } = this.#fed;
    const [word, now] = [wordOf(name, JSON.parse(data)), this.#asking.now()];
    if (word.is === "chunks") {
      if (word.at !== null) clock.heard(word.at, now);
      chunks.take(word.actor, word.chunks, word.omitted);
      return;
    }
    if (word.is === "started" && word.at !== null) clock.heard(word.at, now);
    journal.hear(word);
  }

  /** Says how things stand, and asks for what is missing. */
  #tell(signal: AbortSignal): void {
    if (this.#fed.journal.isWhole) {
      const { times, since, why } = this.#unanswered;
      this.#fed.onLink(times < FEW ? { is: "live" } : { is: "behind", since, why });
      return;
    }
    this.#fed.onLink({ is: "behind", since: this.#since, why: "" });
    this.#snapshots ??= this.#catchUp(signal).finally(() => (this.#snapshots = null));
  }

  async #catchUp(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#fed.journal.isWhole) {
      await this.#whole(signal).catch(() => undefined);
      if (!this.#fed.journal.isWhole) await this.#asking.pause(TIMES.ledgersMs, signal);
    }
    if (!signal.aborted) this.#fed.onLink({ is: "live" });
  }

  async #whole(signal: AbortSignal): Promise<void> {
    this.#fed.journal.snapshot(await this.#snapshot("all", signal));
    this.#since = this.#asking.now();
  }

  async #again(signal: AbortSignal): Promise<void> {
    await this.#every(TIMES.wholeMs, signal, () => this.#whole(signal));
  }

  async #refresh(signal: AbortSignal): Promise<void> {
    let answered = this.#asking.now();
    await this.#every(TIMES.ledgersMs, signal, async () => {
      this.#fed.chunks.forget(this.#fed.clock.at(this.#asking.now()) - TIMES.chunksMs);
      try {
        this.#fed.journal.refresh(await this.#snapshot("none", signal));
        answered = this.#asking.now();
        this.#unanswered = { times: 0, since: 0, why: "" };
      } catch (error) {
        this.#unanswered = { times: this.#unanswered.times + 1, since: answered, why: reasonOf(error) };
      }
      if (!signal.aborted) this.#tell(signal);
    });
  }

  async #line(signal: AbortSignal): Promise<void> {
    await this.#every(TIMES.queueMs, signal, async () => {
      if (this.#fed.pool.signals.queued === 0) return;
      this.#fed.pool.line((await this.#snapshot("waiting", signal)).sessions);
    });
  }

  /** Asks again and again. That one answer fails says nothing: the stream tells whether the service is there. */
  async #every(ms: number, signal: AbortSignal, ask: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      await this.#asking.pause(ms, signal);
      if (!signal.aborted) await ask().catch(() => undefined);
    }
  }

  async #snapshot(sessions: "all" | "waiting" | "none", signal: AbortSignal): Promise<Snapshot> {
    const told = await this.#asking.json(`/operator/pool?sessions=${sessions}`, signal);
    return snapshotOf(told, this.#asking.now());
  }
}

/** Returns how long to wait after some tries that failed. */
export function pauseMs(misses: number): number {
  return Math.min(TIMES.longestPauseMs, TIMES.firstPauseMs * 2 ** Math.min(misses, 10));
}

function reasonOf(error: unknown): string {
  return error instanceof ProblemError ? error.message : "the connection was lost";
}
