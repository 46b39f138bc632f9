/** What went wrong, and what to do: shown in a corner until it is put away. */
import { signal } from "@preact/signals";
import { CommandRejected, SanaError, UnknownModelError } from "@sana-gateway/client";

/** How many are shown at once; the oldest goes first. */
const MOST = 4;
/** How long a note that asks for nothing stays. */
const NOTE_MS = 6_000;

/** One of them. */
export interface Problem {
  readonly title: string;
  /** What to do; empty where nothing is to be done. */
  readonly advice: string;
  /** A way to try again. */
  readonly again?: { readonly label: string; readonly run: () => void };
  /** It is good news: it goes away by itself. */
  readonly note?: boolean;
}

/** A problem as an exception: of our own routes, or of the browser. */
export class ProblemError extends Error {
  readonly advice: string;
  /** Status of the HTTP answer; 0: none. */
  readonly status: number;

  constructor(message: string, advice: string, status = 0) {
    super(message);
    this.name = "ProblemError";
    this.advice = advice;
    this.status = status;
  }
}

let count = 0;

/** Those that are shown, the newest last. */
export const problems = signal<readonly (Problem & { readonly id: number })[]>([]);

/** Shows a problem. The same one twice is shown once. Returns what puts it away. */
export function report(problem: Problem): () => void {
  const id = (count += 1);
  const others = problems.value.filter((each) => each.title !== problem.title);
  problems.value = [...others, { ...problem, id }].slice(-MOST);
  const away = () => dismiss(id);
  if (problem.note) setTimeout(away, NOTE_MS);
  return away;
}

/** Puts one away. */
export function dismiss(id: number): void {
  problems.value = problems.value.filter((each) => each.id !== id);
}

/** Shows what was thrown; that somebody gave up is none. */
export function reportError(error: unknown, again?: Problem["again"]): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  report(again === undefined ? problemOf(error) : { ...problemOf(error), again });
}

/** What somebody at a page can do, where the client's advice is for who writes programs; by code. */
const ADVICE: Readonly<Record<string, string>> = {
  unspecified: "Try again.",
  wrong_phase: "Wait until the run is where this is possible, or press Reset.",
  no_prompt: "Type what to make of the picture, or pick a prompt.",
  no_source: "Choose a camera, a screen or a file, then press Start.",
  superseded: "Nothing is to be done: a later command took its place.",
  no_capacity: "Every GPU is busy: press Start again in a moment.",
  unauthenticated: "Sign in with a valid key or token.",
  forbidden: "Sign in with a token that allows this, or ask who operates the service.",
  unknown_session: "Press Start to begin another session.",
  session_ended: "Press Start to begin another session.",
  session_closed: "Press Start to begin another session.",
  connection_lost: "Check the network, then press Start.",
  not_connected: "Press Start to connect again.",
  timed_out: "Press Start again; if it happens twice, tell the operator.",
  publisher_taken: "Another page sends its camera to this session: let go of it there.",
};

/** Returns what was thrown in words for people. */
export function problemOf(error: unknown): Problem {
  if (error instanceof UnknownModelError && error.servedModels.length > 0)
    return { title: sentence(error.message), advice: `Served here: ${error.servedModels.join(", ")} (add ?model=NAME to the address).` };
  if (error instanceof SanaError) {
    const wait = error.retryAfter === null ? "" : ` In ${Math.ceil(error.retryAfter)} s it may work.`;
    const said = error instanceof CommandRejected ? error.reason : error.message;
    return { title: sentence(said), advice: (ADVICE[error.code] ?? error.advice) + wait };
  }
  if (error instanceof ProblemError) return { title: sentence(error.message), advice: error.advice };
  const message = error instanceof Error ? error.message : String(error);
  return { title: sentence(message), advice: "Try again; reload the page if it happens twice." };
}

const sentence = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
