/** What was said in a session, in order: a bounded list. Pure. */

/** Entries that are kept; the oldest go first. */
export const MOST_ENTRIES = 200;

/** One thing that was said. */
export interface Entry {
  readonly id: number;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** Who said it: this page, the service, or neither. */
  readonly from: "page" | "service" | "connection";
  /** Name of the command or the message. */
  readonly name: string;
  /** What it says, in a line. */
  readonly text: string;
  /** It is bad news. */
  readonly failed: boolean;
}

/** Adds an entry. */
export function added(entries: readonly Entry[], entry: Omit<Entry, "id">): readonly Entry[] {
  const id = (entries.at(-1)?.id ?? 0) + 1;
  return [...entries.slice(-(MOST_ENTRIES - 1)), { ...entry, id }];
}

/** Longest line of an entry. */
const MOST_TEXT = 300;

/** Returns an object as one line: `chunk index 3 · frames emitted 24`. */
export function line(data: object): string {
  const said = Object.entries(data)
    .filter(([, value]) => value !== "" && value !== null && typeof value !== "object")
    .map(([name, value]) => `${spaced(name)} ${typeof value === "string" ? `“${value}”` : String(value)}`)
    .join(" · ");
  return said.length > MOST_TEXT ? `${said.slice(0, MOST_TEXT - 1)}…` : said;
}

/** `chunkIndex` as `chunk index`. */
export const spaced = (name: string) => name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

/** `chunkIndex` as `chunk_index`: the name on the wire. */
export const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
