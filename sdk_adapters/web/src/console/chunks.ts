/**
 * Chunks that actors made lately: for the timeline, and for the share that came late. Pure but for its state.
 *
 * Columns instead of objects: with a thousand sessions there are some ten thousand chunks in the window, and they are
 * looked through for each repaint.
 */
import type { Chunk } from "./wire";

const FIRST = 256;
/** Most chunks of one actor: 256 a second is the most it tells, for the longest window. */
export const MOST = 8192;

/** A chunk of an actor, as it is looked up. */
export interface Seen {
  readonly session: string;
  readonly run: number;
  readonly chunk: number;
  readonly beganAt: number;
  readonly finishedAt: number;
  readonly waitMs: number;
  readonly batch: number;
  readonly computeMs: number;
  /** Milliseconds to its deadline; null: nothing was due. */
  readonly slackMs: number | null;
  readonly late: boolean;
}

/** The chunks of one actor, in the order in which they were told of. */
export class Track {
  /** Number of the first chunk that is kept; numbers are never used again. */
  first = 0;
  /** One more than the number of the last chunk. */
  end = 0;
  /** Chunks that the actor made and did not tell of. */
  omitted = 0;
  #size = FIRST;
  #began = new Float64Array(FIRST);
  #finished = new Float64Array(FIRST);
  #wait = new Float32Array(FIRST);
  #batch = new Uint16Array(FIRST);
  #compute = new Float32Array(FIRST);
  #slack = new Float32Array(FIRST);
  #run = new Uint32Array(FIRST);
  #chunk = new Uint32Array(FIRST);
  #late = new Uint8Array(FIRST);
  #session: string[] = new Array<string>(FIRST).fill("");

  /** Adds a chunk; the oldest one goes where there are too many. */
  add(chunk: Chunk): void {
    if (this.end - this.first === this.#size) {
      if (this.#size < MOST) this.#grow();
      else this.first += 1;
    }
    const at = this.end % this.#size;
    this.#began[at] = chunk.beganAt;
    this.#finished[at] = chunk.finishedAt;
    this.#wait[at] = chunk.waitMs;
    this.#batch[at] = chunk.batch;
    this.#compute[at] = chunk.computeMs;
    this.#slack[at] = chunk.slackMs ?? Number.NaN;
    this.#run[at] = chunk.run;
    this.#chunk[at] = chunk.chunk;
    this.#late[at] = chunk.late ? 1 : 0;
    this.#session[at] = chunk.session;
    this.end += 1;
  }

  /** Forgets what was finished before a time. */
  forget(before: number): void {
    while (this.first < this.end && this.finishedAt(this.first) < before) this.first += 1;
  }

  beganAt(number: number): number {
    return this.#began[number % this.#size] as number;
  }

  finishedAt(number: number): number {
    return this.#finished[number % this.#size] as number;
  }

  computeMs(number: number): number {
    return this.#compute[number % this.#size] as number;
  }

  /** Milliseconds to the deadline; NaN: nothing was due. */
  slackMs(number: number): number {
    return this.#slack[number % this.#size] as number;
  }

  isLate(number: number): boolean {
    return this.#late[number % this.#size] === 1;
  }

  session(number: number): string {
    return this.#session[number % this.#size] as string;
  }

  /** Returns a chunk; null: it is not kept. */
  at(number: number): Seen | null {
    if (number < this.first || number >= this.end) return null;
    const at = number % this.#size;
    const slack = this.slackMs(number);
    return {
      session: this.session(number),
      run: this.#run[at] as number,
      chunk: this.#chunk[at] as number,
      beganAt: this.beganAt(number),
      finishedAt: this.finishedAt(number),
      waitMs: this.#wait[at] as number,
      batch: this.#batch[at] as number,
      computeMs: this.computeMs(number),
      slackMs: Number.isNaN(slack) ? null : slack,
      late: this.isLate(number),
    };
  }

  #grow(): void {
    const [from, size] = [this.#size, this.#size * 2];
    const moved = <A extends Float64Array | Float32Array | Uint32Array | Uint16Array | Uint8Array>(old: A, fresh: A): A => {
      for (let number = this.first; number < this.end; number += 1) fresh[number % size] = old[number % from] as number;
      return fresh;
    };
    this.#began = moved(this.#began, new Float64Array(size));
    this.#finished = moved(this.#finished, new Float64Array(size));
    this.#wait = moved(this.#wait, new Float32Array(size));
    this.#batch = moved(this.#batch, new Uint16Array(size));
    this.#compute = moved(this.#compute, new Float32Array(size));
    this.#slack = moved(this.#slack, new Float32Array(size));
    this.#run = moved(this.#run, new Uint32Array(size));
    this.#chunk = moved(this.#chunk, new Uint32Array(size));
    this.#late = moved(this.#late, new Uint8Array(size));
    const sessions = new Array<string>(size).fill("");
    for (let number = this.first; number < this.end; number += 1) {
      sessions[number % size] = this.#session[number % from] as string;
    }
    this.#session = sessions;
    this.#size = size;
  }
}

/** How many chunks an actor told of, and how they came. */
export interface Tally {
  readonly chunks: number;
  readonly late: number;
  /** Least milliseconds to a deadline; null: nothing was due. */
  readonly leastSlackMs: number | null;
}

/** Actors of which chunks are kept at most; those that were told of longest ago go. */
const MOST_ACTORS = 1024;

/** The chunks of all actors. */
export class Chunks {
  readonly tracks = new Map<string, Track>();
  #told = 0;

  /** Grows with each telling. */
  get version(): number {
    return this.#told;
  }

  /** Takes what an actor told. */
  take(actor: string, chunks: readonly Chunk[], omitted: number): void {
    let track = this.tracks.get(actor);
    if (track !== undefined) this.tracks.delete(actor);
    else track = new Track();
    this.tracks.set(actor, track);
    if (this.tracks.size > MOST_ACTORS) this.tracks.delete(this.tracks.keys().next().value as string);
    track.omitted += omitted;
    for (const chunk of chunks) track.add(chunk);
    this.#told += 1;
  }

  /** Forgets what was finished before a time. Tracks stay: their actors may make more. */
  forget(before: number): void {
    for (const track of this.tracks.values()) track.forget(before);
  }

  /** Returns the sessions of an actor of which a chunk came late since a time. */
  late(actor: string, since: number): ReadonlySet<string> {
    const late = new Set<string>();
    const track = this.tracks.get(actor);
    if (track === undefined) return late;
    for (let number = track.end - 1; number >= track.first && track.finishedAt(number) >= since; number -= 1) {
      if (track.isLate(number)) late.add(track.session(number));
    }
    return late;
  }

  /** Counts an actor's chunks that were finished since a time. */
  tally(actor: string, since: number): Tally {
    const track = this.tracks.get(actor);
    let [chunks, late, least] = [0, 0, Number.POSITIVE_INFINITY];
    if (track === undefined) return { chunks, late, leastSlackMs: null };
    for (let number = track.end - 1; number >= track.first && track.finishedAt(number) >= since; number -= 1) {
      chunks += 1;
      if (track.isLate(number)) late += 1;
      const slack = track.slackMs(number);
      if (slack < least) least = slack;
    }
    return { chunks, late, leastSlackMs: Number.isFinite(least) ? least : null };
  }

  /** Returns the median time that an actor's calls took since a time, in milliseconds; null: there was none. */
  medianCallMs(actor: string, since: number): number | null {
    const track = this.tracks.get(actor);
    if (track === undefined) return null;
    const calls: number[] = [];
    for (let number = track.end - 1; number >= track.first && track.finishedAt(number) >= since; number -= 1) {
      calls.push(track.finishedAt(number) - track.beganAt(number));
    }
    calls.sort((one, other) => one - other);
    return calls[calls.length >> 1] ?? null;
  }
}
