/** Where the picture comes from: a camera, a screen or a file of this machine. */
import { signal } from "@preact/signals";
import { ProblemError } from "../shared/problems";

export type SourceKind = "camera" | "screen" | "file";

/** A source that was chosen. */
export type Source =
  | { readonly kind: "camera" | "screen"; readonly label: string; readonly stream: MediaStream }
  | { readonly kind: "file"; readonly label: string; readonly file: File; readonly url: string };

/** The source; null: none was chosen yet. */
export const source = signal<Source | null>(null);
/** The cameras of this machine; known once one was allowed. */
export const cameras = signal<readonly MediaDeviceInfo[]>([]);

/** What a camera is asked for: what the model takes, or the next above it. */
const CAMERA: MediaTrackConstraints = {
  width: { ideal: 1280 },
  height: { ideal: 720 },
  frameRate: { ideal: 30, max: 30 },
};
const SCREEN: DisplayMediaStreamOptions = { video: { frameRate: { ideal: 24, max: 30 } }, audio: false };

/** What this browser and this page can. */
export interface Ability {
  readonly secure: boolean;
  readonly camera: boolean;
  readonly screen: boolean;
}

/** Looks at this page. */
export function ability(): Ability {
  const devices = navigator.mediaDevices as MediaDevices | undefined;
  return {
    secure: isSecureContext,
    camera: devices?.getUserMedia !== undefined,
    screen: devices?.getDisplayMedia !== undefined,
  };
}

/** Returns why a kind of source cannot be had here, and what to do; null: it can. */
export function whyNot(kind: SourceKind, { secure, camera, screen }: Ability): ProblemError | null {
  if (kind === "file") return null;
  if (!secure)
    return new ProblemError(
      `browsers give pages without HTTPS no ${kind}`,
      "Open this page over https:// or as http://localhost, or choose a file.",
    );
  if (kind === "camera" && !camera) return new ProblemError("this browser has no cameras", "Use another browser.");
  if (kind === "screen" && !screen)
    return new ProblemError("this browser shares no screens", "Use a browser on a computer, or choose a camera.");
  return null;
}

/** Names of what browsers throw (W3C Media Capture), and what to do. */
const DENIED: Readonly<Record<string, Readonly<Record<"camera" | "screen", readonly [string, string]>>>> = {
  NotAllowedError: {
    camera: ["the camera is not allowed", "Allow it: the symbol beside the address, then choose Camera again."],
    screen: ["no screen was shared", "Choose Screen again, then a tab, a window or a screen."],
  },
  NotFoundError: {
    camera: ["this machine has no camera", "Plug one in, or choose a screen or a file."],
    screen: ["there is no screen to share", "Choose a camera or a file."],
  },
  NotReadableError: {
    camera: ["the camera cannot be read", "Close other programs that use it, then choose Camera again."],
    screen: ["the screen cannot be read", "Allow screen recording in the settings of the system."],
  },
  OverconstrainedError: {
    camera: ["the camera is gone", "Choose another one."],
    screen: ["the screen cannot be shared", "Choose another one."],
  },
};

/** Returns what a browser threw, in words for people. */
export function mediaProblem(kind: "camera" | "screen", error: unknown): ProblemError {
  const name = error instanceof Error ? error.name : "";
  const [message, advice] = DENIED[name]?.[kind] ?? [
    `the ${kind} did not start`,
    "Try again; another browser may help.",
  ];
  return new ProblemError(message, advice);
}

/** Returns why a file is none to edit, before it is uploaded; null: it may be. */
export function fileProblem(file: Pick<File, "type" | "size" | "name">): ProblemError | null {
  if (file.size === 0) return new ProblemError("the file is empty", "Choose another one.");
  if (file.type !== "" && !file.type.startsWith("video/") && file.type !== "image/gif")
    return new ProblemError("the file is no video", "Choose a video: MP4, WebM, MOV, MKV and others.");
  return null;
}

/**
 * Chooses a camera.
 *
 * @throws {ProblemError} There is none, or it is not allowed.
 */
export async function openCamera(deviceId?: string): Promise<void> {
  const device = deviceId === undefined ? {} : { deviceId: { exact: deviceId } };
  const asked = () => navigator.mediaDevices.getUserMedia({ video: { ...CAMERA, ...device }, audio: false });
  choose("camera", await opened("camera", asked));
  const all = await navigator.mediaDevices.enumerateDevices();
  cameras.value = all.filter(({ kind }) => kind === "videoinput");
}

/**
 * Chooses a screen, a window or a tab.
 *
 * @throws {ProblemError} None was chosen.
 */
export async function openScreen(): Promise<void> {
  choose("screen", await opened("screen", () => navigator.mediaDevices.getDisplayMedia(SCREEN)));
}

/**
 * Chooses a file.
 *
 * @throws {ProblemError} It is no video.
 */
export function openFile(file: File): void {
  const problem = fileProblem(file);
  if (problem !== null) throw problem;
  replace({ kind: "file", label: file.name, file, url: URL.createObjectURL(file) });
}

/** Lets go of the source. */
export const closeSource = () => replace(null);

async function opened(kind: "camera" | "screen", ask: () => Promise<MediaStream>): Promise<MediaStream> {
  const problem = whyNot(kind, ability());
  if (problem !== null) throw problem;
  return ask().catch((error: unknown) => {
    throw mediaProblem(kind, error);
  });
}

function choose(kind: "camera" | "screen", stream: MediaStream): void {
  const [track] = stream.getVideoTracks();
  if (track === undefined) throw mediaProblem(kind, new Error());
  // The model takes what changes its rate better than what changes its size.
  track.contentHint = "detail";
  track.addEventListener("ended", () => {
    if (source.value?.kind !== "file" && source.value?.stream === stream) replace(null);
  });
  replace({ kind, label: track.label || kind, stream });
}

function replace(next: Source | null): void {
  const before = source.value;
  source.value = next;
  if (before?.kind === "file") URL.revokeObjectURL(before.url);
  else for (const track of before?.stream.getTracks() ?? []) track.stop();
}
