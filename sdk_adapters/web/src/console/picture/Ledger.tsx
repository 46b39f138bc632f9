/** One ledger of an actor: what is booked, and what may be. */

interface Given {
  readonly name: string;
  /** What the bar is filled to, as a share of its length. */
  readonly filled: number;
  /** What others have booked of the same thing, as a share of the length. */
  readonly others?: number;
  /** Where the ceiling is, as a share of the length; absent: at the end. */
  readonly ceiling?: number;
  readonly figure: string;
  /** The whole of it in words. */
  readonly words: string;
}

/** From this share of the ceiling on there is no room for another. */
const FULL = 0.985;

/** A bar with its name and its figure. */
export function Ledger({ name, filled, others = 0, ceiling = 1, figure, words }: Given) {
  const share = ceiling > 0 ? (filled + others) / ceiling : 0;
  const room = share > 1.001 ? "over" : share >= FULL ? "full" : "";
  return (
    <div class={`ledger ${room}`} title={words}>
      <span class="ledger-name">{name}</span>
      <span
        class="ledger-bar"
        role="meter"
        aria-label={`${name}: ${words}`}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.min(100, Math.round(100 * share))}
      >
        <span class="ledger-filled" style={{ width: width(filled) }} />
        {others > 0 && <span class="ledger-others" style={{ width: width(others) }} />}
        {ceiling < 1 && <span class="ledger-ceiling" style={{ left: width(ceiling) }} />}
      </span>
      <span class="ledger-figure number">{figure}</span>
    </div>
  );
}

function width(share: number): string {
  return `${Math.min(100, Math.max(0, share * 100)).toFixed(2)}%`;
}
