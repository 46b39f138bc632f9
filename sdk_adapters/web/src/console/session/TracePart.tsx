/** The traces of a session as they come. Nothing is recorded while nobody follows. */
import { useEffect, useState } from "preact/hooks";
import { duration } from "../../shared/format";
import { problemOf } from "../../shared/problems";
import { clock, count } from "../format";
import { traceOf } from "../http";
import { placementOf, spansOf, Traces, waterfallOf, type Span, type Waterfall as Fall } from "../trace";
import { eventOf, type PoolEvent } from "../wire";
import { Waterfall } from "./Waterfall";

/** What is followed, and what came of it. */
interface Followed {
  readonly falls: readonly Fall[];
  readonly omitted: number;
  readonly ended: string;
}

const NOTHING: Followed = { falls: [], omitted: 0, ended: "" };
/** Waterfalls that are listed at most. */
const LISTED = 30;

/** Follows while it is shown and not held. */
export function TracePart({ session }: { session: string }) {
  const [followed, setFollowed] = useState(NOTHING);
  const [isHeld, setHeld] = useState(false);
  const [open, setOpen] = useState("");
  useEffect(() => {
    if (isHeld) return;
    const stop = new AbortController();
    void follow(session, stop.signal, setFollowed);
    return () => stop.abort();
  }, [session, isHeld]);
  const shown = open || followed.falls.find((fall) => fall.isWhole)?.traceId || followed.falls[0]?.traceId;
  return (
    <div class="trace">
      <div class="list-tools">
        <span class="small muted">
          {followed.ended || (isHeld ? "Held." : "Recorded while this is open, told twice a second.")}
          {followed.omitted > 0 && ` ${count(followed.omitted)} spans were left out.`}
        </span>
        <span class="spring" />
        <button class="button quiet" type="button" aria-pressed={isHeld} onClick={() => setHeld(!isHeld)}>
          {isHeld ? "Follow" : "Hold"}
        </button>
      </div>
      {followed.falls.length === 0 && !followed.ended && (
        <p class="nothing muted">Waiting for the next command or chunk of this session…</p>
      )}
      <ul class="falls">
        {followed.falls.slice(0, LISTED).map((fall) => (
          <li key={fall.traceId}>
            <button
              class="fall-head"
              type="button"
              aria-expanded={fall.traceId === shown}
              onClick={() => {
                setHeld(true);
                setOpen(fall.traceId);
              }}
            >
              <span class={`gravity ${fall.failed ? "bad" : "plain"}`} aria-hidden="true" />
              <span class="clip">{fall.title}</span>
              <span class="muted number">
                {clock(fall.beganAt).slice(0, 8)} · {duration(fall.durationMs)}
              </span>
            </button>
            {fall.traceId === shown && <Waterfall fall={fall} />}
          </li>
        ))}
      </ul>
    </div>
  );
}

async function follow(session: string, signal: AbortSignal, hear: (followed: Followed) => void): Promise<void> {
  const traces = new Traces();
  let placed: readonly Span[] = [];
  const tell = (ended: string) => {
    const falls = [...traces.ids().map((id) => traces.spans(id)), ...(placed.length > 0 ? [placed] : [])].map(waterfallOf);
    hear({ falls, omitted: traces.omitted, ended });
  };
  try {
    tell("");
    const events: PoolEvent[] = [];
    for await (const { name, data } of traceOf(session, signal)) {
      if (name === "spans") {
        const { spans, omitted } = spansOf(data);
        traces.add(spans, omitted);
      } else if (placed.length === 0) {
        events.push(eventOf(data));
        placed = placementOf(events);
      }
      tell("");
    }
    tell("The service has ended the trace.");
  } catch (error) {
    if (!signal.aborted) tell(`${problemOf(error).title}.`);
  }
}
