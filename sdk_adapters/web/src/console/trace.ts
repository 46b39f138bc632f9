/** Traces of a session, and their waterfalls. Pure but for their state; times in milliseconds. */
import { list, number, object, text, timeMs, type PoolEvent } from "./wire";

/** Something that took time. */
export interface Span {
  readonly traceId: string;
  readonly id: string;
  readonly parent: string;
  readonly name: string;
  /** Which process made it: "gateway 3f9c", "actor 77ab", "scheduler". */
  readonly process: string;
  readonly beganAt: number;
  readonly durationMs: number;
  readonly attributes: Readonly<Record<string, string>>;
  /** What it failed with; empty: it did not. */
  readonly error: string;
}

/** Reads the `spans` word of a trace. */
export function spansOf(told: unknown): { readonly spans: readonly Span[]; readonly omitted: number } {
  const word = object(told);
  return { spans: list(word["spans"]).map(spanOf), omitted: number(word["omitted"]) };
}

function spanOf(told: unknown): Span {
  const span = object(told);
  const attributes = Object.entries(object(span["attributes"])).map(([name, value]) => [name, text(value)] as const);
  return {
    traceId: text(span["trace_id"]),
    id: text(span["span_id"]),
    parent: text(span["parent_id"]),
    name: text(span["name"]),
    process: text(span["process"]),
    beganAt: timeMs(span["begin_time"]) ?? 0,
    durationMs: number(span["duration_us"]) / 1000,
    attributes: Object.fromEntries(attributes),
    error: text(span["error"]),
  };
}

/** Trace id under which a session's way to its place is shown. */
const PLACEMENT = "placement";
const STEPS: Readonly<Record<string, { readonly begins: string; readonly ends: boolean }>> = {
  session_queued: { begins: "waits for a place", ends: false },
  session_assigned: { begins: "is taken in", ends: false },
  session_placed: { begins: "", ends: true },
  session_restored: { begins: "", ends: true },
};

/** Returns the way of a session to its first place, from its events, as spans of the scheduler; none if it had none. */
export function placementOf(events: readonly PoolEvent[]): readonly Span[] {
  const told = events.filter(({ kind }) => STEPS[kind] !== undefined);
  const end = told.findIndex(({ kind }) => STEPS[kind]?.ends === true);
  const way = told.slice(0, end + 1);
  const [first, last] = [way[0], way.at(-1)];
  if (first === undefined || last === undefined || first === last) return [];
  const span = (id: string, name: string, from: PoolEvent, to: PoolEvent): Span => ({
    traceId: PLACEMENT,
    id,
    parent: id === PLACEMENT ? "" : PLACEMENT,
    name,
    process: "scheduler",
    beganAt: from.at,
    durationMs: to.at - from.at,
    attributes: {},
    error: "",
  });
  const steps = way.slice(0, -1).map((event, index) => {
    return span(`${PLACEMENT} ${index}`, STEPS[event.kind]?.begins ?? "", event, way[index + 1] as PoolEvent);
  });
  return [span(PLACEMENT, "Placement", first, last), ...steps];
}

/** One line of a waterfall. */
export interface Row {
  readonly span: Span;
  /** How deep below a root. */
  readonly depth: number;
  /** Where it begins and how long it is, as shares of the whole, 0 to 1. */
  readonly left: number;
  readonly width: number;
}

/** A trace as a picture. */
export interface Waterfall {
  readonly traceId: string;
  readonly title: string;
  readonly beganAt: number;
  readonly durationMs: number;
  readonly failed: boolean;
  /** Whether its root is there and has something below it; else it is still under way. */
  readonly isWhole: boolean;
  readonly rows: readonly Row[];
}

/** Bars that are shorter are drawn so wide. */
const LEAST = 0.004;

/** Returns the waterfall of the spans of one trace: parents before their children, these by their begin. */
export function waterfallOf(spans: readonly Span[]): Waterfall {
  const known = new Set(spans.map((span) => span.id));
  const children = new Map<string, Span[]>();
  const roots: Span[] = [];
  for (const span of [...spans].sort((one, other) => one.beganAt - other.beganAt)) {
    // A parent that is not here is the client's, or is still open.
    const siblings = known.has(span.parent) && span.parent !== span.id ? group(children, span.parent) : roots;
    siblings.push(span);
  }
  const began = Math.min(...spans.map((span) => span.beganAt));
  const whole = Math.max(...spans.map((span) => span.beganAt + span.durationMs)) - began;
  const rows: Row[] = [];
  const add = (span: Span, depth: number): void => {
    const left = whole > 0 ? (span.beganAt - began) / whole : 0;
    const width = whole > 0 ? span.durationMs / whole : 1;
    rows.push({ span, depth, left: Math.min(left, 1 - LEAST), width: Math.min(1 - Math.min(left, 1 - LEAST), Math.max(width, LEAST)) });
    for (const child of children.get(span.id) ?? []) add(child, depth + 1);
  };
  for (const root of roots) add(root, 0);
  return {
    traceId: spans[0]?.traceId ?? "",
    title: titleOf(spans),
    beganAt: Number.isFinite(began) ? began : 0,
    durationMs: Number.isFinite(whole) ? whole : 0,
    failed: spans.some((span) => span.error !== ""),
    isWhole: roots.length === 1 && rows.length > 1,
    rows,
  };
}

function titleOf(spans: readonly Span[]): string {
  const command = spans.map((span) => span.attributes["command.name"]).find((name) => name !== undefined);
  if (command !== undefined) return command;
  const chunk = spans.find((span) => span.name === "actor.chunk");
  if (chunk !== undefined) return `Chunk ${chunk.attributes["chunk.index"] ?? "?"} of run ${chunk.attributes["chunk.run"] ?? "?"}`;
  return spans.every(({ name }) => name.startsWith("actor.")) && spans.length > 0 ? "Chunk under way" : (spans[0]?.name ?? "");
}

/** Most traces that are kept of a session, and most spans of one. */
const MOST_TRACES = 60;
const MOST_SPANS = 400;

/** The traces of a session, as they come. */
export class Traces {
  readonly #of = new Map<string, Span[]>();
  #omitted = 0;

  /** Spans that were not told, or had no room here. */
  get omitted(): number {
    return this.#omitted;
  }

  /** Takes spans; the traces that were begun longest ago go where there are too many. */
  add(spans: readonly Span[], omitted = 0): void {
    this.#omitted += omitted;
    for (const span of spans) {
      const those = group(this.#of, span.traceId);
      if (those.length < MOST_SPANS) those.push(span);
      else this.#omitted += 1;
    }
    while (this.#of.size > MOST_TRACES) this.#of.delete(this.#of.keys().next().value as string);
  }

  /** Returns the spans of a trace. */
  spans(traceId: string): readonly Span[] {
    return this.#of.get(traceId) ?? [];
  }

  /** Returns the ids of the traces, the newest first. */
  ids(): readonly string[] {
    return [...this.#of.keys()].reverse();
  }
}

function group<V>(groups: Map<string, V[]>, key: string): V[] {
  let values = groups.get(key);
  if (values === undefined) groups.set(key, (values = []));
  return values;
}
