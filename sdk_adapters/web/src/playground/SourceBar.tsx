/** Camera, screen or file: which, and what is chosen. */
import { Icon } from "../shared/Icon";
import { reportError } from "../shared/problems";
import { KINDS, pick } from "./Overlay";
import { ability, cameras, closeSource, openCamera, source, whyNot } from "./source";

/** See above. */
export function SourceBar() {
  const can = ability();
  const chosen = source.value;
  return (
    <div class="source-bar" role="group" aria-label="Source">
      <div class="segments">
        {KINDS.map(({ kind, name, icon }) => {
          const problem = whyNot(kind, can);
          return (
            <button
              key={kind}
              class="button"
              type="button"
              data-testid={`source-${kind}`}
              aria-pressed={chosen?.kind === kind}
              aria-disabled={problem !== null}
              title={problem?.message}
              onClick={() => (problem === null ? pick(kind) : reportError(problem))}
            >
              <Icon name={icon} />
              {name}
            </button>
          );
        })}
      </div>
      {chosen && (
        <>
          <span class="source-name muted small" title={chosen.label} data-testid="source-name">
            {chosen.label}
          </span>
          {chosen.kind === "camera" && cameras.value.length > 1 && <CameraChoice />}
          <button class="button quiet icon" type="button" aria-label="Let go of the source" title="Let go of the source" onClick={closeSource}>
            <Icon name="close" size={16} />
          </button>
        </>
      )}
    </div>
  );
}

function CameraChoice() {
  const chosen = source.value;
  const used = chosen !== null && chosen.kind !== "file" ? chosen.stream.getVideoTracks()[0]?.getSettings().deviceId : "";
  return (
    <select
      class="input camera-choice"
      aria-label="Which camera"
      value={used}
      onChange={(event) => void openCamera(event.currentTarget.value).catch((error: unknown) => reportError(error))}
    >
      {cameras.value.map(({ deviceId, label }, index) => (
        <option key={deviceId} value={deviceId}>
          {label || `Camera ${index + 1}`}
        </option>
      ))}
    </select>
  );
}
