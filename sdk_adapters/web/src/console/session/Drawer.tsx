/** One session: where it is, what became of it, its traces, what it has used; and its end. */
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { Icon } from "../../shared/Icon";
import { PhaseMark } from "../PhaseMark";
import { asked } from "../asked";
import { age } from "../format";
import { deviceOf } from "../hosts";
import { describeSession } from "../http";
import { Tabs } from "../lists/Tabs";
import { isDegraded, PHASES, phaseOf } from "../phases";
import { qualityOf } from "../picture/Cells";
import { journal, logged, now, openSession, pool, shown } from "../state";
import type { PoolEvent, Session } from "../wire";
import { EventsPart } from "./EventsPart";
import { TracePart } from "./TracePart";
import { UsagePart } from "./UsagePart";

type Part = "events" | "trace" | "usage";

const PARTS: Readonly<Record<Part, string>> = { events: "Events", trace: "Trace", usage: "Metering" };
const part = signal<Part>("events");

/** Is there while a session is chosen. Escape closes it and gives the focus back. */
export function Drawer() {
  const id = openSession.value;
  return id === "" ? null : <Shown key={id} id={id} />;
}

function Shown({ id }: { id: string }) {
  const box = useRef<HTMLElement>(null);
  shown.value;
  const { told, gone } = useStory(id);
  const live = pool.sessions.get(id);
  const session = live ?? told?.session;
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    box.current?.focus();
    return () => before?.isConnected && before.focus();
  }, []);
  return (
    <aside
      ref={box}
      class="drawer"
      aria-label={`Session ${id}`}
      tabIndex={-1}
      onKeyDown={(event) => {
        if (event.key === "Escape" && !event.defaultPrevented) openSession.value = "";
      }}
    >
      <header class="drawer-head">
        <div class="two-lines">
          <h2>Session</h2>
          <span class="mono break">{id}</span>
        </div>
        <button class="button quiet icon" type="button" aria-label="Close" onClick={() => (openSession.value = "")}>
          <Icon name="close" />
        </button>
      </header>
      {session === undefined ? (
        <p class="nothing muted">{gone || "Asking…"}</p>
      ) : (
        <Facts session={session} isOver={live === undefined} />
      )}
      <Tabs label="About this session" tabs={PARTS} chosen={part.value} onChoose={(name) => (part.value = name)}>
        {part.value === "events" && <EventsPart events={told?.events ?? []} />}
        {part.value === "trace" && <TracePart session={id} />}
        {part.value === "usage" && <UsagePart session={id} />}
      </Tabs>
    </aside>
  );
}

function Facts({ session, isOver }: { session: Session; isOver: boolean }) {
  const doing = phaseOf(session);
  const actor = pool.actors.get(session.actor);
  const facts: readonly (readonly [string, string])[] = [
    ["Tenant", session.tenant || "none"],
    ["Model", session.model],
    ["Where", session.actor === "" ? "on no actor" : actor ? `${actor.host} · ${deviceOf(actor)}` : session.actor],
    ...(session.actor === "" ? [] : [["Actor", session.actor] as const]),
    ...(session.target === "" ? [] : [["Goes to", session.target] as const]),
    ["Age", age(now.value - session.createdAt)],
    ["Quality", isDegraded(session) ? qualityOf(session) : "full"],
    ...(session.position > 0 ? [["Place in the queue", String(session.position)] as const] : []),
    ...(session.waitMs === null ? [] : [["Has a place in about", age(session.waitMs)] as const]),
  ];
  return (
    <div class="drawer-facts">
      <p class="drawer-doing">
        {isOver ? (
          <span class="pill">Over</span>
        ) : (
          <span class="phase-cell" title={PHASES[doing].meaning}>
            <PhaseMark phase={doing} /> <strong>{PHASES[doing].label}</strong>
          </span>
        )}
        <span class="spring" />
        {!isOver && (
          <button class="button danger" type="button" onClick={() => (asked.value = { is: "kill", session: session.id })}>
            End session…
          </button>
        )}
      </p>
      <dl class="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd class="break">{value}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

interface Story {
  readonly told: { readonly session: Session; readonly events: readonly PoolEvent[] } | null;
  readonly gone: string;
}

/** Asks once, and adds what comes after. */
function useStory(id: string): Story {
  const [story, setStory] = useState<Story>({ told: null, gone: "" });
  useEffect(() => {
    const stop = new AbortController();
    describeSession(id, stop.signal).then(
      (told) => setStory({ told, gone: "" }),
      () => !stop.signal.aborted && setStory({ told: null, gone: "There is no such session any more." }),
    );
    return () => stop.abort();
  }, [id]);
  const upTo = logged.value;
  const since = story.told?.events.at(-1)?.sequence ?? 0;
  const newer: PoolEvent[] = [];
  for (const entry of journal.log) {
    if (entry.is === "event" && entry.event.session === id && entry.event.sequence > since && entry.event.sequence <= upTo) {
      newer.push(entry.event);
    }
  }
  if (story.told === null) return newer.length === 0 ? story : { told: { session: lastOf(id, newer), events: newer }, gone: "" };
  return { ...story, told: { ...story.told, events: [...story.told.events, ...newer] } };
}

/** What is known of a session that is over, from its events alone. */
function lastOf(id: string, events: readonly PoolEvent[]): Session {
  const last = events.at(-1);
  return {
    id,
    tenant: last?.tenant ?? "",
    model: last?.model ?? "",
    state: "unknown",
    actor: last?.actor ?? "",
    target: "",
    computing: false,
    createdAt: events[0]?.at ?? Date.now(),
    rate: 1,
    steps: 0,
    position: 0,
    waitMs: null,
    priority: 0,
  };
}
