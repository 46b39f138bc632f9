/** The names of the lanes, and how many of their chunks were late. */
import { counted } from "../format";
import { deviceOf, shortNames } from "../hosts";
import { actor as chosenActor, chunks, clock, made, view } from "../state";
import { lanesOf } from "../timeline";
import type { Actor } from "../wire";

/** Chunks of this long are counted. */
const COUNTED_MS = 20_000;
/** From this share of late chunks on people see it; the alert `SanaChunksLate` says the same. */
const ALARMING = 0.05;

interface Given {
  readonly actors: readonly Actor[];
  readonly room: number;
  readonly height: number;
}

/** Buttons: each lists the sessions on its GPU. */
export function LaneLabels({ actors, room, height }: Given) {
  made.value;
  const since = clock.at(Date.now()) - COUNTED_MS;
  const names = shortNames(new Set(actors.map(({ host }) => host)));
  const lanes = lanesOf(
    actors.map(({ id }) => id),
    room,
  );
  return (
    <div class="lane-labels" style={{ height: `${height}px` }}>
      {lanes.map((lane, index) => {
        const actor = actors[index] as Actor;
        const { chunks: all, late } = chunks.tally(actor.id, since);
        return (
          <button
            key={actor.id}
            type="button"
            class={`lane-label ${lane.height < 40 ? "low" : ""}`}
            style={{ top: `${lane.top}px`, height: `${lane.height}px` }}
            title={`${actor.host} · ${deviceOf(actor)} · ${actor.id}: ${counted(all, "chunk")} in 20 s, ${late} late`}
            onClick={() => {
              chosenActor.value = actor.id;
              view.value = "sessions";
            }}
          >
            <span class="clip">
              <span class="wide-name">{actor.host}</span>
              <span class="narrow-name">{names.get(actor.host)}</span> · {deviceOf(actor)}
            </span>
            <span class={`number ${late > ALARMING * all ? "late-count" : "muted"}`}>{late > 0 ? `${late} late` : "in time"}</span>
          </button>
        );
      })}
    </div>
  );
}
