/** Drains that were begun here, and how far they have come. */
import { signal } from "@preact/signals";
import { report, reportError } from "../shared/problems";
import { counted } from "./format";
import { drain } from "./http";
import type { DrainProgress } from "./wire";

/** A drain under way. */
export interface Drain {
  /** Sessions that were on the actor when it began. */
  readonly of: number;
  /** Null: nothing was told yet. */
  readonly progress: DrainProgress | null;
}

/** By actor. */
export const drains = signal<ReadonlyMap<string, Drain>>(new Map());

/**
 * Empties an actor, and follows it to the end.
 *
 * @param sessions Sessions on it now.
 * @param graceS Seconds until its process ends come what may; null: it waits for room for ever.
 */
export async function begin(actor: string, sessions: number, graceS: number | null): Promise<void> {
  set(actor, { of: sessions, progress: null });
  try {
    let last: DrainProgress | null = null;
    for await (const progress of drain(actor, graceS === null ? {} : { grace_s: graceS }, NEVER)) {
      last = progress;
      set(actor, { of: Math.max(sessions, progress.remaining), progress });
    }
    report({ title: endOf(actor, last), advice: "", note: true });
  } catch (error) {
    reportError(error);
  } finally {
    set(actor, null);
  }
}

/** Lets an actor take sessions again. */
export async function cancel(actor: string): Promise<void> {
  try {
    for await (const progress of drain(actor, { cancel: true }, NEVER)) if (progress.cancelled) break;
  } catch (error) {
    reportError(error);
  }
}

const NEVER = new AbortController().signal;

function endOf(actor: string, last: DrainProgress | null): string {
  if (last?.cancelled) return `${actor} takes sessions again`;
  if (last?.lost) return `${actor} was lost: what was on it goes on elsewhere`;
  if (last !== null && last.remaining > 0) return `The drain of ${actor} goes on: ${counted(last.remaining, "session")} left`;
  return `${actor} is empty`;
}

function set(actor: string, drained: Drain | null): void {
  const all = new Map(drains.peek());
  if (drained === null) all.delete(actor);
  else all.set(actor, drained);
  drains.value = all;
}
