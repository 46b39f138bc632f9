/** What is said of the thing under the pointer, or of the one that the keyboard has chosen. */
import { signal } from "@preact/signals";

/** A few lines at a place of the window. */
export interface Tip {
  readonly x: number;
  readonly y: number;
  readonly title: string;
  readonly lines: readonly string[];
}

export const tip = signal<Tip | null>(null);
/** What screen readers are told. */
export const spoken = signal("");

/** Shows a tip; and says it, where the keyboard asked for it. */
export function show(said: Tip, aloud = false): void {
  tip.value = said;
  if (aloud) spoken.value = [said.title, ...said.lines].join(". ");
}

/** Takes it away. */
export function hide(): void {
  tip.value = null;
}
