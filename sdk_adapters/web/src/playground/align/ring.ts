/**
 * The latest frames of a source, each with its time: the newest push out the oldest. Pure.
 *
 * Places are reused, so that a running source allocates nothing.
 */
export class Ring<Frame> {
  readonly #frames: Frame[];
  /** Times of the frames; the place of frame n is n modulo the capacity. */
  readonly #times: number[];
  #count = 0;
  #first = 0;

  /** @param frames The places: what is drawn into. */
  constructor(frames: readonly Frame[]) {
    this.#frames = [...frames];
    this.#times = this.#frames.map(() => 0);
  }

  /** How many there are. */
  get size(): number {
    return this.#count;
  }

  /** Time of the oldest; null: there is none. */
  get oldest(): number | null {
    return this.#count === 0 ? null : (this.#times[this.#first] as number);
  }

  /** Time of the newest; null: there is none. */
  get newest(): number | null {
    return this.#count === 0 ? null : (this.#times[this.#place(this.#count - 1)] as number);
  }

  /** Returns the place for a frame of this time, to be filled. Times that fall begin anew. */
  next(time: number): Frame {
    const { newest } = this;
    if (newest !== null && time < newest) this.clear();
    if (this.#count < this.#frames.length) this.#count += 1;
    else this.#first = (this.#first + 1) % this.#frames.length;
    const place = this.#place(this.#count - 1);
    this.#times[place] = time;
    return this.#frames[place] as Frame;
  }

  /** Returns the frame whose time is nearest, and how far away that is; null: there is none. */
  nearest(time: number): { readonly frame: Frame; readonly time: number; readonly distance: number } | null {
    if (this.#count === 0) return null;
    let [low, high] = [0, this.#count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#at(middle) < time) low = middle + 1;
      else high = middle;
    }
    const before = Math.max(0, low - 1);
    const best = Math.abs(this.#at(before) - time) <= Math.abs(this.#at(low) - time) ? before : low;
    const found = this.#at(best);
    return { frame: this.#frames[this.#place(best)] as Frame, time: found, distance: Math.abs(found - time) };
  }

  /** Forgets all. */
  clear(): void {
    this.#count = this.#first = 0;
  }

  #place(index: number): number {
    return (this.#first + index) % this.#frames.length;
  }

  #at(index: number): number {
    return this.#times[this.#place(index)] as number;
  }
}
