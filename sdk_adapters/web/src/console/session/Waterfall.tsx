/** One trace as a waterfall: a line for each span, children below their parents. */
import { duration } from "../../shared/format";
import type { Waterfall as Fall } from "../trace";

/** Deeper spans are not moved further to the right. */
const DEEPEST = 6;

/** A table by its roles: name and process, then the bar, then how long it took. */
export function Waterfall({ fall }: { fall: Fall }) {
  return (
    <div class="fall" role="table" aria-label={`Trace ${fall.traceId}`}>
      {fall.rows.map(({ span, depth, left, width }) => {
        const told = Object.entries(span.attributes).map(([name, value]) => `${name} = ${value}`);
        const title = [span.name, span.process, ...told, span.error && `failed: ${span.error}`].filter(Boolean).join("\n");
        return (
          <div key={span.id} class="fall-row" role="row" title={title}>
            <span role="cell" class="fall-name clip" style={{ paddingLeft: `${Math.min(depth, DEEPEST) * 12}px` }}>
              {span.name}
            </span>
            <span role="cell" class="fall-room">
              <span class="hidden-text">
                {span.process}, begins after {duration(span.beganAt - fall.beganAt)}
                {span.error && `, failed: ${span.error}`}
              </span>
              <span
                class={`fall-bar process-${processOf(span.process)} ${span.error ? "failed" : ""}`}
                style={{ left: `${left * 100}%`, width: `${width * 100}%` }}
              />
            </span>
            <span role="cell" class="fall-time number">
              {duration(span.durationMs)}
            </span>
          </div>
        );
      })}
    </div>
  );
}

/** Returns the kind of a process: "actor 3f9c" is an actor. */
function processOf(process: string): string {
  const kind = process.split(" ", 1)[0] ?? "";
  return ["gateway", "actor", "scheduler"].includes(kind) ? kind : "other";
}
