/** The last values of a stream. Pure. */
export class Ring<T> implements Iterable<T> {
  readonly #values: (T | undefined)[] = [];
  #first = 0;

  /** @param limit Most values that are kept; older ones make room for newer ones. */
  constructor(readonly limit: number) {}

  /** How many are kept now. */
  get length(): number {
    return this.#values.length;
  }

  /** Adds a value. */
  push(value: T): void {
    if (this.#values.length < this.limit) {
      this.#values.push(value);
    } else {
      this.#values[this.#first] = value;
      this.#first = (this.#first + 1) % this.limit;
    }
  }

  /** Returns a value: 0 is the oldest, -1 the newest. */
  at(index: number): T | undefined {
    const length = this.#values.length;
    const from = index < 0 ? length + index : index;
    return from < 0 || from >= length ? undefined : this.#values[(this.#first + from) % length];
  }

  /** Forgets all. */
  clear(): void {
    this.#values.length = 0;
    this.#first = 0;
  }

  *[Symbol.iterator](): Iterator<T> {
    for (let index = 0; index < this.length; index += 1) yield this.at(index) as T;
  }
}
