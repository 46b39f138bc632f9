/** Who waits for a place, in their order. */
import { age } from "../format";
import { now, pool, waiting } from "../state";
import { SessionLink } from "./SessionLink";
import { VirtualList } from "./VirtualList";

/** Position, session, whose, since when, and for how long still. */
export function Queue() {
  const those = waiting.value;
  const oldest = pool.signals.queueAgeS;
  return (
    <>
      {those.length > 0 && (
        <p class="list-note small muted">
          The first has waited {age(oldest * 1000)}. A higher priority goes first, but waiting counts, too.
        </p>
      )}
      <VirtualList
        label="Sessions that wait for a place"
        class="queue"
        count={those.length}
        rowHeight={48}
        empty="Nobody waits for a place."
        row={(index, place) => {
          const session = those[index];
          if (session === undefined) return null;
          return (
            <div key={session.id} {...place} class="list-row">
              <span role="cell" class="queue-place number">
                {session.position || index + 1}
              </span>
              <span role="cell" class="two-lines">
                <SessionLink id={session.id} />
                <span class="muted small clip">
                  {session.tenant || "no tenant"}
                  {session.priority !== 0 && ` · priority ${session.priority}`}
                </span>
              </span>
              <span role="cell" class="two-lines end">
                <span>{session.waitMs === null ? "no estimate" : `in about ${age(session.waitMs)}`}</span>
                <span class="muted small">waits {age(now.value - session.createdAt)}</span>
              </span>
            </div>
          );
        }}
      />
    </>
  );
}
