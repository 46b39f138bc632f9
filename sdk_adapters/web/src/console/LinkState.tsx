/** How the console stands with the service: a word in the head, and a line where what is shown is old. */
import { age, clock } from "./format";
import { link, now } from "./state";

const WORDS = {
  connecting: { label: "Connecting", tone: "" },
  live: { label: "Live", tone: "good" },
  behind: { label: "Catching up", tone: "warn" },
  away: { label: "Stale", tone: "bad" },
} as const;

/** The word. */
export function LinkPill() {
  const { label, tone } = WORDS[link.value.is];
  return (
    <span class={`pill link-pill ${tone}`} role="status" data-link={link.value.is}>
      <span class="link-dot" aria-hidden="true" />
      {label}
    </span>
  );
}

/** The line: since when nothing comes, why, and when it is tried again. */
export function StaleLine() {
  const state = link.value;
  if (state.is !== "away" && !(state.is === "behind" && state.why)) return null;
  const again = state.is === "away" ? Math.max(0, Math.ceil((state.againAt - now.value) / 1000)) : 0;
  return (
    <p class="stale" role="alert">
      <strong>This picture is of {clock(state.since).slice(0, 8)}</strong>, {age(now.value - state.since)} ago: {state.why}.{" "}
      {again > 0 ? `Trying again in ${again} s.` : "Trying again."}
    </p>
  );
}
