/** Sessions on no actor: kept until somebody needs them, or waiting because theirs is gone. */
import { PhaseMark } from "../PhaseMark";
import { age } from "../format";
import { PHASES, phaseOf } from "../phases";
import { now, parked } from "../state";
import { SessionLink } from "./SessionLink";
import { VirtualList } from "./VirtualList";

/** Session, whose, and for how long it has been there. */
export function Parked() {
  const those = parked.value;
  return (
    <VirtualList
      label="Sessions on no actor"
      count={those.length}
      rowHeight={48}
      empty="No session is parked, and none has lost its actor."
      row={(index, place) => {
        const session = those[index];
        if (session === undefined) return null;
        return (
          <div key={session.id} {...place} class="list-row">
            <span role="cell" class="phase-cell">
              <PhaseMark phase={phaseOf(session)} />
              <span class="hidden-text">{PHASES[phaseOf(session)].label}</span>
            </span>
            <span role="cell" class="two-lines">
              <SessionLink id={session.id} />
              <span class="muted small clip">{session.tenant || "no tenant"}</span>
            </span>
            <span role="cell" class="two-lines end">
              <span class="clip">{session.model}</span>
              <span class="muted small">made {age(now.value - session.createdAt)} ago</span>
            </span>
          </div>
        );
      }}
    />
  );
}
