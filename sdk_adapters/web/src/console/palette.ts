/** Colours of the style sheet for canvases: custom properties as they are in the theme that is shown. */
import { effect, signal } from "@preact/signals";
import { theme } from "../shared/Theme";

/** Grows when the colours change. */
export const palette = signal(0);

const known = new Map<string, string>();
let probe: HTMLElement | null = null;

function forget(): void {
  known.clear();
  palette.value = palette.peek() + 1;
}

for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)", "(prefers-contrast: more)"]) {
  matchMedia(query).addEventListener("change", forget);
}
effect(() => {
  theme.value;
  forget();
});

/** Returns the colour of a custom property, as canvases take it. */
export function colour(property: string): string {
  let found = known.get(property);
  if (found === undefined) {
    if (probe === null) {
      probe = document.createElement("span");
      probe.hidden = true;
      document.body.append(probe);
    }
    probe.style.color = `var(${property})`;
    found = getComputedStyle(probe).color;
    known.set(property, found);
  }
  return found;
}

/** Whether the system asks for little motion. */
export const isCalm = signal(matchMedia("(prefers-reduced-motion: reduce)").matches);
matchMedia("(prefers-reduced-motion: reduce)").addEventListener("change", (event) => (isCalm.value = event.matches));
