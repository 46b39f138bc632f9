/** Beside the picture: the queue, the parked, and what happens. */
import { signal } from "@preact/signals";
import { count } from "../format";
import { parked, waiting } from "../state";
import { EventLog } from "./EventLog";
import { Parked } from "./Parked";
import { Queue } from "./Queue";
import { Tabs } from "./Tabs";

type Part = "queue" | "parked" | "events";

const part = signal<Part>("events");

const PARTS: Readonly<Record<Part, () => preact.JSX.Element>> = { queue: Queue, parked: Parked, events: EventLog };

/** One of the three at a time. */
export function Side() {
  const Shown = PARTS[part.value];
  const tabs = {
    events: "Events",
    queue: <Counted name="Queue" value={waiting.value.length} isAlarm />,
    parked: <Counted name="Parked" value={parked.value.length} />,
  };
  return (
    <section class="panel side" aria-label="Queue, parked sessions and events">
      <Tabs label="Queue, parked sessions and events" tabs={tabs} chosen={part.value} onChoose={(name) => (part.value = name)}>
        <Shown />
      </Tabs>
    </section>
  );
}

function Counted({ name, value, isAlarm = false }: { name: string; value: number; isAlarm?: boolean }) {
  return (
    <>
      {name} <span class={`tab-count number ${isAlarm && value > 0 ? "alarm" : ""}`}>{count(value)}</span>
    </>
  );
}
