/** What is said on the data channel: JSON, one object a message. See docs/typescript.md. */
import { MESSAGES, VIEWER_STATS } from "./contract.js";
import type { Messages, ViewerStats } from "./contract.js";

/** Name of this client for the service: it chooses the wire by it. */
export const SDK_TYPE = "sana-gateway-js";
/** Label of the one channel. */
export const DATA = "data";
/** Label of the channel on which the service tells of each chunk. */
export const STATS = "sana.stats";

/** A message of the session, of any kind. */
export type Message = {
  [Name in keyof Messages]: {
    readonly name: Name;
    readonly data: Messages[Name];
    /** Grows by one with every message to all; 0 on a commandError. */
    readonly revision: number;
    /** The command of ours that this answers; else empty. */
    readonly commandId: string;
    /** Whether it is repeated after a reconnect. */
    readonly replayed: boolean;
  };
}[keyof Messages];

/** What the service says. */
export type Heard =
  | { readonly type: "attached"; readonly connectionId: number; readonly gap: boolean }
  | { readonly type: "message"; readonly message: Message }
  | { readonly type: "ack"; readonly id: string; readonly accepted: boolean }
  | { readonly type: "queue"; readonly position: number; readonly etaSeconds: number | null }
  | { readonly type: "pong"; readonly id: string }
  | { readonly type: "published"; readonly id: string; readonly track: string }
  | { readonly type: "refused"; readonly id: string; readonly code: string; readonly reason: string }
  | { readonly type: "ended"; readonly reason: string };

/** What the client says. */
export type Said =
  | { type: "command"; id: string; name: string; arguments: unknown; traceparent?: string }
  | { type: "ping"; id: string }
  | { type: "publish"; id: string; track: string }
  | { type: "unpublish" | "pause_track" | "resume_track"; track: string };

const KNOWN = new Set(["attached", "message", "ack", "queue", "pong", "published", "refused", "ended"]);

/** Returns what the service said; null for what this release does not know. */
export function decode(text: string): Heard | null {
  const said = parse(text);
  if (said === null || !KNOWN.has(said["type"] as string)) return null;
  const heard = camelised(said);
  if (heard["type"] !== "message") return heard as unknown as Heard;
  const name = MESSAGES[heard["name"] as keyof typeof MESSAGES];
  if (name === undefined) return null;
  const data = camelised(heard["data"] as Record<string, unknown>);
  return { type: "message", message: { ...heard, name, data } as unknown as Message };
}

/** Returns what is sent. */
export function encode(said: Said): string {
  return JSON.stringify(said);
}

/** Returns the figures of a chunk; what is not said is 0. Integers may come as text. */
export function decodeStats(text: string): ViewerStats | null {
  const said = parse(text);
  if (said === null) return null;
  const figures = Object.keys(VIEWER_STATS).map((name) => [name, Number(said[name] ?? 0)]);
  return Object.fromEntries(figures) as unknown as ViewerStats;
}

/** Returns an object with its names, and those of objects within, in snake case. */
export function snaked(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const named = Object.entries(value).map(([name, each]) => [snake(name), snaked(each)]);
  return Object.fromEntries(named);
}

function parse(text: string): Record<string, unknown> | null {
  try {
    const said: unknown = JSON.parse(text);
    return typeof said === "object" && said !== null ? (said as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** Returns an object with its names in camel case. */
export function camelised(value: Record<string, unknown>): Record<string, unknown> {
  const named = Object.entries(value).map(([name, each]) => [camel(name), each]);
  return Object.fromEntries(named) as Record<string, unknown>;
}

const camel = (name: string) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
