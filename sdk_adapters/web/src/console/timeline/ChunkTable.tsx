/** The timeline as a table. */
import { count, percent } from "../format";
import { deviceOf } from "../hosts";
import { chunks, clock, made } from "../state";
import type { Actor } from "../wire";

/** One row a GPU, over the time that the canvas would show. */
export function ChunkTable({ actors, seconds }: { actors: readonly Actor[]; seconds: number }) {
  made.value;
  const since = clock.at(Date.now()) - seconds * 1000;
  return (
    <div class="table-room" tabIndex={0} role="group" aria-label={`Chunks of the last ${seconds} seconds`}>
      <table class="figures-table">
        <thead>
          <tr>
            {["Actor", "Chunks", "Late", "Share late", "Least time left", "Median call", "Not told"].map((head) => (
              <th key={head} scope="col">
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {actors.map((actor) => {
            const { chunks: all, late, leastSlackMs } = chunks.tally(actor.id, since);
            const call = chunks.medianCallMs(actor.id, since);
            return (
              <tr key={actor.id}>
                <th scope="row">
                  {actor.host} · {deviceOf(actor)} {actor.gpus !== "" && <span class="muted mono">{actor.id}</span>}
                </th>
                <td>{count(all)}</td>
                <td class={late > 0 ? "late-count" : ""}>{count(late)}</td>
                <td>{all > 0 ? percent(late / all) : "–"}</td>
                <td>{leastSlackMs === null ? "–" : `${Math.round(leastSlackMs)} ms`}</td>
                <td>{call === null ? "–" : `${Math.round(call)} ms`}</td>
                <td>{count(chunks.tracks.get(actor.id)?.omitted ?? 0)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
