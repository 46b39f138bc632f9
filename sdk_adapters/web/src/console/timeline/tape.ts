/**
 * The timeline's tape: chunks are painted once, on a canvas that is longer than what is shown, and the tape is moved
 * under the window frame by frame. So a frame costs one copy, however many chunks there are.
 */
import type { Chunks } from "../chunks";
import { colour } from "../palette";
import { COMINGS, comingOf, heightOf, yOf, type Coming, type Lane } from "../timeline";

/** How much longer than the window the tape is. */
const LONGER = 1.6;
/** Chunks may be told of this long after the right edge. */
const AHEAD_MS = 3000;
/** Edge of a mark; and by how much larger it is where lanes are tall, for then they are few. */
const MARK: Readonly<Record<Coming, number>> = { first: 2, early: 2, tight: 2.5, late: 4 };
const TALL = 48;
const LARGER = 1.75;

/** What is on the tape. */
export interface Strip {
  readonly lanes: readonly Lane[];
  /** Width of the window in CSS pixels, and how much time that is. */
  readonly width: number;
  readonly span: number;
  /** Device pixels in a CSS pixel. */
  readonly scale: number;
}

/** A canvas that is not in the document. */
export class Tape {
  readonly #canvas = document.createElement("canvas");
  readonly #context = this.#canvas.getContext("2d") as CanvasRenderingContext2D;
  #strip: Strip = { lanes: [], width: 0, span: 1, scale: 1 };
  /** Time at the left edge. */
  #origin = 0;
  /** Number of the first chunk of each actor that is not painted yet. */
  #next = new Map<string, number>();

  /** Begins anew: another size, other lanes or other colours. */
  reset(strip: Strip, end: number): void {
    this.#strip = strip;
    this.#canvas.width = Math.max(1, Math.round(strip.width * LONGER * strip.scale));
    this.#canvas.height = Math.max(1, Math.round(heightOf(strip.lanes) * strip.scale));
    this.#begin(end);
  }

  /** Paints what is new of the chunks; `end` is the time at the right edge of the window. */
  extend(chunks: Chunks, end: number): void {
    const { lanes, width, span, scale } = this.#strip;
    if (width <= 0) return;
    const [isPast, isBefore] = [this.#xOf(end - span) >= width * LONGER, end < this.#origin + span / 2];
    if (isPast || isBefore) this.#begin(end);
    else if (this.#xOf(end + AHEAD_MS) > width * LONGER) this.#shift(end);
    this.#context.setTransform(scale, 0, 0, scale, 0, 0);
    for (const lane of lanes) this.#lane(lane, chunks);
  }

  /** Copies the part that is seen; the target's pixels are device pixels. */
  copy(target: CanvasRenderingContext2D, end: number, scrolled: number, height: number): void {
    const { width, span, scale } = this.#strip;
    // Whole device pixels: marks stay sharp while they move.
    const left = Math.max(0, Math.round(this.#xOf(end - span) * scale));
    const [across, down] = [Math.round(width * scale), Math.round(Math.min(height * scale, this.#canvas.height))];
    if (across <= 0 || down <= 0) return;
    target.drawImage(this.#canvas, left, Math.round(scrolled * scale), across, down, 0, 0, across, down);
  }

  #begin(end: number): void {
    this.#context.setTransform(1, 0, 0, 1, 0, 0);
    this.#context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    this.#origin = end - this.#strip.span;
    this.#next.clear();
  }

  /** Moves what is still seen to the left edge. */
  #shift(end: number): void {
    const { width, span, scale } = this.#strip;
    const by = Math.floor(this.#xOf(end - span) * scale);
    const [across, down] = [this.#canvas.width, this.#canvas.height];
    this.#context.setTransform(1, 0, 0, 1, 0, 0);
    this.#context.globalCompositeOperation = "copy";
    this.#context.drawImage(this.#canvas, by, 0, across - by, down, 0, 0, across - by, down);
    this.#context.globalCompositeOperation = "source-over";
    this.#context.clearRect(across - by, 0, by, down);
    this.#origin += (by / scale / width) * span;
  }

  #xOf(time: number): number {
    return ((time - this.#origin) / this.#strip.span) * this.#strip.width;
  }

  #lane(lane: Lane, chunks: Chunks): void {
    const track = chunks.tracks.get(lane.actor);
    if (track === undefined) return;
    const from = Math.max(track.first, this.#next.get(lane.actor) ?? 0);
    // What lies beyond the tape is painted once the tape has moved.
    const limit = this.#origin + this.#strip.span * LONGER;
    let end = from;
    while (end < track.end && track.finishedAt(end) <= limit) end += 1;
    this.#next.set(lane.actor, end);
    if (from >= end) return;
    const marks: Record<Coming, number[]> = { first: [], early: [], tight: [], late: [] };
    const [bar, lateBar] = [new Path2D(), new Path2D()];
    let [began, finished] = [0, 0];
    const [top, tall] = lane.bars;
    for (let number = from; number < end; number += 1) {
      const [since, until] = [track.beganAt(number), track.finishedAt(number)];
      const coming = comingOf(track.slackMs(number), track.isLate(number));
      marks[coming].push(number);
      // The windows of one call are one bar.
      if (since === began && until === finished && coming !== "late") continue;
      [began, finished] = [since, until];
      const x = this.#xOf(since);
      (coming === "late" ? lateBar : bar).rect(x, top, Math.max(1, this.#xOf(until) - x - 0.5), tall);
    }
    this.#context.fillStyle = colour("--chunk-bar");
    this.#context.fill(bar);
    this.#context.fillStyle = colour("--chunk-late");
    this.#context.fill(lateBar);
    if (lane.slack[1] <= 0) return;
    for (const coming of Object.keys(marks) as Coming[]) {
      const size = MARK[coming] * (lane.height >= TALL ? LARGER : 1);
      this.#context.fillStyle = colour(COMINGS[coming].colour);
      for (const number of marks[coming]) {
        const slack = track.slackMs(number);
        const y = yOf(lane, Number.isNaN(slack) ? 0 : slack);
        this.#context.fillRect(this.#xOf(track.finishedAt(number)) - size / 2, y - size / 2, size, size);
      }
    }
  }
}
