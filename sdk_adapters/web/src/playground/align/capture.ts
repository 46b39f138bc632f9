/**
 * When a frame of the camera was taken, on this page's clock. Pure.
 *
 * The service tells of a frame's source on the clock of the camera's RTP stream, whose beginning
 * nobody here knows. It also tells how long that frame spent there. So with every chunk there is
 * an estimate of the difference between the two clocks: arrival here, less the time in the
 * service, less the way there and back, less encoding. Queues on the way make it too late and
 * never too early, and the service's frames lie up to half a period beside the camera's: a low
 * quantile of the latest estimates is robust against both.
 */

/** Estimates that are looked at. */
const MOST = 24;
/** Which of them counts, from the lowest. */
const QUANTILE = 0.4;
/** Estimates this far from the present one are another clock's. */
const OTHER_CLOCK_MS = 400;
/** So many of them in a row make the present one void. */
const MOST_OUTSIDE = 3;

/** One estimate. */
export interface Sighting {
  /** When the first packet-complete frame of the chunk arrived, on this page's clock. */
  readonly arrivedAt: number;
  /** Time of its source on the camera's RTP clock. */
  readonly sourceMs: number;
  /** How long the service had it, in milliseconds. */
  readonly inServiceMs: number;
  /** Both ways through the network. */
  readonly roundTripMs: number;
  /** From the lens to the first packet: encoding and pacing. */
  readonly encodingMs: number;
}

/** See above. */
export class CaptureClock {
  #offsets: number[] = [];
  #outside: number[] = [];

  /** Takes an estimate. */
  seen({ arrivedAt, sourceMs, inServiceMs, roundTripMs, encodingMs }: Sighting): void {
    const offset = arrivedAt - inServiceMs - roundTripMs - encodingMs - sourceMs;
    const present = this.offset;
    if (present !== null && Math.abs(offset - present) > OTHER_CLOCK_MS) {
      this.#outside.push(offset);
      if (this.#outside.length < MOST_OUTSIDE) return;
      this.#offsets = this.#outside;
    } else {
      this.#offsets.push(offset);
    }
    this.#outside = [];
    if (this.#offsets.length > MOST) this.#offsets.shift();
  }

  /** Another camera has another clock. */
  clear(): void {
    this.#offsets = [];
    this.#outside = [];
  }

  /** What is added to the camera's clock to get this page's; null while unknown. */
  get offset(): number | null {
    if (this.#offsets.length === 0) return null;
    const sorted = this.#offsets.toSorted((one, other) => one - other);
    return sorted[Math.floor(QUANTILE * (sorted.length - 1))] as number;
  }

  /** Returns when a frame was taken, on this page's clock; null while that is unknown. */
  takenAt(sourceMs: number): number | null {
    const { offset } = this;
    return offset === null ? null : sourceMs + offset;
  }
}
