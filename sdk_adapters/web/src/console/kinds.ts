/** Kinds of events in words, and in groups to filter by. Pure. */
import { percent } from "./format";
import type { PoolEvent } from "./wire";

/** How grave an event is. */
export type Gravity = "bad" | "warn" | "good" | "plain";

interface Kind {
  readonly label: string;
  readonly gravity: Gravity;
}

/** All kinds; one that is not here is of a later version of the service. */
export const KINDS: Readonly<Record<string, Kind>> = {
  scheduler_started: { label: "Scheduler started", gravity: "warn" },
  actor_enrolled: { label: "Actor enrolled", gravity: "good" },
  actor_lost: { label: "Actor lost", gravity: "bad" },
  actor_draining: { label: "Actor draining", gravity: "warn" },
  actor_kept: { label: "Actor kept", gravity: "good" },
  actor_retired: { label: "Actor retired", gravity: "plain" },
  actor_repurposed: { label: "Actor repurposed", gravity: "plain" },
  gateway_linked: { label: "Gateway linked", gravity: "good" },
  gateway_lost: { label: "Gateway lost", gravity: "bad" },
  session_queued: { label: "Queued", gravity: "warn" },
  session_assigned: { label: "Assigned", gravity: "plain" },
  session_placed: { label: "Placed", gravity: "plain" },
  session_restored: { label: "Restored", gravity: "good" },
  session_moving: { label: "Moving", gravity: "plain" },
  session_moved: { label: "Moved", gravity: "plain" },
  session_stayed: { label: "Stayed", gravity: "warn" },
  session_awaits_room: { label: "Awaits room", gravity: "warn" },
  session_parked: { label: "Parked", gravity: "plain" },
  session_lost: { label: "Lost", gravity: "bad" },
  session_released: { label: "Released", gravity: "plain" },
  session_computing: { label: "Generating", gravity: "plain" },
  session_idle: { label: "Idle", gravity: "plain" },
  session_degraded: { label: "Degraded", gravity: "warn" },
  session_full_quality: { label: "Full quality", gravity: "good" },
  admission_rejected: { label: "Rejected", gravity: "bad" },
  compute_refused: { label: "Compute refused", gravity: "bad" },
};

/** What the log can be narrowed to. */
export type Group = "all" | "trouble" | "sessions" | "actors";
export const GROUPS: Readonly<Record<Group, string>> = {
  all: "All",
  trouble: "Trouble",
  sessions: "Sessions",
  actors: "Actors",
};

const IN: Readonly<Record<Group, (event: PoolEvent) => boolean>> = {
  all: () => true,
  trouble: (event) => ["bad", "warn"].includes(gravityOf(event.kind)),
  sessions: (event) => event.session !== "",
  actors: (event) => event.session === "",
};

/** Returns what happened, in words. */
export function labelOf(kind: string): string {
  return KINDS[kind]?.label ?? kind.replaceAll("_", " ");
}

/** Returns how grave it is. */
export function gravityOf(kind: string): Gravity {
  return KINDS[kind]?.gravity ?? "plain";
}

/** Tells whether an event is in a group and has the words somewhere. */
export function isWanted(event: PoolEvent, group: Group, words: string): boolean {
  if (!IN[group](event)) return false;
  const wanted = words.trim().toLowerCase();
  if (wanted === "") return true;
  const told = [labelOf(event.kind), event.kind, event.session, event.tenant, event.actor, event.fromActor, event.gateway];
  return [...told, event.reason, event.model].some((each) => each.toLowerCase().includes(wanted));
}

/** Says where it happened and why, in one line. */
export function detailOf(event: PoolEvent): string {
  const told: string[] = [];
  if (event.fromActor !== "") told.push(`from ${event.fromActor}`);
  if (event.actor !== "" && event.actor !== event.fromActor) told.push(`at ${event.actor}`);
  if (event.gateway !== "") told.push(`gateway ${event.gateway}`);
  if (event.rate > 0 && event.rate < 1) told.push(`${percent(event.rate)} of the frames`);
  if (event.steps > 0) told.push(`${event.steps} steps`);
  if (event.reason !== "") told.push(event.reason);
  return told.join(" · ");
}
