/** Places on an actor, as the picture shows them: who comes takes the first free one and keeps it. Pure. */
export class Slots {
  readonly #places: (string | null)[] = [];
  readonly #of = new Map<string, number>();

  /** One more than the last place that is taken. */
  get length(): number {
    return this.#places.length;
  }

  /** How many are taken. */
  get taken(): number {
    return this.#of.size;
  }

  /** Returns who is at a place. */
  at(place: number): string | null {
    return this.#places[place] ?? null;
  }

  /** Returns the place of a session; -1: it has none. */
  placeOf(session: string): number {
    return this.#of.get(session) ?? -1;
  }

  /** Gives a session a place, if it has none. */
  take(session: string): void {
    if (this.#of.has(session)) return;
    const free = this.#of.size < this.#places.length ? this.#places.indexOf(null) : -1;
    const place = free < 0 ? this.#places.length : free;
    this.#places[place] = session;
    this.#of.set(session, place);
  }

  /** Frees the place of a session. */
  leave(session: string): void {
    const place = this.#of.get(session);
    if (place === undefined) return;
    this.#of.delete(session);
    this.#places[place] = null;
    while (this.#places.length > 0 && this.#places.at(-1) === null) this.#places.pop();
  }

  /** Frees the places of all but these. */
  keep(sessions: ReadonlySet<string>): void {
    for (const session of [...this.#of.keys()]) if (!sessions.has(session)) this.leave(session);
  }
}
