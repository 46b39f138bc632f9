/** All sessions as a table: the picture for who does not see it, and a list to search. */
import { useMemo } from "preact/hooks";
import { Icon } from "../../shared/Icon";
import { PhaseMark } from "../PhaseMark";
import { age, counted } from "../format";
import { isDegraded, PHASE_NAMES, PHASES, phaseOf, type Phase } from "../phases";
import { qualityOf } from "../picture/Cells";
import { actor, chosen, clearFilters, counts, isFiltered, now, phase, pool, shown, tenant, words } from "../state";
import type { Session } from "../wire";
import { SessionLink } from "./SessionLink";
import { VirtualList } from "./VirtualList";

const HEADS = ["Session", "Phase", "Tenant", "Model", "Actor", "Quality", "Age", "Queue"] as const;

/** The chosen sessions, and what they are chosen by. */
export function Sessions() {
  const those = chosen.value;
  return (
    <section class="panel whole" aria-label="Sessions">
      <div class="list-tools">
        <h2>{counted(those.length, "session")}</h2>
        <label class="choice">
          <span>Phase</span>
          <select
            class="input slim"
            value={phase.value ?? ""}
            onChange={(event) => (phase.value = (event.currentTarget.value || null) as Phase | null)}
          >
            <option value="">all phases</option>
            {PHASE_NAMES.map((name) => (
              <option key={name} value={name}>
                {PHASES[name].label} ({counts.value[name]})
              </option>
            ))}
          </select>
        </label>
        <Choice label="Tenant" all="all tenants" value={tenant} options={tenants()} />
        <Choice label="Actor" all="all actors" value={actor} options={[...pool.actors.keys()].sort()} />
        <label class="choice">
          <span>Words</span>
          <input
            class="input slim"
            type="search"
            placeholder="id, tenant, model"
            value={words.value}
            onInput={(event) => (words.value = event.currentTarget.value)}
          />
        </label>
        {isFiltered.value && (
          <button class="button quiet" type="button" onClick={clearFilters}>
            <Icon name="close" size={16} /> Show all
          </button>
        )}
      </div>
      <VirtualList
        label="Sessions"
        class="sessions"
        count={those.length}
        rowHeight={44}
        empty={pool.sessions.size === 0 ? "There are no sessions." : "No session is like that."}
        head={HEADS.map((head) => (
          <span key={head} role="columnheader">
            {head}
          </span>
        ))}
        row={(index, place) => {
          const session = those[index];
          if (session === undefined) return null;
          return (
            <div key={session.id} {...place} class="list-row">
              {cellsOf(session).map((cell, column) => (
                <span key={HEADS[column]} role="cell" class="clip" data-head={HEADS[column]}>
                  {cell}
                </span>
              ))}
            </div>
          );
        }}
      />
    </section>
  );
}

interface Options {
  readonly label: string;
  readonly all: string;
  readonly value: { value: string };
  readonly options: readonly string[];
}

function Choice({ label, all, value, options }: Options) {
  // There may be a thousand, and they seldom change.
  const listed = useMemo(
    () =>
      options.map((option) => (
        <option key={option} value={option}>
          {option}
        </option>
      )),
    [options.join("\n")],
  );
  return (
    <label class="choice">
      <span>{label}</span>
      <select class="input slim" value={value.value} onChange={(event) => (value.value = event.currentTarget.value)}>
        <option value="">{all}</option>
        {listed}
      </select>
    </label>
  );
}

function cellsOf(session: Session) {
  const doing = phaseOf(session);
  return [
    <SessionLink key="id" id={session.id} whole />,
    <span key="phase" class="phase-cell">
      <PhaseMark phase={doing} /> {PHASES[doing].label}
    </span>,
    session.tenant || "–",
    session.model,
    session.actor || "–",
    isDegraded(session) ? qualityOf(session) : "full",
    age(now.value - session.createdAt),
    session.position > 0 ? `${session.position}${session.waitMs === null ? "" : `, in ${age(session.waitMs)}`}` : "–",
  ];
}

function tenants(): readonly string[] {
  shown.value;
  const names = new Set<string>();
  for (const session of pool.sessions.values()) if (session.tenant !== "") names.add(session.tenant);
  return [...names].sort();
}
