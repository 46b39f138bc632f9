/** What became of a session: what the journal still has of it, and what comes. */
import { clock } from "../format";
import { detailOf, gravityOf, labelOf } from "../kinds";
import type { PoolEvent } from "../wire";

/** The newest first. */
export function EventsPart({ events }: { events: readonly PoolEvent[] }) {
  if (events.length === 0) return <p class="nothing muted">The journal has nothing of it any more.</p>;
  return (
    <ol class="story">
      {[...events].reverse().map((event) => (
        <li key={event.sequence}>
          <span class={`gravity ${gravityOf(event.kind)}`} aria-hidden="true" />
          <span class="two-lines">
            <span>{labelOf(event.kind)}</span>
            <span class="muted small">
              <time dateTime={new Date(event.at).toISOString()}>{clock(event.at)}</time>
              {detailOf(event) && ` · ${detailOf(event)}`}
            </span>
          </span>
        </li>
      ))}
    </ol>
  );
}
