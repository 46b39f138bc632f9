/** Which rows of a long list are seen. Pure. */

/** Rows beyond each edge that are rendered, too, so that scrolling shows no gaps. */
const BEYOND = 4;

/** Returns the rows from `first` up to, but without, `end`. */
export function partOf(
  scrolled: number,
  height: number,
  rowHeight: number,
  count: number,
): { readonly first: number; readonly end: number } {
  const first = Math.max(0, Math.min(count, Math.floor(scrolled / rowHeight)) - BEYOND);
  const end = Math.min(count, Math.ceil((scrolled + height) / rowHeight) + 1 + BEYOND);
  return { first: Math.min(first, end), end };
}
