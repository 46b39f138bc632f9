/** What a phase looks like, beside its name. */
import { PHASES, type Phase, type Shape } from "./phases";

/** The shapes of the cells, on a grid of 16. */
const SHAPES: Readonly<Record<Shape, { readonly stroke?: string; readonly fill?: string }>> = {
  full: { fill: "M2 4a2 2 0 0 1 2-2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H4a2 2 0 0 1-2-2z" },
  ring: { stroke: "M3 3h10v10H3z" },
  half: { stroke: "M3 3h10v10H3z", fill: "M3 8h10v5H3z" },
  dot: { stroke: "M3 3h10v10H3z", fill: "M6 6h4v4H6z" },
  arrow: { stroke: "M3 3h10v10H3z", fill: "M6 5l5 3-5 3z" },
  slash: { stroke: "M3 3h10v10H3zM3 13L13 3" },
  cross: { stroke: "M3 3l10 10M13 3L3 13" },
};

/** An icon; its name stands beside it. */
export function PhaseMark({ phase }: { phase: Phase }) {
  const { stroke, fill } = SHAPES[PHASES[phase].shape];
  return (
    <svg class={`phase-mark phase-${phase}`} width="14" height="14" viewBox="0 0 16 16" aria-hidden="true">
      {fill && <path d={fill} fill="currentColor" />}
      {stroke && <path d={stroke} fill="none" stroke="currentColor" stroke-width="2" />}
    </svg>
  );
}
