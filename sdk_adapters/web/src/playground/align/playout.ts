/**
 * Which source frame a shown picture was made of. Pure.
 *
 * With the first frame of every chunk the service tells its number, the time of its source, and
 * the timestamp of its RTP packets (`ViewerStats`); the browser tells that timestamp of every
 * picture it shows (`requestVideoFrameCallback`). From the one to the other is counting: frames
 * of a chunk follow each other at the model's rate.
 */
import type { ViewerStats } from "@sana-gateway/client";

/** Ticks a millisecond of RTP timestamps of video (RFC 6184, RFC 7741). */
const TICKS_PER_MS = 90;
/** Chunks that are remembered; the oldest go first. */
const MOST_ANCHORS = 24;
/** Frames that a chunk may have, where nothing is known of it: the first window has 33. */
const LONGEST_CHUNK = 33;

/** Rates that differ by less are the same. */
const TOLERANCE = 0.02;

/** What is used of `ViewerStats`. */
export type Anchor = Pick<
  ViewerStats,
  "run" | "chunk" | "frame" | "timestampUs" | "sourceUs" | "sourceToEmitUs" | "rtpTimestamp"
>;

/** A shown picture. */
export interface Shown {
  readonly run: number;
  /** Index of the frame in its run; of a clip, also that of its source frame. */
  readonly frame: number;
  /** Time of its source frame in milliseconds: on the camera's clock, or in the clip. */
  readonly sourceMs: number;
  /** Frames since the first of its chunk. */
  readonly offset: number;
  /** What was told of that first frame. */
  readonly anchor: Anchor;
}

/** See above. */
export class PlayoutClock {
  readonly #anchors: Anchor[] = [];
  #framesPerSecond: number;
  /** Rate of the chunk before. */
  #measured: number;

  /** @param framesPerSecond The model's rate, until chunks tell another. */
  constructor(framesPerSecond: number) {
    this.#framesPerSecond = this.#measured = framesPerSecond;
  }

  /** Frames a second that are shown. */
  get framesPerSecond(): number {
    return this.#framesPerSecond;
  }

  /** The service told of a chunk. */
  told(anchor: Anchor): void {
    if (anchor.rtpTimestamp === 0) return;
    const before = this.#anchors.at(-1);
    if (before !== undefined && before.run === anchor.run && anchor.frame > before.frame) {
      const rate = ((anchor.frame - before.frame) * 1e6) / (anchor.timestampUs - before.timestampUs);
      // A chunk that was waited for is further away than its frames are long: twice is no accident.
      if (Math.abs(rate / this.#measured - 1) < TOLERANCE) this.#framesPerSecond = rate;
      this.#measured = rate;
    }
    this.#anchors.push(anchor);
    if (this.#anchors.length > MOST_ANCHORS) this.#anchors.shift();
  }

  /** The model runs at another rate. */
  pace(framesPerSecond: number): void {
    this.#framesPerSecond = framesPerSecond;
  }

  /** Forgets all: another connection has other timestamps. */
  clear(): void {
    this.#anchors.length = 0;
  }

  /**
   * Returns what the picture of a timestamp is; null where that is not known.
   *
   * @param sourceFps Source frames a second: the shown ones, unless it is a clip of another rate.
   * @param frames How many there are in a run; unlimited of a camera.
   */
  at(rtpTimestamp: number, sourceFps: number = this.#framesPerSecond, frames = Infinity): Shown | null {
    for (let index = this.#anchors.length - 1; index >= 0; index -= 1) {
      const anchor = this.#anchors[index] as Anchor;
      const ms = ticksBetween(anchor.rtpTimestamp, rtpTimestamp) / TICKS_PER_MS;
      const passed = Math.round((ms * this.#framesPerSecond) / 1000);
      if (passed < 0) continue;
      // What follows the last frame is that frame again, while nothing new comes.
      const offset = Math.min(passed, this.#length(index) - 1, frames - 1 - anchor.frame);
      return {
        run: anchor.run,
        frame: anchor.frame + offset,
        sourceMs: anchor.sourceUs / 1000 + (offset * 1000) / sourceFps,
        offset,
        anchor,
      };
    }
    return null;
  }

  /** Returns how many frames a chunk has, as far as the next one shows; else as many as may be. */
  #length(index: number): number {
    const own = this.#known(index);
    if (own !== null) return own;
    // The first chunk of a run is shorter than the others.
    const others = this.#anchors.map(({ chunk }, at) => (chunk > 0 ? (this.#known(at) ?? 0) : 0));
    return Math.max(...others) || LONGEST_CHUNK;
  }

  #known(index: number): number | null {
    const [one, next] = [this.#anchors[index], this.#anchors[index + 1]];
    if (one === undefined || next === undefined) return null;
    return one.run === next.run && one.chunk + 1 === next.chunk ? next.frame - one.frame : null;
  }
}

/** Returns the ticks from one timestamp to another: they wrap around at 32 bits. */
export function ticksBetween(from: number, to: number): number {
  return (to - from) | 0;
}
