/** The window over the tape: lanes, lines of time, the chunk that is looked at; and what is under the pointer. */
import { fitted } from "../canvas";
import type { Chunks, Track } from "../chunks";
import { clock as timeOfDay } from "../format";
import { colour, palette } from "../palette";
import { chunkAt, heightOf, lanesOf, linesOf, xOf, yOf, type Lane, type Window } from "../timeline";
import { Tape } from "./tape";

/** Height of the line of times. */
export const AXIS = 24;

/** A chunk of a lane. */
export interface Spot {
  readonly actor: string;
  readonly number: number;
}

/** Paints the timeline. */
export class Screen {
  readonly #canvas: HTMLCanvasElement;
  readonly #tape = new Tape();
  #lanes: readonly Lane[] = [];
  #window: Window = { end: 0, span: 20_000, width: 0 };
  #height = 0;
  #scrolled = 0;
  #font = "";
  #laid = "";
  #painted = "";

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
  }

  get lanes(): readonly Lane[] {
    return this.#lanes;
  }

  get window(): Window {
    return this.#window;
  }

  /** Lays the lanes out; returns whether anything is different. */
  lay(actors: readonly string[], width: number, height: number, span: number, scrolled: number, end: number): boolean {
    this.#scrolled = scrolled;
    this.#window = { end, span, width };
    const laid = `${actors.join(" ")}|${width}|${height}|${span}|${palette.peek()}`;
    if (laid === this.#laid) return false;
    this.#laid = laid;
    this.#font = `14px ${getComputedStyle(document.body).fontFamily}`;
    this.#height = height;
    this.#lanes = lanesOf(actors, height - AXIS);
    this.#tape.reset({ lanes: this.#lanes, width, span, scale: this.#scale }, end);
    this.#painted = "";
    return true;
  }

  /** Paints a frame, unless it would be the same as the last one. */
  paint(chunks: Chunks, spot: Spot | null): void {
    const { end, span, width } = this.#window;
    const at = Math.round((end / span) * width * this.#scale);
    const painted = `${at} ${this.#scrolled} ${chunks.version} ${spot?.actor} ${spot?.number}`;
    if (painted === this.#painted) return;
    this.#painted = painted;
    const fit = fitted(this.#canvas, width, this.#height);
    if (fit === null) return;
    if (fit.resized) [this.#canvas.style.width, this.#canvas.style.height] = [`${width}px`, `${this.#height}px`];
    const { context } = fit;
    const below = this.#height - AXIS;
    context.clearRect(0, 0, width, this.#height);
    context.save();
    context.beginPath();
    context.rect(0, 0, width, below);
    context.clip();
    context.translate(0, -this.#scrolled);
    this.#background(context);
    this.#tape.extend(chunks, end);
    context.setTransform(1, 0, 0, 1, 0, 0);
    this.#tape.copy(context, end, this.#scrolled, below);
    context.setTransform(this.#scale, 0, 0, this.#scale, 0, 0);
    context.translate(0, -this.#scrolled);
    if (spot !== null) this.#spot(context, chunks.tracks.get(spot.actor), spot);
    context.restore();
    this.#axis(context);
  }

  /** Returns the chunk at a point of the canvas; null: there is none. */
  spotAt(chunks: Chunks, x: number, y: number): Spot | null {
    const lane = this.laneAt(y);
    const track = lane === null ? undefined : chunks.tracks.get(lane.actor);
    if (lane === null || track === undefined) return null;
    const number = chunkAt(this.#window, lane, track, x, y + this.#scrolled);
    return number === null ? null : { actor: lane.actor, number };
  }

  laneAt(y: number): Lane | null {
    return this.#lanes.find((lane) => y + this.#scrolled >= lane.top && y + this.#scrolled < lane.top + lane.height) ?? null;
  }

  /** Returns where a chunk is on the canvas. */
  placeOf(track: Track, spot: Spot): readonly [x: number, y: number] {
    const lane = this.#lanes.find(({ actor }) => actor === spot.actor);
    const slack = track.slackMs(spot.number);
    const y = lane === undefined ? 0 : yOf(lane, Number.isNaN(slack) ? 0 : slack) - this.#scrolled;
    return [xOf(this.#window, track.finishedAt(spot.number)), y];
  }

  get #scale(): number {
    return Math.min(2, devicePixelRatio || 1);
  }

  #background(context: CanvasRenderingContext2D): void {
    const { width } = this.#window;
    context.fillStyle = colour("--lane");
    for (const lane of this.#lanes) context.fillRect(0, lane.top, width, lane.height);
    context.fillStyle = colour("--lane-late");
    for (const { slack, deadline } of this.#lanes) context.fillRect(0, deadline, width, slack[0] + slack[1] - deadline);
    const { first, every } = linesOf(this.#window);
    context.fillStyle = colour("--line");
    for (let time = first; time <= this.#window.end; time += every) {
      context.fillRect(Math.round(xOf(this.#window, time)), 0, 1, heightOf(this.#lanes));
    }
    context.fillStyle = colour("--line-strong");
    for (const { deadline } of this.#lanes) context.fillRect(0, deadline, width, 1);
  }

  #spot(context: CanvasRenderingContext2D, track: Track | undefined, spot: Spot): void {
    const seen = track?.at(spot.number);
    const lane = this.#lanes.find(({ actor }) => actor === spot.actor);
    if (!seen || lane === undefined) return;
    const [from, to] = [xOf(this.#window, seen.beganAt), xOf(this.#window, seen.finishedAt)];
    const y = yOf(lane, seen.slackMs ?? 0);
    context.strokeStyle = context.fillStyle = colour("--text");
    context.lineWidth = 2;
    context.strokeRect(from - 1, lane.bars[0] - 1, Math.max(3, to - from + 2), lane.bars[1] + 2);
    context.beginPath();
    context.arc(to, y, 5, 0, 2 * Math.PI);
    context.stroke();
    if (seen.slackMs === null) return;
    // From when it was finished to when it was due.
    const due = xOf(this.#window, seen.finishedAt + seen.slackMs);
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(to, y);
    context.lineTo(due, lane.deadline);
    context.stroke();
    context.fillRect(due - 1, lane.deadline - 6, 2, 12);
  }

  #axis(context: CanvasRenderingContext2D): void {
    const { first, every } = linesOf(this.#window);
    context.fillStyle = colour("--muted");
    context.font = this.#font;
    context.textBaseline = "middle";
    // Right under the lanes, where they do not fill the room.
    const y = Math.min(this.#height - AXIS, heightOf(this.#lanes)) + AXIS / 2 + 2;
    for (let time = first; time <= this.#window.end; time += every) {
      const x = xOf(this.#window, time);
      if (x < 30 || x > this.#window.width - 34) continue;
      context.textAlign = "center";
      context.fillText(timeOfDay(time).slice(0, 8), x, y);
    }
  }
}

/** Returns the chunk of another lane that was finished nearest to a time; null: it has none. */
export function nearest(track: Track, time: number): number | null {
  let [best, least] = [null as number | null, Number.POSITIVE_INFINITY];
  for (let number = track.end - 1; number >= track.first; number -= 1) {
    const distance = Math.abs(track.finishedAt(number) - time);
    if (distance < least) [best, least] = [number, distance];
  }
  return best;
}
