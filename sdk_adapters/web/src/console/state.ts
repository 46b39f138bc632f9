/**
 * What the page knows and shows. The pool, the journal and the chunks change many times a second and are no signals:
 * canvases look at them frame by frame, and the rest of the page is told of them at most four times a second (`shown`).
 */
import { batch, computed, signal } from "@preact/signals";
import { Chunks } from "./chunks";
import { SchedulerClock } from "./clock";
import type { Link } from "./feed";
import { hostsOf } from "./hosts";
import { Journal } from "./journal";
import { PHASE_NAMES, phaseOf, type Phase } from "./phases";
import { Pool } from "./pool";
import { matches } from "./search";
import type { Session } from "./wire";

export const pool = new Pool();
export const journal = new Journal(pool);
export const chunks = new Chunks();
export const clock = new SchedulerClock();

/** How the console stands with the service. */
export const link = signal<Link>({ is: "connecting" });
/** Version of the pool that the page shows. */
export const shown = signal(0);
/** Sequence up to which the log is shown. */
export const logged = signal(0);
/** Version of the chunks, once a second. */
export const made = signal(0);
/** This machine's clock, once a second. */
export const now = signal(Date.now());

/** The parts of the page. */
export type View = "pool" | "sessions" | "metering";
export const VIEWS: Readonly<Record<View, string>> = { pool: "Pool", sessions: "Sessions", metering: "Metering" };
export const view = signal<View>("pool");

/** The session whose drawer is open; empty: none. */
export const openSession = signal("");
/** What the sessions are searched for. */
export const words = signal("");
/** Only sessions of this tenant; empty: of all. */
export const tenant = signal("");
/** Only sessions on this actor; empty: on all. */
export const actor = signal("");
/** Only sessions that do this; null: all. */
export const phase = signal<Phase | null>(null);

/** Whether sessions are chosen by anything. */
export const isFiltered = computed(
  () => words.value.trim() !== "" || tenant.value !== "" || actor.value !== "" || phase.value !== null,
);

/** Tells whether a session is among the chosen ones, by its words and its tenant. */
export function isChosen(session: Session): boolean {
  return (tenant.peek() === "" || session.tenant === tenant.peek()) && matches(session, words.peek());
}

/** Shows all sessions again. */
export function clearFilters(): void {
  batch(() => {
    words.value = tenant.value = actor.value = "";
    phase.value = null;
  });
}

const NAMES = Object.keys(VIEWS) as readonly View[];

/** Returns what the address says: `#sessions`, `#pool/session=ID`. */
export function readAddress(hash: string): { readonly view: View; readonly session: string } {
  const [name = "", rest = ""] = hash.replace(/^#/, "").split("/", 2);
  const session = /^session=([A-Za-z0-9_-]{1,128})$/.exec(rest)?.[1] ?? "";
  return { view: NAMES.find((each) => each === name) ?? "pool", session };
}

/** Returns the address of what is shown. */
export function addressOf(shownView: View, session: string): string {
  return `#${shownView}${session === "" ? "" : `/session=${session}`}`;
}

/** Counts of sessions by what they do, as the page shows them. */
export const counts = computed(() => {
  shown.value;
  return pool.counts();
});

/** What all the actors that take part can do together, and what is booked of it. */
export const capacity = computed(() => {
  shown.value;
  let [booked, ceiling, slots, healthy, gone] = [0, 0, 0, 0, 0];
  for (const each of pool.actors.values()) {
    booked += each.bookedMs;
    if (each.healthy && !each.draining) ceiling += each.ceilingMs;
    slots += each.slots;
    if (each.healthy) healthy += 1;
    else gone += 1;
  }
  return { booked, ceiling, slots, healthy, gone };
});

/** The hosts with their actors, as the page shows them. */
export const hosts = computed(() => {
  shown.value;
  return hostsOf(pool.actors.values());
});

/** The actors in the order of the picture. */
export const actors = computed(() => hosts.value.flatMap((host) => host.actors));

/** Sessions that wait for a place, the next one first. */
export const waiting = computed(() => {
  shown.value;
  const those = [...pool.sessions.values()].filter((each) => each.state === "queued" || each.position > 0);
  return those.sort((one, other) => turn(one) - turn(other) || one.createdAt - other.createdAt);
});

/** Sessions that are kept on no actor, or wait for one because theirs is gone. */
export const parked = computed(() => {
  shown.value;
  return [...pool.sessions.values()].filter((each) => each.state === "parked" || each.state === "lost");
});

/** The chosen sessions, in the order of their phases and then of their age. */
export const chosen = computed(() => {
  shown.value;
  const [wanted, at] = [phase.value, actor.value];
  // `isChosen` peeks, for the canvases.
  words.value;
  tenant.value;
  const those: Session[] = [];
  for (const session of pool.sessions.values()) {
    if ((at === "" || session.actor === at) && isChosen(session)) those.push(session);
  }
  const of = new Map(those.map((each) => [each, phaseOf(each)] as const));
  return those
    .filter((each) => wanted === null || of.get(each) === wanted)
    .sort(
      (one, other) =>
        ORDER.indexOf(of.get(one) as Phase) - ORDER.indexOf(of.get(other) as Phase) ||
        turn(one) - turn(other) ||
        one.createdAt - other.createdAt,
    );
});

/** Those whom something ails come first. */
const ORDER: readonly Phase[] = ["lost", "queued", ...PHASE_NAMES.filter((name) => name !== "lost" && name !== "queued")];

function turn(session: Session): number {
  return session.position > 0 ? session.position : Number.MAX_SAFE_INTEGER;
}
