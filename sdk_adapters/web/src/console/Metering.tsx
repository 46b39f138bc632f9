/** What tenants and sessions have used, for a time, as a table and as a file. */
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { Icon } from "../shared/Icon";
import { problemOf } from "../shared/problems";
import { counted } from "./format";
import { readUsage } from "./http";
import { SessionLink } from "./lists/SessionLink";
import { VirtualList } from "./lists/VirtualList";
import { columnsOf, csvOf, isAbout, sorted, totalsOf, type Column, type UsageBy } from "./metering";
import { written } from "./session/UsagePart";
import type { UsagePage, UsageRow } from "./wire";

const DAY = 86_400;
const RANGES = { "1": "Last 24 hours", "7": "Last 7 days", "30": "Last 30 days", "": "From the beginning" } as const;
type Range = keyof typeof RANGES;
const BYS: Readonly<Record<UsageBy, string>> = { tenant: "Tenants", session: "Sessions" };
/** How often the table is asked for again. */
const AGAIN_MS = 15_000;
/** Rows of an answer that is one page; more are not asked for by themselves. */
const FEW = 1000;

const by = signal<UsageBy>("tenant");
const range = signal<Range>("1");
const wanted = signal("");
const order = signal<{ readonly field: keyof UsageRow; readonly reversed: boolean }>({ field: "spentS", reversed: false });

/** With its tools and its sums. */
export function Metering() {
  const { page, problem } = useUsage(by.value, range.value);
  const columns = columnsOf(by.value);
  const column = columns.find(({ field }) => field === order.value.field) ?? (columns[0] as Column);
  const rows = sorted((page?.rows ?? []).filter((row) => isAbout(row, wanted.value)), column, order.value.reversed);
  return (
    <section class="panel whole metering" aria-label="Metering">
      <div class="list-tools">
        <h2>Metering</h2>
        <div class="segments" role="group" aria-label="A row for each">
          {(Object.keys(BYS) as UsageBy[]).map((name) => (
            <button key={name} type="button" class="segment" aria-pressed={by.value === name} onClick={() => (by.value = name)}>
              {BYS[name]}
            </button>
          ))}
        </div>
        <label class="choice">
          <span>Time</span>
          <select
            class="input slim"
            value={range.value}
            onChange={(event) => (range.value = event.currentTarget.value as Range)}
          >
            {Object.entries(RANGES).map(([days, label]) => (
              <option key={days} value={days}>
                {label}
              </option>
            ))}
          </select>
        </label>
        <input
          class="input slim"
          type="search"
          placeholder="Tenant or session"
          aria-label="Filter by tenant or session"
          value={wanted.value}
          onInput={(event) => (wanted.value = event.currentTarget.value)}
        />
        <span class="spring" />
        <button class="button" type="button" disabled={rows.length === 0} onClick={() => save(csvOf(rows, by.value), by.value)}>
          <Icon name="file" size={16} /> Save CSV
        </button>
      </div>
      <p class="list-note small muted" role="status">
        {problem || hoursOf(page)}
      </p>
      <VirtualList
        label="Usage"
        class={`usage by-${by.value}`}
        count={rows.length}
        rowHeight={44}
        empty={page === null ? "Asking…" : "Nothing was used in that time."}
        head={columns.map((each) => (
          <Head key={each.field} column={each} />
        ))}
        row={(index, place) => {
          const row = rows[index];
          if (row === undefined) return null;
          return (
            <div key={`${row.tenant} ${row.session}`} {...place} class="list-row">
              <Cells row={row} columns={columns} />
            </div>
          );
        }}
      />
      {rows.length > 0 && (
        <div class={`usage-sums usage by-${by.value}`} role="table" aria-label="Sums">
          <div class="list-row" role="row">
            <Cells row={{ ...totalsOf(rows), tenant: `Total of ${counted(rows.length, by.value)}` }} columns={columns} />
          </div>
        </div>
      )}
    </section>
  );
}

function Head({ column }: { column: Column }) {
  const { field, reversed } = order.value;
  const isChosen = field === column.field;
  const direction = (column.unit === "text") !== reversed ? "ascending" : "descending";
  return (
    <span role="columnheader" aria-sort={isChosen ? direction : "none"} class={column.unit === "text" ? "" : "figure"}>
      <button
        class="sort"
        type="button"
        title={column.meaning}
        onClick={() => (order.value = { field: column.field, reversed: isChosen && !reversed })}
      >
        {column.label}
        <span aria-hidden="true">{isChosen ? (direction === "ascending" ? " ↑" : " ↓") : ""}</span>
      </button>
    </span>
  );
}

function Cells({ row, columns }: { row: UsageRow; columns: readonly Column[] }) {
  return (
    <>
      {columns.map((column) => (
        <span
          key={column.field}
          role="cell"
          data-head={column.label}
          class={column.unit === "text" ? "clip" : "figure number clip"}
        >
          {column.field === "session" && row.session ? <SessionLink id={row.session} /> : written(row, column)}
        </span>
      ))}
    </>
  );
}

function useUsage(asked: UsageBy, days: Range): { page: UsagePage | null; problem: string } {
  const [page, setPage] = useState<UsagePage | null>(null);
  const [problem, setProblem] = useState("");
  const size = useRef(0);
  useEffect(() => {
    const stop = new AbortController();
    setPage(null);
    const ask = () => {
      const since = days === "" ? {} : { since: Math.floor(Date.now() / 1000) - Number(days) * DAY };
      readUsage({ by: asked, ...since }, stop.signal).then(
        (told) => {
          size.current = told.rows.length;
          setPage(told);
          setProblem("");
        },
        (error: unknown) => !stop.signal.aborted && setProblem(problemOf(error).title),
      );
    };
    ask();
    const timer = setInterval(() => size.current <= FEW && ask(), AGAIN_MS);
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, [asked, days]);
  return { page, problem };
}

function hoursOf(page: UsagePage | null): string {
  if (page === null) return "Asking…";
  const hour = (at: number) => new Date(at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  const cut = page.next === "" ? "" : " There are more rows than are shown.";
  const since = page.since === null ? "From the beginning" : `From ${hour(page.since)}`;
  return `${since}, in whole hours${page.until === null ? "" : `, up to ${hour(page.until)}`}. A chunk counts once.${cut}`;
}

function save(table: string, name: UsageBy): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table], { type: "text/csv" }));
  link.download = `usage-by-${name}-${new Date().toISOString().slice(0, 10)}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
