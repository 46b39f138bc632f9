/** How the page looks just now: what is no one's but this page's. */
import { signal } from "@preact/signals";

/** Source and result over each other, beside each other, or the result alone. */
export type View = "compare" | "beside" | "result";

export const VIEWS: Readonly<Record<View, string>> = {
  compare: "Compare with a divider",
  beside: "Source and result side by side",
  result: "Result alone",
};
const NEXT: Readonly<Record<View, View>> = { compare: "beside", beside: "result", result: "compare" };

export const view = signal<View>("compare");
export const nextView = () => (view.value = NEXT[view.value]);

/** Where the divider stands, in percent from the left. */
export const divider = signal(50);
export const moveDivider = (to: number) => (divider.value = Math.min(100, Math.max(0, to)));

/** The panel beside the picture that is open. */
export type Panel = "quality" | "state" | "messages" | "code";
export const panel = signal<Panel>("quality");

/** The dialog that is open. */
export const dialog = signal<"fork" | "help" | null>(null);
