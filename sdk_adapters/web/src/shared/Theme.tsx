/** Light, dark, or what the system says; remembered on this machine. */
import { signal } from "@preact/signals";
import { Icon } from "./Icon";

export type Theme = "system" | "light" | "dark";

const KEY = "sana.theme";
const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const NAMES: Record<Theme, string> = { system: "as the system", light: "light", dark: "dark" };

const stored = localStorage.getItem(KEY);

/** The theme that was chosen. */
export const theme = signal<Theme>(stored === "light" || stored === "dark" ? stored : "system");

/** Chooses a theme. */
export function choose(chosen: Theme): void {
  theme.value = chosen;
  if (chosen === "system") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, chosen);
  show();
}

/** Chooses the next one: as the system, light, dark. */
export const cycle = () => choose(NEXT[theme.value]);

function show(): void {
  if (theme.value === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme.value;
}

show();

/** A button that changes the theme. */
export function ThemeSwitch() {
  const label = `Theme: ${NAMES[theme.value]}`;
  return (
    <button class="button quiet icon" type="button" title={label} aria-label={label} onClick={cycle}>
      <Icon name={theme.value} />
    </button>
  );
}
