/** What is said over the picture: what to do first, what is waited for, what is lost. */
import { Icon, type IconName } from "../shared/Icon";
import { duration } from "../shared/format";
import { reportError } from "../shared/problems";
import { desk } from "./desk";
import { ability, openCamera, openFile, openScreen, source, whyNot, type SourceKind } from "./source";

/** How a source is chosen, by its kind. */
export const KINDS: readonly { readonly kind: SourceKind; readonly name: string; readonly icon: IconName }[] = [
  { kind: "camera", name: "Camera", icon: "camera" },
  { kind: "screen", name: "Screen", icon: "screen" },
  { kind: "file", name: "File", icon: "file" },
];

/** Chooses a source; what is in the way of that is shown. */
export function pick(kind: SourceKind): void {
  if (kind === "file") return askFile();
  void (kind === "camera" ? openCamera() : openScreen()).catch((error: unknown) => reportError(error));
}

/** Opens the dialog of the system. */
function askFile(): void {
  const input = document.getElementById("file");
  if (input instanceof HTMLInputElement) input.click();
}

/** The field that the dialog belongs to. */
export function FileField() {
  return (
    <input
      id="file"
      class="hidden-text"
      type="file"
      accept="video/*,.mkv,.ts,.mov"
      tabIndex={-1}
      aria-label="Video file"
      data-testid="file"
      onChange={(event) => {
        const field = event.currentTarget;
        const [file] = field.files ?? [];
        if (file !== undefined) take(file);
        field.value = "";
      }}
    />
  );
}

/** Takes a file that was chosen or dropped. */
export function take(file: File): void {
  try {
    openFile(file);
  } catch (error) {
    reportError(error);
  }
}

/** See above. */
export function Overlay() {
  const { shot, work } = desk;
  const [busy, place, status] = [work.value, shot.queue.value, shot.status.value];
  if (busy !== null) {
    const waits = place !== null;
    const wait = place?.etaSeconds === null || place === null ? "" : `, about ${duration(place.etaSeconds * 1000)}`;
    const said = waits ? `Place ${place.position} in the queue${wait}` : busy.what;
    return (
      <div class="overlay" role="status" data-testid="overlay">
        <p class="overlay-title">{said}</p>
        {waits && <p>Every GPU is busy. You keep your place while this page is open.</p>}
        {busy.progress === null || waits ? (
          <span class="spinner" aria-hidden="true" />
        ) : (
          <progress aria-label={said} value={busy.progress} max={1} />
        )}
        <button class="button" type="button" onClick={() => desk.cancel()}>
          Cancel
        </button>
      </div>
    );
  }
  if (status === "reconnecting")
    return (
      <div class="overlay" role="status" data-testid="overlay">
        <p class="overlay-title">The connection is lost</p>
        <p>It is being taken up again; nothing of the session is lost.</p>
        <span class="spinner" aria-hidden="true" />
      </div>
    );
  const phase = shot.state.value?.phase;
  if (phase === "awaiting_compute" || phase === "awaiting_source") {
    const waits = phase === "awaiting_source" ? "Waiting for the first pictures of the source" : "Waiting for a GPU";
    return (
      <div class="overlay slim" role="status" data-testid="overlay">
        <p class="overlay-title">{place ? `Place ${place.position} in the queue` : waits}</p>
        <span class="spinner" aria-hidden="true" />
      </div>
    );
  }
  if (shot.state.value?.started && !shot.shown.value)
    return (
      <div class="overlay slim" role="status" data-testid="overlay">
        <p class="overlay-title">The first pictures are being made</p>
        <span class="spinner" aria-hidden="true" />
      </div>
    );
  return source.value === null && !shot.shown.value ? <Welcome /> : null;
}

function Welcome() {
  const can = ability();
  return (
    <div class="overlay welcome" data-testid="welcome">
      <p class="overlay-title">Edit live video by prompt</p>
      <p>Choose where the picture comes from. It stays on this machine until you press Start.</p>
      <div class="kinds">
        {KINDS.map(({ kind, name, icon }) => {
          const problem = whyNot(kind, can);
          return (
            <button
              key={kind}
              class="kind"
              type="button"
              aria-disabled={problem !== null}
              title={problem?.message}
              onClick={() => (problem === null ? pick(kind) : reportError(problem))}
            >
              <Icon name={icon} size={28} />
              {name}
            </button>
          );
        })}
      </div>
      {!can.secure && (
        <p class="insecure" data-testid="insecure">
          Browsers give camera and screen to pages over https:// or http://localhost only. A file works here, too.
        </p>
      )}
    </div>
  );
}
