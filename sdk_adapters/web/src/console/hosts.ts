/** Hosts, their GPUs, and what is booked on them. Pure. */
import { bytes } from "../shared/format";
import { count, percent } from "./format";
import type { Actor } from "./wire";

/** A host with the actors on it. */
export interface Host {
  readonly name: string;
  readonly actors: readonly Actor[];
  /** Encode-milliseconds per second that are booked on it. */
  readonly encodeMs: number;
}

const NATURAL = new Intl.Collator("en", { numeric: true });

/** Returns the hosts by name, the actors of each by their GPU and then by id. */
export function hostsOf(actors: Iterable<Actor>): readonly Host[] {
  const those = new Map<string, Actor[]>();
  for (const actor of actors) {
    const host = those.get(actor.host);
    if (host === undefined) those.set(actor.host, [actor]);
    else host.push(actor);
  }
  return [...those]
    .sort(([one], [other]) => NATURAL.compare(one, other))
    .map(([name, on]) => ({
      name,
      actors: on.sort((one, other) => NATURAL.compare(one.gpus, other.gpus) || NATURAL.compare(one.id, other.id)),
      encodeMs: on.reduce((sum, actor) => sum + actor.encodeMs, 0),
    }));
}

/** Returns the names of hosts without the words with which all of them begin: "gpu-host-1" is "1". */
export function shortNames(names: ReadonlySet<string>): ReadonlyMap<string, string> {
  const all = [...names];
  let common = all[0] ?? "";
  for (const name of all) while (!name.startsWith(common)) common = common.slice(0, -1);
  // Whole words alone; and something must be left.
  const cut = all.length < 2 ? 0 : common.search(/[^-._]*$/);
  return new Map(all.map((name) => [name, name.slice(cut) || name]));
}

/** Returns what an actor is called on its host: "GPU 0"; by its id where it has no GPU to itself. */
export function deviceOf(actor: Actor): string {
  return actor.gpus === "" ? `Actor ${actor.id}` : `GPU ${actor.gpus}`;
}

/** A ledger as a bar: shares of its length, and its figures. */
export interface Booked {
  readonly filled: number;
  readonly others: number;
  readonly ceiling: number;
  readonly figure: string;
  readonly words: string;
}

/** Returns the ledger of memory. `taken` are the places that are taken. */
export function memoryOf(actor: Actor, taken: number): Booked {
  const bySlots = actor.slots > 0 ? taken / actor.slots : 0;
  const byBytes = actor.residentBytes > 0 ? actor.bookedBytes / actor.residentBytes : 0;
  const inBytes = actor.residentBytes > 0 ? `, ${bytes(actor.bookedBytes)} of ${bytes(actor.residentBytes)}` : "";
  return {
    filled: Math.max(bySlots, byBytes),
    others: 0,
    ceiling: 1,
    figure: `${count(taken)} / ${count(actor.slots)}`,
    words: `${count(taken)} of ${count(actor.slots)} places${inBytes}`,
  };
}

/** Milliseconds of a second. */
const SECOND = 1000;

/** Returns the ledger of compute: against all of a second, with the ceiling as a mark. */
export function computeOf(actor: Actor): Booked {
  const whole = Math.max(SECOND, actor.ceilingMs);
  const [booked, ceiling] = [actor.bookedMs / whole, actor.ceilingMs / whole];
  return {
    filled: booked,
    others: 0,
    ceiling,
    figure: `${percent(booked)} / ${percent(ceiling)}`,
    words: `${Math.round(actor.bookedMs)} of ${Math.round(actor.ceilingMs)} ms per second booked, ceiling ${percent(ceiling)}`,
  };
}

/** Returns the ledger of encoding, which the actors of a host share. */
export function encodingOf(actor: Actor, host: Host): Booked {
  const whole = actor.encodeCeilingMs;
  if (whole <= 0) return { filled: 0, others: 0, ceiling: 1, figure: "not counted", words: "not counted" };
  const [own, all] = [actor.encodeMs / whole, host.encodeMs / whole];
  return {
    filled: own,
    others: Math.max(0, all - own),
    ceiling: 1,
    figure: `${percent(all)}`,
    words:
      `${Math.round(actor.encodeMs)} ms per second booked here, ${Math.round(host.encodeMs)} of ${Math.round(whole)} ` +
      `on the whole host`,
  };
}
