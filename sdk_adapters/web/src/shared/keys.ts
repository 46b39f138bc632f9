/** Keyboard shortcuts: a table, and what listens for them. */

/** One of them. */
export interface Shortcut {
  /** `KeyboardEvent.key`, or several. */
  readonly keys: readonly string[];
  /** What the help shows for it. */
  readonly shown: string;
  readonly what: string;
  readonly run: () => void;
}

/** Whether a key belongs to what has the focus: text is typed there, a list is moved through. */
export function isTaken(key: string, focused: Element | null): boolean {
  if (focused === null) return false;
  if (focused.closest("dialog, input, select, textarea, [contenteditable]") !== null) return true;
  const moves = key.startsWith("Arrow") || key === "Home" || key === "End";
  if (moves) return focused.closest("[role=slider], [role=tablist], [role=separator]") !== null;
  return (key === " " || key === "Enter") && focused.closest("button, a, summary, label") !== null;
}

/** Returns what a key press is for; undefined: nothing of ours. */
export function shortcutOf(
  event: Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey" | "repeat">,
  focused: Element | null,
  shortcuts: readonly Shortcut[],
): Shortcut | undefined {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTaken(event.key, focused)) return undefined;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return shortcuts.find(({ keys }) => keys.includes(key));
}

/** Listens; returns what stops it. */
export function listen(shortcuts: readonly Shortcut[]): () => void {
  const pressed = (event: KeyboardEvent) => {
    const found = shortcutOf(event, document.activeElement, shortcuts);
    if (found === undefined || event.defaultPrevented) return;
    event.preventDefault();
    found.run();
  };
  addEventListener("keydown", pressed);
  return () => removeEventListener("keydown", pressed);
}
