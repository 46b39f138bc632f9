/** The pool as a picture: hosts, their GPUs, and the sessions on them. */
import type { VNode } from "preact";
import { useRef } from "preact/hooks";
import { counted } from "../format";
import type { Host } from "../hosts";
import { actors, hosts, made, pool } from "../state";
import type { Actor } from "../wire";
import { GpuCard } from "./GpuCard";

interface Rendered {
  readonly actor: Actor;
  readonly touched: number;
  readonly encodeMs: number;
  readonly card: VNode;
}

/** All hosts. A card is rendered again only when its actor or the sessions on it have changed, once a second at most. */
export function Picture() {
  const cards = useRef(new Map<string, Rendered>());
  const second = useRef(-1);
  const isNewSecond = second.current !== made.value;
  second.current = made.value;
  const cardOf = (actor: Actor, host: Host): VNode => {
    const touched = pool.touched(actor.id);
    const before = cards.current.get(actor.id);
    const isSame = before?.actor === actor && before.encodeMs === host.encodeMs;
    if (before !== undefined && isSame && (before.touched === touched || !isNewSecond)) return before.card;
    const card = <GpuCard key={actor.id} actor={actor} host={host} isNamed={models.size > 1} />;
    cards.current.set(actor.id, { actor, touched, encodeMs: host.encodeMs, card });
    return card;
  };
  const models = new Set(actors.value.map(({ model }) => model));
  for (const id of cards.current.keys()) if (!pool.actors.has(id)) cards.current.delete(id);
  if (hosts.value.length === 0) return <p class="nothing muted">No actor serves. Sessions wait until one comes.</p>;
  return (
    <div class="hosts">
      {hosts.value.map((host) => (
        <section key={host.name} class="host" aria-label={`Host ${host.name}`}>
          <header class="host-head">
            <h3>{host.name || "Unknown host"}</h3>
            <span class="muted small">
              {counted(host.actors.length, "actor")} · {counted(sessionsOn(host), "session")}
              {models.size === 1 && ` · ${[...models][0]}`}
            </span>
          </header>
          <div class="gpus">{host.actors.map((actor) => cardOf(actor, host))}</div>
        </section>
      ))}
    </div>
  );
}

function sessionsOn(host: Host): number {
  return host.actors.reduce((sum, actor) => sum + pool.placesOf(actor.id).taken, 0);
}
