/**
 * The event journal as it is heard: in order, each event once, and nothing missing without knowing. Pure but for its state.
 *
 * A snapshot says up to which event it goes (`event_sequence`). Events that came while it was on its way are kept, and
 * applied to it; where some of them are missing it is of no use, and another one is asked for.
 */
import type { Pool } from "./pool";
import { Ring } from "./ring";
import type { PoolEvent, Snapshot, Word } from "./wire";

/** What the log shows: an event, or that some are missing. */
export type Entry =
  | { readonly is: "event"; readonly event: PoolEvent }
  | { readonly is: "gap"; readonly after: number; readonly next: number };

/** Events that are kept for snapshots on their way. */
const KEPT = 4096;

/** Follows the journal into a pool. */
export class Journal {
  /** What happened lately, oldest first. */
  readonly log: Ring<Entry>;
  readonly #pool: Pool;
  readonly #recent = new Ring<PoolEvent>(KEPT);
  #heard = 0;
  #known = 0;
  #missingUpTo = 0;
  #whole = false;

  /** @param logged Most entries of the log. */
  constructor(pool: Pool, logged = 5000) {
    this.#pool = pool;
    this.log = new Ring<Entry>(logged);
  }

  /** Sequence of the last word that was heard; 0: none. To go on after. */
  get heard(): number {
    return this.#heard;
  }

  /** Sequence of the last event that is part of the pool. */
  get known(): number {
    return this.#known;
  }

  /** Whether the pool is what the service says; else a snapshot is due. */
  get isWhole(): boolean {
    return this.#whole;
  }

  /**
   * Takes a snapshot.
   *
   * @returns Whether the pool is whole now. If not, events after it are missing: ask again.
   */
  snapshot(snapshot: Snapshot): boolean {
    if (snapshot.sequence < this.#missingUpTo || !this.#reaches(snapshot.sequence)) return this.#whole;
    this.#pool.replace(snapshot);
    for (const event of this.#recent) if (event.sequence > snapshot.sequence) this.#pool.apply(event);
    this.#known = Math.max(this.#heard, snapshot.sequence);
    this.#whole = true;
    return true;
  }

  /** Takes the actors of a snapshot alone, which may be older than what was heard since. */
  refresh(snapshot: Snapshot): void {
    this.#pool.refresh(snapshot);
    for (const event of this.#recent) {
      if (event.session === "" && event.sequence > snapshot.sequence) this.#pool.apply(event);
    }
  }

  /** Takes a word; chunks are none of its business. */
  hear(word: Word): void {
    if (word.is === "started") this.#begin(word.sequence);
    else if (word.is === "gap") this.#miss(word.after, word.next);
    else if (word.is === "event") this.#event(word.event);
  }

  #begin(sequence: number): void {
    if (this.#heard === 0) this.#heard = sequence;
    else if (sequence > this.#heard) this.#miss(this.#heard, sequence + 1);
  }

  #event(event: PoolEvent): void {
    if (event.sequence <= this.#heard) return;
    if (this.#heard > 0 && event.sequence > this.#heard + 1) this.#miss(this.#heard, event.sequence);
    this.#heard = event.sequence;
    this.#recent.push(event);
    this.log.push({ is: "event", event });
    if (event.sequence <= this.#known) return;
    this.#known = event.sequence;
    this.#pool.apply(event);
  }

  #miss(after: number, next: number): void {
    if (next - 1 <= this.#heard) return;
    // What no snapshot needs is no loss: a log that begins later than was asked for.
    if (this.#heard > 0 && this.log.length > 0) this.log.push({ is: "gap", after, next });
    this.#heard = next - 1;
    this.#missingUpTo = next - 1;
    this.#recent.clear();
    if (this.#known < next - 1) this.#whole = false;
  }

  /** Tells whether all events between a sequence and now are kept. */
  #reaches(sequence: number): boolean {
    const oldest = this.#recent.at(0);
    return this.#recent.length < KEPT || oldest === undefined || sequence >= oldest.sequence - 1;
  }
}
