/**
 * Geometry of the timeline. Pure; all in CSS pixels and milliseconds.
 *
 * One lane per GPU. Above is what it computes: a bar from the begin of a window to its end. Below is what is left to the
 * deadline when a chunk is finished: a mark as high above the deadline's line as there is time left, below it where it
 * came late.
 */
import type { Seen, Track } from "./chunks";

/** What part of time is shown. */
export interface Window {
  /** The right edge. */
  readonly end: number;
  /** How much is shown. */
  readonly span: number;
  /** Width of the picture. */
  readonly width: number;
}

/** Where the parts of a lane are. */
export interface Lane {
  readonly actor: string;
  readonly top: number;
  readonly height: number;
  /** Upper edge and height of the bars of compute. */
  readonly bars: readonly [top: number, height: number];
  /** Upper edge and height of the marks of slack; a height of 0: there is no room for them. */
  readonly slack: readonly [top: number, height: number];
  /** The deadline's line. */
  readonly deadline: number;
}

/** How chunks came; in the order in which they are painted, the worst last. */
export type Coming = "first" | "early" | "tight" | "late";

export const COMINGS: Readonly<Record<Coming, { readonly label: string; readonly colour: string }>> = {
  first: { label: "Not due", colour: "--chunk-first" },
  early: { label: "In time", colour: "--chunk-early" },
  tight: { label: "Under 50 ms left", colour: "--chunk-tight" },
  late: { label: "Late", colour: "--chunk-late" },
};

/** Slack below which a chunk came only just in time, in milliseconds. */
export const TIGHT_MS = 50;
/** Slack at the upper edge of a lane. More is drawn there. */
export const SLACK_TOP_MS = 2000;
/** Lateness at its lower edge. */
export const SLACK_BOTTOM_MS = 1000;

const GAP = 6;
const TALL = 96;
const LOW = 20;
/** Share of the marks' height that lies above the deadline. */
const ABOVE = 0.68;

/** Returns how a chunk came. */
export function comingOf(slackMs: number | null, late: boolean): Coming {
  if (late) return "late";
  if (slackMs === null || Number.isNaN(slackMs)) return "first";
  return slackMs < TIGHT_MS ? "tight" : "early";
}

/**
 * Returns the lanes of actors, from top to bottom.
 *
 * @param room Height that there is: lanes are lower where there are many, but never too low to be read.
 */
export function lanesOf(actors: readonly string[], room: number): Lane[] {
  const each = actors.length === 0 ? TALL : room / actors.length - GAP;
  const height = Math.round(Math.min(TALL, Math.max(LOW, each)));
  const bars = height >= 40 ? Math.min(18, Math.round(height * 0.25)) : Math.round(height * 0.3);
  return actors.map((actor, index) => {
    const top = index * (height + GAP);
    const marks = height - bars - 2;
    return {
      actor,
      top,
      height,
      bars: [top, bars] as const,
      slack: [top + bars + 2, marks] as const,
      deadline: top + bars + 2 + Math.round(marks * ABOVE),
    };
  });
}

/** Returns the height of all lanes. */
export function heightOf(lanes: readonly Lane[]): number {
  const last = lanes.at(-1);
  return last === undefined ? 0 : last.top + last.height;
}

/** Returns where a time is. */
export function xOf(window: Window, time: number): number {
  return window.width - ((window.end - time) / window.span) * window.width;
}

/** Returns the time at a place. */
export function timeAt(window: Window, x: number): number {
  return window.end - ((window.width - x) / window.width) * window.span;
}

/** Returns where the mark of a slack is: as far from the deadline's line as the root of it. */
export function yOf(lane: Lane, slackMs: number): number {
  const [top, height] = lane.slack;
  const below = top + height - lane.deadline;
  if (slackMs >= 0) return lane.deadline - root(slackMs / SLACK_TOP_MS) * (lane.deadline - top);
  return lane.deadline + root(-slackMs / SLACK_BOTTOM_MS) * below;
}

/** What matters happens near the deadline: it has more room than what is far from it. */
function root(share: number): number {
  return Math.sqrt(Math.min(1, share));
}

/** Returns the lane at a height; null: none. */
export function laneAt(lanes: readonly Lane[], y: number): Lane | null {
  return lanes.find((lane) => y >= lane.top && y < lane.top + lane.height + GAP) ?? null;
}

const REACH = 8;

/** Returns the number of the chunk at a point, the nearest one; null: none is near. */
export function chunkAt(window: Window, lane: Lane, track: Track, x: number, y: number): number | null {
  let [best, nearest] = [null as number | null, Number.POSITIVE_INFINITY];
  const inBars = y < lane.bars[0] + lane.bars[1] + 1;
  for (let number = track.end - 1; number >= track.first; number -= 1) {
    const finish = xOf(window, track.finishedAt(number));
    if (finish < -REACH) break;
    const distance = inBars
      ? toBar(x, xOf(window, track.beganAt(number)), finish)
      : toMark(x - finish, y - yOf(lane, orZero(track.slackMs(number))));
    if (distance <= REACH && distance < nearest) [best, nearest] = [number, distance];
  }
  return best;
}

function toBar(x: number, from: number, to: number): number {
  return x < from ? from - x : x > to ? x - to : 0;
}

function toMark(dx: number, dy: number): number {
  return Math.hypot(dx, dy);
}

function orZero(value: number): number {
  return Number.isNaN(value) ? 0 : value;
}

/** Returns the first time of a grid line, and how far they are apart: at most a line in 80 px. */
export function linesOf(window: Window): { readonly first: number; readonly every: number } {
  const least = (80 / window.width) * window.span;
  const every = [1000, 2000, 5000, 10_000, 30_000].find((step) => step >= least) ?? 60_000;
  return { first: Math.ceil((window.end - window.span) / every) * every, every };
}

/** Says a chunk in words. */
export function inWords(seen: Seen): string {
  const coming =
    seen.slackMs === null
      ? "nothing was due"
      : seen.slackMs < 0
        ? `${Math.round(-seen.slackMs)} ms after its deadline`
        : `${Math.round(seen.slackMs)} ms before its deadline`;
  const late = seen.late ? ", the play-out had to wait" : "";
  const batch = seen.batch > 1 ? ` in a batch of ${seen.batch}` : "";
  const waited = seen.waitMs >= 1 ? ` after waiting ${Math.round(seen.waitMs)} ms` : "";
  const took = Math.round(seen.finishedAt - seen.beganAt);
  return `Chunk ${seen.chunk} of run ${seen.run}: ${took} ms on the GPU${batch}${waited}, finished ${coming}${late}`;
}
