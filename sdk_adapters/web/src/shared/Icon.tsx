/** The icons of both pages: outlines on a grid of 24. */
const PATHS = {
  brand: "M12 4v16M9 8l-4 4 4 4zM15 8l4 4-4 4z",
  camera: "M3 7h11a2 2 0 0 1 2 2v6a2 2 0 0 1-2 2H3zM16 11l5-3v8l-5-3z",
  screen: "M3 5h18v11H3zM8 20h8M12 16v4",
  file: "M4 5h16v14H4zM10 9.5v5l4.5-2.5z",
  play: "M8 5.5v13l10.5-6.5z",
  pause: "M8 5v14M16 5v14",
  stop: "M6 6h12v12H6z",
  reset: "M4 12a8 8 0 1 0 2.6-5.9M4 4v5h5",
  fork: "M7 4v7a4 4 0 0 0 4 4h6M7 4v16M14 11l4 4-4 4",
  compare: "M12 3v18M4 6h5v12H4M20 6h-5v12h5",
  beside: "M3 6h8v12H3zM13 6h8v12h-8z",
  result: "M3 6h18v12H3z",
  full: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  code: "M8 7l-5 5 5 5M16 7l5 5-5 5",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  keyboard: "M3 6h18v12H3zM7 10h.01M11 10h.01M15 10h.01M18 10h.01M8 14h8",
  close: "M6 6l12 12M18 6L6 18",
  check: "M4 12.5l5 5L20 6.5",
  warn: "M12 4l9 16H3zM12 10v5M12 17.5v.01",
  system: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  light: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M5 5l1.7 1.7M17.3 17.3L19 19M5 19l1.7-1.7M17.3 6.7L19 5",
  dark: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
  leave: "M14 4h6v16h-6M4 12h11M11 8l4 4-4 4",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M15.5 15.5L21 21",
  down: "M6 9l6 6 6-6",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
} as const;

export type IconName = keyof typeof PATHS;

const FILLED: ReadonlySet<IconName> = new Set(["play", "stop", "brand"]);

/** An icon; what it means is said beside it. */
export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg
      class="icon"
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill={FILLED.has(name) ? "currentColor" : "none"}
      stroke="currentColor"
      stroke-width="1.75"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
