/** A small chart of the latest values of one figure. */

/** One value; null where it was not known. */
export type Sample = number | null;

const [WIDTH, HEIGHT] = [120, 32];

interface Shown {
  readonly samples: readonly Sample[];
  /** How many samples the whole width shows; the newest is at the right. */
  readonly room: number;
  /** Top of the scale; by default the highest value. */
  readonly most?: number;
  /** What it says to who does not see it. */
  readonly label: string;
}

/** An SVG of lines, which stretches to its box. */
export function Sparkline({ samples, room, most, label }: Shown) {
  const { line, area } = paths(samples, room, most);
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <path class="area" d={area} />
      <path class="line" d={line} vector-effect="non-scaling-stroke" />
    </svg>
  );
}

/** Returns what to draw: lines between known neighbours, and what lies below them. */
export function paths(samples: readonly Sample[], room: number, most?: number): { line: string; area: string } {
  const shown = samples.slice(-room);
  const top = most ?? Math.max(1e-9, ...shown.map((each) => each ?? 0)) * 1.1;
  const x = (index: number) => round(((room - shown.length + index) / Math.max(1, room - 1)) * WIDTH);
  const y = (value: number) => round(HEIGHT - 1 - Math.min(1, Math.max(0, value / top)) * (HEIGHT - 2));
  let [line, area, from] = ["", "", -1];
  shown.forEach((value, index) => {
    if (value === null) return;
    const begins = index === 0 || shown[index - 1] === null;
    if (begins) from = index;
    line += `${begins ? "M" : "L"}${x(index)} ${y(value)}`;
    area += begins ? `M${x(index)} ${HEIGHT}L${x(index)} ${y(value)}` : `L${x(index)} ${y(value)}`;
    const ends = index === shown.length - 1 || shown[index + 1] === null;
    if (ends) area += `L${x(index)} ${HEIGHT}Z`;
    if (ends && from === index) line += `h0.01`;
  });
  return { line, area };
}

const round = (value: number) => Math.round(value * 100) / 100;
