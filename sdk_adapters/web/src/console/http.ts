/** The operators' routes, as the page asks them. */
import { ask } from "../shared/credentials";
import { ProblemError } from "../shared/problems";
import { json, send } from "../shared/request";
import type { Asking } from "./feed";
import { EventReader } from "./sse";
import { drainOf, eventOf, list, object, sessionOf, usageOf, type DrainProgress, type PoolEvent, type Session, type UsagePage } from "./wire";
import type { UsageBy } from "./metering";

const NOT_ALLOWED = "This token may not look at the pool: sign in with one that has the scope operator.";

/** Asks for another token where one may not do this; 401 is asked for by `send`. */
async function allowed<T>(request: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof ProblemError) || error.status !== 403) throw error;
      await ask(NOT_ALLOWED);
    }
  }
}

/** What the feed asks through. */
export const ASKING: Asking = {
  json: (path, signal) => allowed(() => json<unknown>(path, { signal })),
  stream: async (path, headers, signal) => text(await allowed(() => send(path, { headers, signal }))),
  now: () => Date.now(),
  pause: (ms, signal) =>
    new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done);
    }),
};

function text(response: Response): ReadableStream<string> {
  if (response.body === null) throw new ProblemError("the service sent nothing", "Try again.");
  return response.body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array<ArrayBuffer>>);
}

/** Yields the events of a stream, parsed. */
async function* eventsOf(response: Response): AsyncGenerator<{ name: string; data: unknown }> {
  const [events, reader] = [new EventReader(), text(response).getReader()];
  try {
    for (;;) {
      const piece = await reader.read();
      if (piece.done) return;
      for (const event of events.push(piece.value)) yield { name: event.name, data: JSON.parse(event.data) };
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** Returns a session and what the journal still has of it. */
export async function describeSession(
  id: string,
  signal: AbortSignal,
): Promise<{ session: Session; events: readonly PoolEvent[] }> {
  const told = object(await json<unknown>(`/operator/sessions/${encodeURIComponent(id)}`, { signal }));
  return { session: sessionOf(told["session"], Date.now()), events: list(told["events"]).map(eventOf) };
}

/** Ends a session; its clients read the reason. */
export async function endSession(id: string, reason: string): Promise<void> {
  const query = reason === "" ? "" : `?${new URLSearchParams({ reason })}`;
  await send(`/operator/sessions/${encodeURIComponent(id)}${query}`, { method: "DELETE" });
}

/** Empties an actor, or ends its drain; yields how far it has come. Leaving it does not end the drain. */
export async function* drain(
  actor: string,
  how: { readonly grace_s?: number; readonly cancel?: true },
  signal: AbortSignal,
): AsyncGenerator<DrainProgress> {
  const path = `/operator/actors/${encodeURIComponent(actor)}/drain`;
  const response = await send(path, { method: "POST", body: how, signal });
  for await (const { name, data } of eventsOf(response)) if (name === "progress") yield drainOf(data);
}

/** Yields the words of a session's trace. */
export async function* traceOf(id: string, signal: AbortSignal): AsyncGenerator<{ name: string; data: unknown }> {
  yield* eventsOf(await send(`/operator/sessions/${encodeURIComponent(id)}/trace`, { signal }));
}

/** What usage is asked for. */
export interface UsageAsked {
  readonly by: UsageBy;
  readonly tenant?: string;
  readonly session?: string;
  /** Seconds since 1970. */
  readonly since?: number;
  readonly until?: number;
}

/** Pages of usage that are read at most, of 1,000 rows each. */
const MOST_PAGES = 50;

/** Returns usage, all pages of it. */
export async function readUsage(asked: UsageAsked, signal: AbortSignal): Promise<UsagePage> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) if (value !== undefined && value !== "") query.set(name, String(value));
  let page = usageOf(await json<unknown>(`/operator/usage?${query}`, { signal }));
  const rows = [...page.rows];
  for (let pages = 1; page.next !== "" && pages < MOST_PAGES; pages += 1) {
    query.set("page_token", page.next);
    page = usageOf(await json<unknown>(`/operator/usage?${query}`, { signal }));
    rows.push(...page.rows);
  }
  return { ...page, rows };
}
