/** What a session does, as the console shows it. Pure. */
import type { LeaseState, Session } from "./wire";

/** What a session does. */
export type Phase =
  | "generating"
  | "idle"
  | "starting"
  | "detached"
  | "moving"
  | "draining"
  | "lost"
  | "queued"
  | "parked";

/** How a cell is drawn, so that a phase is told without its colour, too. */
export type Shape = "full" | "ring" | "half" | "dot" | "arrow" | "slash" | "cross";

/** A phase in words and as a drawing. */
export interface PhaseLook {
  readonly label: string;
  /** What it means, for people. */
  readonly meaning: string;
  /** Custom property of its colour. */
  readonly colour: string;
  readonly shape: Shape;
}

/** All phases, in the order of the legend. */
export const PHASES: Readonly<Record<Phase, PhaseLook>> = {
  generating: {
    label: "Generating",
    meaning: "Holds compute: chunks are made.",
    colour: "--phase-generating",
    shape: "full",
  },
  idle: { label: "Idle", meaning: "Has a place and no compute: paused, or not started.", colour: "--phase-idle", shape: "ring" },
  starting: {
    label: "Starting",
    meaning: "A place is reserved, its actor has not answered yet.",
    colour: "--phase-starting",
    shape: "half",
  },
  detached: {
    label: "Detached",
    meaning: "Has a place and no connection: kept for the reconnect window.",
    colour: "--phase-detached",
    shape: "dot",
  },
  moving: { label: "Moving", meaning: "Leaves its actor for another.", colour: "--phase-moving", shape: "arrow" },
  draining: {
    label: "Draining",
    meaning: "On an actor that is being emptied, waits for room elsewhere.",
    colour: "--phase-draining",
    shape: "slash",
  },
  lost: { label: "Lost", meaning: "Its actor is gone, it waits for another.", colour: "--phase-lost", shape: "cross" },
  queued: { label: "Queued", meaning: "Waits for a place.", colour: "--phase-queued", shape: "half" },
  parked: { label: "Parked", meaning: "Kept on no actor until somebody needs it.", colour: "--phase-parked", shape: "dot" },
};

/** Phases in the order of the legend. */
export const PHASE_NAMES = Object.keys(PHASES) as readonly Phase[];

const OF_STATE: Readonly<Record<LeaseState, Phase>> = {
  queued: "queued",
  assigned: "starting",
  active: "idle",
  detached: "detached",
  parked: "parked",
  moving: "moving",
  draining: "draining",
  lost: "lost",
  unknown: "idle",
};

/** Returns what a session does. */
export function phaseOf(session: Pick<Session, "state" | "computing">): Phase {
  return session.state === "active" && session.computing ? "generating" : OF_STATE[session.state];
}

/** Tells whether a session runs at fewer frames or steps than its model has. */
export function isDegraded(session: Pick<Session, "rate" | "steps">): boolean {
  return session.rate < 1 || session.steps > 0;
}
