/** What was said, the newest first. */
import { timeOfDay } from "../shared/format";
import { desk } from "./desk";

const FROM = { page: "→", service: "←", connection: "·" } as const;
const SAID = { page: "sent", service: "received", connection: "connection" } as const;

/** See above. */
export function MessagePanel() {
  const entries = desk.shot.entries.value;
  if (entries.length === 0) return <p class="muted empty-note">Commands and messages appear here as they pass.</p>;
  return (
    <ol class="messages" data-testid="messages">
      {entries.toReversed().map(({ id, at, from, name, text, failed }) => (
        <li key={id} class={failed ? "failed" : from}>
          <time class="number muted">{timeOfDay(at)}</time>
          <span class="direction" aria-label={SAID[from]} role="img">
            {FROM[from]}
          </span>
          <div>
            <span class="mono">{name}</span>
            {text && (
              <p class="small muted" title={text}>
                {text}
              </p>
            )}
          </div>
        </li>
      ))}
    </ol>
  );
}
