/** The scheduler's clock, from what it says in the words of its journal. Pure but for its state. */
export class SchedulerClock {
  #behind = Number.POSITIVE_INFINITY;

  /** Whether it has been heard. */
  get isKnown(): boolean {
    return Number.isFinite(this.#behind);
  }

  /** Begins anew: a stream begins, perhaps of another scheduler. */
  reset(): void {
    this.#behind = Number.POSITIVE_INFINITY;
  }

  /** Takes its time in a word that came now. The word that was fastest on its way tells best. */
  heard(at: number, now: number): void {
    this.#behind = Math.min(this.#behind, now - at);
  }

  /** Returns its time, at a time of this machine. */
  at(now: number): number {
    return this.isKnown ? now - this.#behind : now;
  }
}
