/** The buttons of the run: one to begin, halt and go on; reset, fork, view. */
import { Icon, type IconName } from "../shared/Icon";
import { desk, MOST_TAKES, type Stand } from "./desk";
import { fit } from "./alignment";
import { duration } from "../shared/format";
import { dialog, view, VIEWS, type View } from "./view";

const MAIN: Readonly<Record<Stand, readonly [string, IconName]>> = {
  empty: ["Start", "play"],
  ready: ["Start", "play"],
  busy: ["Starting", "play"],
  running: ["Pause", "pause"],
  paused: ["Resume", "play"],
};

/** Shows the stage alone, or everything again. */
export function fullScreen(): void {
  const shown = document.fullscreenElement === null ? document.querySelector(".stage")?.requestFullscreen?.() : document.exitFullscreen();
  void shown?.catch(() => undefined);
}

/** See above. */
export function Transport() {
  const { shot } = desk;
  const stand = desk.stand.value;
  const [name, icon] = desk.isOtherSource.value && stand !== "busy" ? MAIN.ready : MAIN[stand];
  const begun = shot.state.value !== null && (shot.state.value.started || shot.state.value.hasVideo || shot.shown.value);
  const canFork = (stand === "running" || stand === "paused") && desk.takes.value.length < MOST_TAKES;
  return (
    <div class="transport" role="toolbar" aria-label="Run">
      <button
        class="button primary go"
        type="button"
        data-testid="go"
        disabled={stand === "busy"}
        onClick={() => void desk.go()}
      >
        <Icon name={icon} />
        {name}
      </button>
      <button class="button" type="button" data-testid="reset" disabled={!begun || stand === "busy"} onClick={() => void desk.reset()}>
        <Icon name="reset" />
        Reset
      </button>
      <button class="button" type="button" data-testid="fork" disabled={!canFork} onClick={() => (dialog.value = "fork")}>
        <Icon name="fork" />
        Fork
      </button>
      <Progress />
      <div class="spring" />
      <div class="views" role="group" aria-label="View">
        {(Object.keys(VIEWS) as View[]).map((each) => (
          <button
            key={each}
            class="button quiet icon"
            type="button"
            title={VIEWS[each]}
            aria-label={VIEWS[each]}
            aria-pressed={view.value === each}
            onClick={() => (view.value = each)}
          >
            <Icon name={each} />
          </button>
        ))}
        <button class="button quiet icon" type="button" title="Full screen" aria-label="Full screen" onClick={fullScreen}>
          <Icon name="full" />
        </button>
      </div>
    </div>
  );
}

/** How far the run has come, in words. */
function Progress() {
  const state = desk.shot.state.value;
  const delay = fit.value?.delayMs ?? null;
  if (!state?.started) return null;
  const frames = state.mode === "file" && state.numSourceFrames > 0 ? fit.value : null;
  return (
    <p class="progress-words small muted number" data-testid="progress">
      {frames ? `Frame ${frames.frame + 1} of ${state.numSourceFrames}` : `Chunk ${state.currentChunk}`}
      {delay === null ? "" : ` · ${duration(delay)} behind the camera`}
    </p>
  );
}

