/** One loop of frames for all canvases, and for how often the rest of the page is told of changes. */
import { batch } from "@preact/signals";
import { chunks, journal, logged, made, now, pool, shown } from "./state";

/** Paints what has changed. `at` is the time of the frame, in milliseconds since the page began. */
export type Painter = (at: number) => void;

const painters = new Set<Painter>();
/** The page's tree is told of changes so often at most. */
const TELL_MS = 250;
let [running, told, ticked] = [false, 0, 0];

/** Has something painted in each frame; returns what ends that. */
export function paint(painter: Painter): () => void {
  painters.add(painter);
  return () => painters.delete(painter);
}

/** Begins. */
export function begin(): void {
  if (running) return;
  running = true;
  requestAnimationFrame(frame);
}

function frame(at: number): void {
  requestAnimationFrame(frame);
  for (const painter of painters) painter(at);
  if (at - told >= TELL_MS) tell(at);
}

function tell(at: number): void {
  told = at;
  batch(() => {
    shown.value = pool.version;
    logged.value = journal.heard;
    if (at - ticked < 1000) return;
    ticked = at;
    now.value = Date.now();
    made.value = chunks.version;
  });
}
