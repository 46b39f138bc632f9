/** What was used, as a table for people and as a file for their tools. Pure. */
import type { UsageRow } from "./wire";

/** What the rows are about. */
export type UsageBy = "tenant" | "session";

/** A column. */
export interface Column {
  readonly field: keyof UsageRow;
  readonly label: string;
  readonly unit: "text" | "count" | "seconds" | "bytes";
  /** What it means. */
  readonly meaning: string;
}

const FIGURES: readonly Column[] = [
  { field: "chunks", label: "Chunks", unit: "count", meaning: "Shown to their end, each once." },
  { field: "frames", label: "Frames", unit: "count", meaning: "Frames of these chunks." },
  { field: "streamedS", label: "Streamed", unit: "seconds", meaning: "How long these frames last at the model's rate." },
  { field: "computeS", label: "GPU time", unit: "seconds", meaning: "What the model took for these chunks." },
  { field: "spentS", label: "GPU spent", unit: "seconds", meaning: "For all windows, shown or not: what it cost." },
  { field: "bytesOut", label: "Sent", unit: "bytes", meaning: "Encoded video to viewers." },
  { field: "bytesIn", label: "Camera", unit: "bytes", meaning: "Encoded video of cameras." },
  { field: "uploadedBytes", label: "Uploads", unit: "bytes", meaning: "Clips and pictures." },
  { field: "parkedS", label: "Parked", unit: "seconds", meaning: "Kept on no actor." },
];
const TENANT: Column = { field: "tenant", label: "Tenant", unit: "text", meaning: "Whose." };
const SESSION: Column = { field: "session", label: "Session", unit: "text", meaning: "Which." };
const MODEL: Column = { field: "model", label: "Model", unit: "text", meaning: "As it was asked for." };

/** Returns the columns of a table. */
export function columnsOf(by: UsageBy): readonly Column[] {
  return by === "tenant" ? [TENANT, ...FIGURES] : [TENANT, SESSION, MODEL, ...FIGURES];
}

/** Returns the sums of the figures. */
export function totalsOf(rows: readonly UsageRow[]): UsageRow {
  const sum = (field: keyof UsageRow) => rows.reduce((total, row) => total + (row[field] as number), 0);
  return {
    tenant: "",
    session: "",
    model: "",
    chunks: sum("chunks"),
    frames: sum("frames"),
    streamedS: sum("streamedS"),
    computeS: sum("computeS"),
    spentS: sum("spentS"),
    bytesOut: sum("bytesOut"),
    bytesIn: sum("bytesIn"),
    uploadedBytes: sum("uploadedBytes"),
    parkedS: sum("parkedS"),
  };
}

/** Returns rows in the order of a column: text from A, figures from the largest; or the other way round. */
export function sorted(rows: readonly UsageRow[], column: Column, reversed: boolean): readonly UsageRow[] {
  const compare = (one: UsageRow, other: UsageRow): number => {
    const [a, b] = [one[column.field], other[column.field]];
    return typeof a === "string" ? a.localeCompare(String(b)) : Number(b) - Number(a);
  };
  const ordered = [...rows].sort(compare);
  return reversed ? ordered.reverse() : ordered;
}

/** Names of the columns in the file: the field, and its unit. */
const FILE_NAMES: Readonly<Partial<Record<keyof UsageRow, string>>> = {
  session: "session_id",
  streamedS: "streamed_s",
  computeS: "compute_s",
  spentS: "spent_s",
  bytesOut: "bytes_out",
  bytesIn: "bytes_in",
  uploadedBytes: "uploaded_bytes",
  parkedS: "parked_s",
};

/** Returns the table as comma-separated values (RFC 4180), in whole units. */
export function csvOf(rows: readonly UsageRow[], by: UsageBy): string {
  const columns = columnsOf(by);
  const lines = [columns.map((column) => FILE_NAMES[column.field] ?? column.field)];
  for (const row of rows) lines.push(columns.map((column) => cell(row[column.field])));
  return lines.map((line) => `${line.join(",")}\r\n`).join("");
}

function cell(value: string | number): string {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : value.toFixed(3);
  // Spreadsheets take such text for a formula.
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Tells whether a row is about a tenant or a session with the words in its name. */
export function isAbout(row: UsageRow, words: string): boolean {
  const wanted = words.trim().toLowerCase();
  return wanted === "" || [row.tenant, row.session].some((name) => name.toLowerCase().includes(wanted));
}
