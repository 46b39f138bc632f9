/** What a session has used. */
import { useEffect, useState } from "preact/hooks";
import { bytes } from "../../shared/format";
import { problemOf } from "../../shared/problems";
import { age, count } from "../format";
import { readUsage } from "../http";
import { columnsOf, type Column } from "../metering";
import type { UsageRow } from "../wire";

/** How often it is asked for. */
const AGAIN_MS = 5000;

/** Figures by their names. */
export function UsagePart({ session }: { session: string }) {
  const [row, setRow] = useState<UsageRow | null>(null);
  const [said, setSaid] = useState("Asking…");
  useEffect(() => {
    const stop = new AbortController();
    const ask = () =>
      readUsage({ by: "session", session }, stop.signal).then(
        ({ rows }) => {
          setRow(rows[0] ?? null);
          setSaid("It has used nothing yet.");
        },
        (error: unknown) => !stop.signal.aborted && setSaid(problemOf(error).title),
      );
    void ask();
    const timer = setInterval(() => void ask(), AGAIN_MS);
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, [session]);
  if (row === null) return <p class="nothing muted">{said}</p>;
  return (
    <dl class="facts">
      {columnsOf("tenant")
        .filter(({ unit }) => unit !== "text")
        .map((column) => (
          <div key={column.field}>
            <dt title={column.meaning}>{column.label}</dt>
            <dd class="number">{written(row, column)}</dd>
          </div>
        ))}
    </dl>
  );
}

/** Returns a figure of a row for people. */
export function written(row: UsageRow, { field, unit }: Column): string {
  const value = row[field];
  if (typeof value === "string") return value || "–";
  if (unit === "bytes") return bytes(value);
  if (unit === "seconds") return value > 0 && value < 10 ? `${value.toFixed(2)} s` : age(value * 1000);
  return count(value);
}
