/** The pool in five figures; the first is the legend of the cells, and filters by phase. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Sparkline } from "../shared/Sparkline";
import { PhaseMark } from "./PhaseMark";
import { age, count, percent } from "./format";
import { PHASE_NAMES, PHASES } from "./phases";
import { capacity, counts, made, phase, pool, shown, view } from "./state";

/** Values of the last two minutes, one every two seconds. */
const KEPT = 60;
const EVERY_MS = 2000;
const missed = signal<readonly number[]>([]);
const used = signal<readonly number[]>([]);

/** A row of them. */
export function Figures() {
  shown.value;
  useEffect(() => {
    const timer = setInterval(() => {
      missed.value = [...missed.value, pool.signals.missRate].slice(-KEPT);
      used.value = [...used.value, usedShare()].slice(-KEPT);
    }, EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  const { queued, queueAgeS, missRate, actorsWanted, batchFill } = pool.signals;
  const { booked, ceiling, healthy, gone } = capacity.value;
  const short = actorsWanted > healthy;
  return (
    <section class="figures" aria-label="The pool in figures">
      <Phases />
      <Figure name="Compute booked" value={percent(usedShare())} alarm={usedShare() > 0.98}>
        <span class="muted small">
          {(booked / 1000).toFixed(1)} of {(ceiling / 1000).toFixed(1)} GPUs
        </span>
        <Sparkline samples={used.value} room={KEPT} most={1} label={`Compute booked, the last two minutes: now ${percent(usedShare())}`} />
      </Figure>
      <Figure name="Late chunks" value={percent(missRate)} alarm={missRate > 0.05}>
        <span class="muted small">{batchFill > 0 ? `batches of ${batchFill.toFixed(1)}` : "of the last minute"}</span>
        <Sparkline samples={missed.value} room={KEPT} label={`Late chunks, the last two minutes: now ${percent(missRate)}`} />
      </Figure>
      <Figure name="Queue" value={count(queued)} alarm={queueAgeS > 30}>
        <span class="muted small">{queued > 0 ? `first waits ${age(queueAgeS * 1000)}` : "nobody waits"}</span>
      </Figure>
      <Figure name="Actors" value={count(healthy)} alarm={short || gone > 0}>
        <span class="muted small">
          {actorsWanted > 0 ? `${count(actorsWanted)} needed` : "none needed"}
          {gone > 0 && `, ${count(gone)} silent`}
        </span>
      </Figure>
    </section>
  );
}

function usedShare(): number {
  const { booked, ceiling } = capacity.peek();
  return ceiling > 0 ? booked / ceiling : 0;
}

interface Given {
  readonly name: string;
  readonly value: string;
  readonly alarm: boolean;
  readonly children: preact.ComponentChildren;
}

function Figure({ name, value, alarm, children }: Given) {
  return (
    <div class={`figure-card ${alarm ? "alarm" : ""}`}>
      <span class="figure-name">{name}</span>
      <span class="figure-value number">{value}</span>
      {children}
    </div>
  );
}

/** How many sessions do what. A click lists them. */
function Phases() {
  made.value;
  const all = counts.value;
  const sum = pool.sessions.size;
  return (
    <div class="figure-card phases">
      <span class="figure-name">Sessions</span>
      <span class="figure-value number">{count(sum)}</span>
      <ul class="phase-list">
        {PHASE_NAMES.filter((name) => all[name] > 0 || name === "generating" || name === "idle").map((name) => (
          <li key={name}>
            <button
              class="phase-button"
              type="button"
              title={`${PHASES[name].meaning} List them.`}
              onClick={() => {
                phase.value = name;
                view.value = "sessions";
              }}
            >
              <PhaseMark phase={name} /> {PHASES[name].label} <span class="number">{count(all[name])}</span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
