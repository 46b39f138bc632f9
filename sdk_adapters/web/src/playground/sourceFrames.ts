/** The latest frames of the source, small, so that the one of the shown picture can be drawn. */
import { Ring } from "./align/ring";

/** Frames that are kept: four seconds of a camera. */
export const KEPT = 128;
/** Their size: that of the model's picture, halved. */
export const [WIDTH, HEIGHT] = [640, 352];
/** Frames closer than this are left out: the model takes no more. */
const LEAST_APART_MS = 30;

/** See above. Watches a video element that shows the source. */
export class SourceFrames {
  readonly ring = new Ring(Array.from({ length: KEPT }, () => new OffscreenCanvas(WIDTH, HEIGHT)));
  readonly #video: HTMLVideoElement;
  readonly #onFrame: () => void;
  #watching = 0;
  #isClip = false;

  /** @param onFrame Is called after each frame. */
  constructor(video: HTMLVideoElement, onFrame: () => void) {
    this.#video = video;
    this.#onFrame = onFrame;
  }

  /** Keeps what the element shows from now on: by time in the clip, or by the time it was taken. */
  watch(isClip: boolean): void {
    this.stop();
    this.#isClip = isClip;
    this.#next();
  }

  /** Keeps no more, and forgets all. */
  stop(): void {
    this.#video.cancelVideoFrameCallback(this.#watching);
    this.ring.clear();
  }

  #next(): void {
    this.#watching = this.#video.requestVideoFrameCallback((now, metadata) => {
      const time = this.#isClip ? metadata.mediaTime * 1000 : (metadata.captureTime ?? now);
      const { newest } = this.ring;
      if (this.#isClip || newest === null || time < newest || time - newest >= LEAST_APART_MS) this.#keep(time);
      this.#onFrame();
      this.#next();
    });
  }

  #keep(time: number): void {
    const drawn = this.ring.next(time).getContext("2d", { alpha: false });
    if (drawn !== null) drawCovering(drawn, this.#video, this.#video.videoWidth, this.#video.videoHeight);
  }
}

/** Draws a picture as the model sees it: upright, scaled to cover, cropped to the centre. */
export function drawCovering(
  onto: CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D,
  picture: CanvasImageSource,
  width: number,
  height: number,
): void {
  const { width: wide, height: tall } = onto.canvas;
  const scale = Math.max(wide / width, tall / height);
  const [cutWide, cutTall] = [wide / scale, tall / scale];
  onto.drawImage(picture, (width - cutWide) / 2, (height - cutTall) / 2, cutWide, cutTall, 0, 0, wide, tall);
}
