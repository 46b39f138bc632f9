/** A canvas that fills its box, sharp on any screen. */

/** Returns the context of a canvas, its size set to its box; null: it is not shown. Painting is in CSS pixels. */
export function fitted(
  canvas: HTMLCanvasElement,
  width: number,
  height: number,
): { readonly context: CanvasRenderingContext2D; readonly resized: boolean } | null {
  const scale = Math.min(2, devicePixelRatio || 1);
  const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
  const context = canvas.getContext("2d");
  if (context === null || across === 0 || down === 0) return null;
  const resized = canvas.width !== across || canvas.height !== down;
  if (resized) [canvas.width, canvas.height] = [across, down];
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return { context, resized };
}

/** Calls when the size of an element changes, and at once; returns what ends that. */
export function onResize(element: Element, hear: (width: number, height: number) => void): () => void {
  const observer = new ResizeObserver(([entry]) => {
    if (entry !== undefined) hear(entry.contentRect.width, entry.contentRect.height);
  });
  observer.observe(element);
  return () => observer.disconnect();
}
