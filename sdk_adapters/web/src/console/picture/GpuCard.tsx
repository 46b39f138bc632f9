/** One actor as a card: its sessions, its ledgers, and what can be done with it. */
import { asked } from "../asked";
import { cancel, drains } from "../drains";
import { count, counted } from "../format";
import { computeOf, deviceOf, encodingOf, memoryOf, type Host } from "../hosts";
import { PHASES, phaseOf, type Phase } from "../phases";
import { actor as chosenActor, pool, view } from "../state";
import type { Actor } from "../wire";
import { Cells } from "./Cells";
import { Ledger } from "./Ledger";

interface Given {
  readonly actor: Actor;
  readonly host: Host;
  /** Whether its model is named: the pool has several. */
  readonly isNamed: boolean;
}

/** The card of an actor. */
export function GpuCard({ actor, host, isNamed }: Given) {
  const taken = pool.placesOf(actor.id).taken;
  const device = deviceOf(actor);
  const state = !actor.healthy ? "gone" : actor.draining ? "draining" : "";
  return (
    <article class={`gpu ${state}`} aria-label={`${device} of ${host.name}`} data-actor={actor.id}>
      <header class="gpu-head">
        <h4>
          {device} {actor.gpus !== "" && <span class="muted mono">{actor.id}</span>}
        </h4>
        {actor.realTimeFactor > 0 && (
          <span class="gpu-speed muted small number" title="How much faster than real time it computes a window">
            {speed(1 / actor.realTimeFactor)}
          </span>
        )}
        {state === "gone" && <span class="pill bad">Silent</span>}
        {state === "draining" && <span class="pill warn">Draining</span>}
        {state === "" && (
          <button
            class="button quiet small-button"
            type="button"
            aria-label={`Drain ${device} of ${host.name}`}
            onClick={() => (asked.value = { is: "drain", actor })}
          >
            Drain…
          </button>
        )}
      </header>
      {isNamed && (
        <p class="gpu-model muted small clip" title={actor.model}>
          {actor.model}
        </p>
      )}
      <Cells actor={actor.id} slots={actor.slots} label={`Sessions on ${device} of ${host.name}: ${phasesOf(actor.id)}`} />
      <div class="ledgers">
        <Ledger name="Memory" {...memoryOf(actor, taken)} />
        <Ledger name="Compute" {...computeOf(actor)} />
        <Ledger name="Encoding" {...encodingOf(actor, host)} />
      </div>
      <DrainState actor={actor} taken={taken} />
      <button
        class="hidden-text"
        type="button"
        onClick={() => {
          chosenActor.value = actor.id;
          view.value = "sessions";
        }}
      >
        List the {counted(taken, "session")} on {device} of {host.name}
      </button>
    </article>
  );
}

/** How far a drain has come: as it is told where it was begun here, else by who is still there. */
function DrainState({ actor, taken }: { actor: Actor; taken: number }) {
  const drain = drains.value.get(actor.id);
  if (drain === undefined && !actor.draining) return null;
  const remaining = drain?.progress?.remaining ?? taken;
  const of = Math.max(drain?.of ?? 0, remaining, 1);
  const waiting = drain?.progress?.withoutRoom ?? 0;
  return (
    <div class="drain" role="status">
      <progress max={of} value={of - remaining} aria-label={`Drain of ${actor.id}`} />
      <span class="small">
        {remaining === 0 ? "Empty" : `${count(remaining)} left`}
        {waiting > 0 && `, ${count(waiting)} without room elsewhere`}
      </span>
      <button class="button small-button" type="button" onClick={() => void cancel(actor.id)}>
        Stop draining
      </button>
    </div>
  );
}

function phasesOf(actor: string): string {
  const counts = new Map<Phase, number>();
  const places = pool.placesOf(actor);
  for (let place = 0; place < places.length; place += 1) {
    const session = pool.sessions.get(places.at(place) ?? "");
    if (session !== undefined) counts.set(phaseOf(session), (counts.get(phaseOf(session)) ?? 0) + 1);
  }
  if (counts.size === 0) return "none";
  return [...counts].map(([phase, sum]) => `${sum} ${PHASES[phase].label.toLowerCase()}`).join(", ");
}

function speed(times: number): string {
  return `${times < 10 ? times.toFixed(1) : count(times)}×`;
}
