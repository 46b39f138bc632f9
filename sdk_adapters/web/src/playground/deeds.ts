/** What was done, in order: what the copied code does again. Pure. */

/** Deeds that are kept; the oldest go first, but the connection stays. */
export const MOST_DEEDS = 60;

/** One deed. */
export type Deed =
  | { readonly kind: "connect"; readonly model: string }
  | { readonly kind: "camera" | "screen" }
  | { readonly kind: "clip"; readonly name: string }
  | { readonly kind: "mode"; readonly mode: "live" | "file" }
  | { readonly kind: "seed"; readonly seed: number }
  | { readonly kind: "prompt"; readonly prompt: string; readonly transitionChunks: number }
  | { readonly kind: "start" | "pause" | "resume" | "reset" }
  | { readonly kind: "fork"; readonly prompts: readonly string[] };

/** A deed and when it was done, in milliseconds since any one time. */
export type Done = Deed & { readonly at: number };

/** Adds a deed. A new connection begins anew; of two prompts before a start the last one counts. */
export function did(deeds: readonly Done[], deed: Done): readonly Done[] {
  if (deed.kind === "connect") return [deed];
  const last = deeds.at(-1);
  const kept = last?.kind === deed.kind && REPLACED.has(deed.kind) && !isRunning(deeds) ? deeds.slice(0, -1) : deeds;
  const [first, ...others] = [...kept, deed];
  return first === undefined ? [] : [first, ...others.slice(-(MOST_DEEDS - 1))];
}

const REPLACED: ReadonlySet<Deed["kind"]> = new Set(["prompt", "mode", "seed", "camera", "screen", "clip"]);

/** Whether what was done last leaves a run going. */
export function isRunning(deeds: readonly Deed[]): boolean {
  const turn = deeds.findLast(({ kind }) => kind === "start" || kind === "reset");
  return turn?.kind === "start";
}
