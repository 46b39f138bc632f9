/** Server-sent events, read from a stream of text as it comes (WHATWG HTML, section 9.2). Pure but for its state. */

/** One event. */
export interface ServerSent {
  /** Its `event`; "message" where it has none. */
  readonly name: string;
  /** The last `id` up to it; empty: none. */
  readonly id: string;
  readonly data: string;
}

/** Longest line or event; what is longer is no stream of ours. */
const LONGEST = 8 * 1024 * 1024;

/** Reads events out of pieces of text, wherever these are cut. */
export class EventReader {
  #rest = "";
  #name = "";
  #id = "";
  #data: string[] = [];
  #size = 0;
  #retry: number | null = null;

  /** Milliseconds after which the service wants to be asked again; null: it said nothing. */
  get retryMs(): number | null {
    return this.#retry;
  }

  /**
   * Takes a piece of the stream.
   *
   * @returns The events that are complete with it.
   * @throws RangeError A line or an event is too long.
   */
  push(piece: string): ServerSent[] {
    const events: ServerSent[] = [];
    const lines = (this.#rest + piece).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const event = this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (event !== null) events.push(event);
    }
    if (this.#rest.length + this.#size > LONGEST) throw new RangeError("an event is too long");
    return events;
  }

  #line(line: string): ServerSent | null {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") this.#name = value;
    else if (field === "data") this.#take(value);
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.#retry = Number(value);
    return null;
  }

  #take(value: string): void {
    this.#data.push(value);
    this.#size += value.length;
  }

  #dispatch(): ServerSent | null {
    const [name, data] = [this.#name || "message", this.#data];
    this.#name = "";
    this.#data = [];
    this.#size = 0;
    return data.length === 0 ? null : { name, id: this.#id, data: data.join("\n") };
  }
}
