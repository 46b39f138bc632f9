/** What the operator is asked before it is done. */
import { signal } from "@preact/signals";
import type { Actor } from "./wire";

export type Asked = { readonly is: "kill"; readonly session: string } | { readonly is: "drain"; readonly actor: Actor } | null;

export const asked = signal<Asked>(null);
