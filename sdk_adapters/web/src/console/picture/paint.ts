/** Paints the cells of an actor. */
import { cornerOf, type Grid } from "../cells";
import { colour } from "../palette";
import { isDegraded, PHASES, phaseOf, type Phase, type Shape } from "../phases";
import type { Slots } from "../slots";
import type { Session } from "../wire";

/** What a picture is made of. */
export interface Shown {
  readonly places: Slots;
  readonly sessions: ReadonlyMap<string, Session>;
  /** Places that there are. */
  readonly room: number;
  readonly late: ReadonlySet<string>;
  /** The place that the pointer or the keyboard is at; -1: none. */
  readonly at: number;
  /** The session whose drawer is open. */
  readonly open: string;
  /** Tells whether a session is one of those that are looked for. */
  isChosen(session: Session): boolean;
}

type Stroke = (context: CanvasRenderingContext2D, x: number, y: number, size: number) => void;

const outlined: Stroke = (context, x, y, size) => context.roundRect(x + 1, y + 1, size - 2, size - 2, radius(size));

/** What is stroked and what is filled of a cell; so phases differ in their shape, too. */
const STROKED: Readonly<Record<Shape, Stroke | null>> = {
  full: null,
  ring: outlined,
  half: outlined,
  dot: outlined,
  arrow: outlined,
  slash: (context, x, y, size) => {
    outlined(context, x, y, size);
    context.moveTo(x + 2, y + size - 2);
    context.lineTo(x + size - 2, y + 2);
  },
  cross: (context, x, y, size) => {
    context.moveTo(x + 1.5, y + 1.5);
    context.lineTo(x + size - 1.5, y + size - 1.5);
    context.moveTo(x + size - 1.5, y + 1.5);
    context.lineTo(x + 1.5, y + size - 1.5);
  },
};
const FILLED: Readonly<Record<Shape, Stroke | null>> = {
  full: (context, x, y, size) => context.roundRect(x, y, size, size, radius(size)),
  ring: null,
  half: (context, x, y, size) => context.rect(x + 1, y + size / 2, size - 2, size / 2 - 1),
  dot: (context, x, y, size) => context.rect(x + size / 3, y + size / 3, size / 3, size / 3),
  arrow: (context, x, y, size) => {
    context.moveTo(x + size * 0.3, y + size * 0.22);
    context.lineTo(x + size * 0.78, y + size / 2);
    context.lineTo(x + size * 0.3, y + size * 0.78);
    context.closePath();
  },
  slash: null,
  cross: null,
};

/** Paints all; the context is that of an empty canvas of the grid's size. */
export function paintCells(context: CanvasRenderingContext2D, grid: Grid, shown: Shown): void {
  const [bright, dim] = [new Map<Phase, number[]>(), new Map<Phase, number[]>()];
  const [empty, late, degraded]: [number[], number[], number[]] = [[], [], []];
  for (let place = 0; place < Math.max(shown.room, shown.places.length); place += 1) {
    const session = shown.sessions.get(shown.places.at(place) ?? "");
    if (session === undefined) {
      empty.push(place);
      continue;
    }
    const chosen = shown.isChosen(session);
    add(chosen ? bright : dim, phaseOf(session), place);
    if (!chosen) continue;
    if (shown.late.has(session.id)) late.push(place);
    else if (isDegraded(session)) degraded.push(place);
  }
  paintEmpty(context, grid, empty);
  context.globalAlpha = 0.22;
  paintPhases(context, grid, dim);
  context.globalAlpha = 1;
  paintPhases(context, grid, bright);
  paintMarks(context, grid, degraded, colour("--warn"));
  paintMarks(context, grid, late, colour("--bad"));
  frame(context, grid, shown.places.placeOf(shown.open), colour("--text"));
  frame(context, grid, shown.at, colour("--text"));
}

function paintEmpty(context: CanvasRenderingContext2D, grid: Grid, places: readonly number[]): void {
  context.beginPath();
  for (const place of places) {
    const [x, y] = cornerOf(grid, place);
    context.roundRect(x, y, grid.cell, grid.cell, radius(grid.cell));
  }
  context.fillStyle = colour("--cell-empty");
  context.fill();
}

function paintPhases(context: CanvasRenderingContext2D, grid: Grid, phases: ReadonlyMap<Phase, readonly number[]>): void {
  context.lineWidth = grid.cell >= 12 ? 1.75 : 1.25;
  for (const [phase, places] of phases) {
    const { shape, colour: property } = PHASES[phase];
    context.fillStyle = context.strokeStyle = colour(property);
    const [stroked, filled] = [STROKED[shape], FILLED[shape]];
    if (filled !== null) {
      trace(context, grid, places, filled);
      context.fill();
    }
    if (stroked !== null) {
      trace(context, grid, places, stroked);
      context.stroke();
    }
  }
}

/** A corner of a cell: its session runs at less than full quality, or was late. */
function paintMarks(context: CanvasRenderingContext2D, grid: Grid, places: readonly number[], paint: string): void {
  const size = Math.max(4, Math.round(grid.cell * 0.42));
  const edge = new Path2D();
  const mark = new Path2D();
  for (const place of places) {
    const [x, y] = cornerOf(grid, place);
    edge.rect(x + grid.cell - size, y - 1, size + 1, size + 1);
    mark.rect(x + grid.cell - size + 1, y - 1, size, size);
  }
  context.fillStyle = colour("--surface");
  context.fill(edge);
  context.fillStyle = paint;
  context.fill(mark);
}

function frame(context: CanvasRenderingContext2D, grid: Grid, place: number, paint: string): void {
  if (place < 0) return;
  const [x, y] = cornerOf(grid, place);
  context.beginPath();
  context.roundRect(x - 1.5, y - 1.5, grid.cell + 3, grid.cell + 3, radius(grid.cell) + 1.5);
  context.lineWidth = 2;
  context.strokeStyle = paint;
  context.stroke();
}

function trace(context: CanvasRenderingContext2D, grid: Grid, places: readonly number[], stroke: Stroke): void {
  context.beginPath();
  for (const place of places) {
    const [x, y] = cornerOf(grid, place);
    stroke(context, x, y, grid.cell);
  }
}

function add(phases: Map<Phase, number[]>, phase: Phase, place: number): void {
  const places = phases.get(phase);
  if (places === undefined) phases.set(phase, [place]);
  else places.push(place);
}

function radius(cell: number): number {
  return cell >= 16 ? 4 : cell >= 11 ? 3 : 2;
}
