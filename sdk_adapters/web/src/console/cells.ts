/** Where the cells of an actor's sessions are drawn. Pure; all in CSS pixels. */

/** Cells in rows. */
export interface Grid {
  readonly columns: number;
  readonly rows: number;
  /** Edge of a cell. */
  readonly cell: number;
  /** Space between two. */
  readonly gap: number;
  readonly height: number;
}

const LARGEST = 22;
const SMALLEST = 9;

/**
 * Returns the grid for a number of places: cells as large as fit into the wished number of rows.
 *
 * @param width Width that there is.
 * @param rows Rows that are wished for; there are more where cells would become too small.
 */
export function gridOf(places: number, width: number, rows: number): Grid {
  const count = Math.max(1, places);
  for (let cell = LARGEST; cell > SMALLEST; cell -= 1) {
    const grid = inCells(count, width, cell);
    if (grid.rows <= rows) return grid;
  }
  return inCells(count, width, SMALLEST);
}

function inCells(count: number, width: number, cell: number): Grid {
  const gap = cell >= 16 ? 4 : cell >= 12 ? 3 : 2;
  const columns = Math.max(1, Math.floor((width + gap) / (cell + gap)));
  const rows = Math.ceil(count / columns);
  return { columns, rows, cell, gap, height: rows * (cell + gap) - gap };
}

/** Returns the upper left corner of a place. */
export function cornerOf(grid: Grid, place: number): readonly [x: number, y: number] {
  const step = grid.cell + grid.gap;
  return [(place % grid.columns) * step, Math.floor(place / grid.columns) * step];
}

/** Returns the place at a point; -1: there is none. The space around a cell belongs to it. */
export function placeAt(grid: Grid, x: number, y: number): number {
  const step = grid.cell + grid.gap;
  const [column, row] = [Math.floor((x + grid.gap / 2) / step), Math.floor((y + grid.gap / 2) / step)];
  if (column < 0 || column >= grid.columns || row < 0 || row >= grid.rows) return -1;
  return row * grid.columns + column;
}

/** Keys that move between the cells. */
const STEPS: Readonly<Record<string, (grid: Grid) => number>> = {
  ArrowLeft: () => -1,
  ArrowRight: () => 1,
  ArrowUp: (grid) => -grid.columns,
  ArrowDown: (grid) => grid.columns,
};

/**
 * Returns the taken place to which a key leads.
 *
 * @param places Whose places they are, and how many there are.
 * @returns The place; `from` where the key leads nowhere, null where the key is none of ours.
 */
export function step(
  grid: Grid,
  places: { readonly length: number; at(place: number): string | null },
  from: number,
  key: string,
): number | null {
  if (key === "Home") return nextTaken(places, -1, 1, from);
  if (key === "End") return nextTaken(places, places.length, -1, from);
  const by = STEPS[key]?.(grid);
  if (by === undefined) return null;
  if (Math.abs(by) === 1) return nextTaken(places, from, by, from);
  for (let place = from + by; place >= 0 && place < places.length; place += by) {
    if (places.at(place) !== null) return place;
  }
  return from;
}

function nextTaken(
  places: { readonly length: number; at(place: number): string | null },
  from: number,
  by: number,
  otherwise: number,
): number {
  for (let place = from + by; place >= 0 && place < places.length; place += by) {
    if (places.at(place) !== null) return place;
  }
  return otherwise;
}
