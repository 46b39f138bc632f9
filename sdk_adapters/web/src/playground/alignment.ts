/** Draws the source as it was when the shown picture was taken. */
import { effect, signal } from "@preact/signals";
import { CaptureClock } from "./align/capture";
import { move } from "./align/lead";
import { PlayoutClock, type Shown } from "./align/playout";
import { desk } from "./desk";
import { KEPT, SourceFrames } from "./sourceFrames";

/** Rate of the model, until its chunks tell another. */
const MODEL_FPS = 24;

/** How far a clip may be ahead of the picture, in milliseconds of the clip. */
const MOST_AHEAD_MS = 2_500;
/** Part of what is kept that may lie ahead. */
const PART_AHEAD = 0.7;
/** Rates that differ by less are not set: each change costs the decoder something. */
const LEAST_CHANGE = 0.08;

/** How well the source fits the picture, for people and for tests. */
export interface Fit {
  readonly run: number;
  readonly frame: number;
  /** How old the drawn source is, in milliseconds; null: of a clip. */
  readonly delayMs: number | null;
  /** How far away the drawn frame is from the wanted one, in frames. */
  readonly errorFrames: number;
}

/** The fit of the picture on the screen; null: none is known. */
export const fit = signal<Fit | null>(null);

/** See above. */
export class Alignment {
  readonly #playout = new PlayoutClock(MODEL_FPS);
  readonly #capture = new CaptureClock();
  readonly #frames: SourceFrames;
  readonly #result: HTMLVideoElement;
  readonly #source: HTMLVideoElement;
  readonly #canvas: HTMLCanvasElement;
  readonly #undo: (() => void)[];
  #isClip = false;
  /** The clip is played along with a run. */
  #rolls = false;
  #watching = 0;
  /** The chunk that was measured last. */
  #measured: object | null = null;
  /** The way there and back at its best; 0: unknown. */
  #leastRttMs = 0;
  /** Time of the first frame of the run's clip, on the service's clock. */
  #firstMs = 0;
  #shownMs = 0;
  #toldAt = 0;

  constructor(result: HTMLVideoElement, source: HTMLVideoElement, canvas: HTMLCanvasElement) {
    this.#result = result;
    this.#source = source;
    this.#canvas = canvas;
    this.#frames = new SourceFrames(source, () => this.#lead());
    const { model } = desk.shot;
    this.#undo = [
      model.on("viewerStats", (told) => {
        if (told.frame === 0) this.#firstMs = told.sourceUs / 1000;
        this.#playout.told(told);
      }),
      model.on("generationStarted", () => (fit.value = null)),
      model.on("generationReset", () => (this.#rolls = false)),
      model.on("trackReceived", () => {
        this.#playout.clear();
        this.#leastRttMs = 0;
      }),
      model.on("stateChanged", ({ degradedFrameRate: slower }) => slower > 0 && this.#playout.pace(slower)),
    ];
    this.#undo.push(effect(() => void (desk.starts.value && this.#roll())));
    this.#next();
  }

  /** Another source is shown in the source element. */
  watch(isClip: boolean): void {
    this.#isClip = isClip;
    this.#rolls = false;
    this.#capture.clear();
    this.#measured = null;
    this.#frames.watch(isClip);
  }

  /** There is no source. */
  stop(): void {
    this.#frames.stop();
  }

  /** Ends it. */
  close(): void {
    this.#frames.stop();
    this.#result.cancelVideoFrameCallback(this.#watching);
    for (const each of this.#undo) each();
  }

  #next(): void {
    this.#watching = this.#result.requestVideoFrameCallback((now, metadata) => {
      this.#shown(now, metadata);
      this.#next();
    });
  }

  #shown(now: number, metadata: VideoFrameCallbackMetadata): void {
    desk.shot.pictureCame();
    const { rtpTimestamp } = metadata;
    const frames = (this.#isClip && desk.shot.state.value?.numSourceFrames) || Infinity;
    const shown = rtpTimestamp === undefined ? null : this.#playout.at(rtpTimestamp, this.#sourceFps, frames);
    if (shown !== null && !this.#isClip) this.#measure(shown, metadata.receiveTime ?? now);
    const wanted = this.#wanted(shown, now);
    const drawn = wanted === null ? null : this.#frames.ring.nearest(wanted);
    if (wanted === null || drawn === null) return;
    this.#canvas.getContext("2d", { alpha: false })?.drawImage(drawn.frame, 0, 0);
    if (this.#isClip) this.#lead(wanted);
    if (shown === null || now - this.#toldAt < 200) return;
    this.#toldAt = now;
    fit.value = {
      run: shown.run,
      frame: shown.frame,
      delayMs: this.#isClip ? null : now - drawn.time,
      errorFrames: (drawn.distance * this.#sourceFps) / 1000,
    };
  }

  /** Returns the time of the source frame of a picture, on the clock of what is kept. */
  #wanted(shown: Shown | null, now: number): number | null {
    if (this.#isClip) return shown === null ? null : shown.sourceMs - this.#firstMs;
    const exact = shown === null ? null : this.#capture.takenAt(shown.sourceMs);
    // A browser that tells no timestamps: the delay as a whole is all that is known.
    return exact ?? now - (desk.shot.stats.value?.glassToGlassMs ?? 0);
  }

  #measure({ anchor, offset }: Shown, receivedAt: number): void {
    if (this.#measured === anchor || anchor.sourceToEmitUs === 0) return;
    this.#measured = anchor;
    const stats = desk.shot.stats.value;
    // What is longer at times is a queue, which the arrivals show by themselves.
    if (stats?.rttMs) this.#leastRttMs = Math.min(this.#leastRttMs || Infinity, stats.rttMs);
    this.#capture.seen({
      arrivedAt: receivedAt - (offset * 1000) / this.#playout.framesPerSecond,
      sourceMs: anchor.sourceUs / 1000,
      inServiceMs: anchor.sourceToEmitUs / 1000,
      roundTripMs: this.#leastRttMs,
      encodingMs: stats?.camera?.encodeMs ?? 0,
    });
  }

  /** Frames a second of the source, on its own clock. */
  get #sourceFps(): number {
    const { framesPerSecond } = this.#playout;
    const frames = desk.shot.state.value?.numSourceFrames ?? 0;
    const { duration } = this.#source;
    return this.#isClip && frames > 0 && duration > 0 && duration < Infinity ? frames / duration : framesPerSecond;
  }

  /** A run is about to begin: its clip is decoded ahead from the beginning. */
  #roll(): void {
    if (!this.#isClip) return;
    this.#rolls = true;
    this.#shownMs = 0;
    this.#frames.ring.clear();
    this.#source.currentTime = 0;
    void this.#source.play().catch(() => undefined);
  }

  /** Keeps the clip ahead of the picture. */
  #lead(shownMs = this.#shownMs): void {
    const known = shownMs === this.#shownMs;
    this.#shownMs = shownMs;
    if (!this.#isClip || !this.#rolls) return;
    const [source, fps] = [this.#source, this.#sourceFps];
    const most = Math.min(MOST_AHEAD_MS, (PART_AHEAD * KEPT * 1000) / fps);
    const next = move(shownMs, this.#frames.ring.newest, this.#playout.framesPerSecond / fps, most);
    if (next.kind === "seek" && !source.seeking) source.currentTime = next.toMs / 1000;
    if (next.kind === "wait") source.pause();
    if (next.kind !== "play" || source.ended) return;
    // While nothing new is shown it only runs up to where it waits.
    if (!known && Math.abs(source.playbackRate - next.rate) > LEAST_CHANGE) source.playbackRate = next.rate;
    if (source.paused && !known) void source.play().catch(() => undefined);
  }
}
