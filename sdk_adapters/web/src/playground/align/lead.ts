/**
 * How the clip is played so that its frames are there before their edit is shown. Pure.
 *
 * The element runs ahead of the picture, half as far as frames are kept, faster or slower by as
 * much as it is away from that; where it is too far away it is put where the picture is.
 */

/** An error of so much of the wanted lead changes the rate by as much. */
const GAIN = 0.5;
const [SLOWEST, FASTEST] = [0.4, 2];

/** What to do with the element. */
export type Move =
  | { readonly kind: "play"; readonly rate: number }
  | { readonly kind: "wait" }
  | { readonly kind: "seek"; readonly toMs: number };

/**
 * Returns how to go on.
 *
 * @param shownMs Time in the clip of the frame that is shown.
 * @param decodedMs Time of the newest frame that was decoded; null: none yet.
 * @param rate Milliseconds of the clip a millisecond of showing it.
 * @param mostMs How far ahead it may be: what is kept would be pushed out before it is shown.
 */
export function move(shownMs: number, decodedMs: number | null, rate: number, mostMs: number): Move {
  if (decodedMs === null) return { kind: "play", rate };
  const ahead = decodedMs - shownMs;
  if (ahead < -mostMs || ahead > 2 * mostMs) return { kind: "seek", toMs: shownMs };
  if (ahead > mostMs) return { kind: "wait" };
  const wanted = mostMs / 2;
  const corrected = 1 + (GAIN * (wanted - ahead)) / wanted;
  return { kind: "play", rate: rate * Math.min(FASTEST, Math.max(SLOWEST, corrected)) };
}
