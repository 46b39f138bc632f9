import { beforeEach, expect, test } from "vitest";
import { Journal } from "../../src/console/journal";
import { Pool } from "../../src/console/pool";
import { snapshotOf, wordOf } from "../../src/console/wire";
import * as wires from "./wires";

let pool: Pool;
let journal: Journal;

beforeEach(() => {
  pool = new Pool();
  journal = new Journal(pool, 10);
});

const snapshot = (sequence: number, ...ids: string[]) =>
  journal.snapshot(snapshotOf(wires.pool(sequence, ids.map((id) => wires.session(id, "ACTIVE", { actor_id: "a1" }))), 0));
const queued = (sequence: number) =>
  journal.hear(wordOf("session_queued", wires.event(sequence, "session_queued", { session_id: `s${sequence}` })));
const started = (sequence: number) => journal.hear(wordOf("started", { sequence: String(sequence) }));
const gap = (after: number, next: number) => journal.hear(wordOf("gap", { after_sequence: String(after), next_sequence: String(next) }));
const sessions = () => [...pool.sessions.keys()].sort();
const log = () => [...journal.log].map((entry) => (entry.is === "event" ? entry.event.sequence : `${entry.after}-${entry.next}`));

test("what is part of the snapshot is logged and not applied again", () => {
  snapshot(10, "old");
  started(8);
  queued(9);
  queued(10);
  queued(11);
  expect(sessions()).toEqual(["old", "s11"]);
  expect(log()).toEqual([9, 10, 11]);
  expect(journal.heard).toBe(11);
  expect(journal.isWhole).toBe(true);
});

test("an event that is told twice counts once", () => {
  snapshot(10);
  started(10);
  queued(11);
  queued(11);
  expect(log()).toEqual([11]);
});

test("events that came while a snapshot was on its way are applied to it", () => {
  snapshot(10);
  started(10);
  queued(11);
  queued(12);
  expect(snapshot(11, "s11")).toBe(true);
  expect(sessions()).toEqual(["s11", "s12"]);
});

test("at a gap the pool is whole again only with a snapshot from after it", () => {
  snapshot(10);
  started(10);
  queued(11);
  gap(11, 20);
  expect(journal.isWhole).toBe(false);
  queued(20);
  expect(snapshot(15, "too-old")).toBe(false);
  expect(sessions()).not.toContain("too-old");
  expect(snapshot(19, "new")).toBe(true);
  expect(sessions()).toEqual(["new", "s20"]);
  expect(log()).toEqual([11, "11-20", 20]);
});

test("a hole that nobody told of is a gap", () => {
  snapshot(10);
  started(10);
  queued(11);
  queued(14);
  expect(journal.isWhole).toBe(false);
  expect(log()).toEqual([11, "11-14", 14]);
});

test("a log that begins later than was asked for is no gap", () => {
  snapshot(10, "old");
  started(2);
  gap(2, 9);
  queued(9);
  expect(journal.isWhole).toBe(true);
  expect(sessions()).toEqual(["old"]);
  expect(log()).toEqual([9]);
});

test("a stream that begins again goes on where it was", () => {
  snapshot(10);
  started(10);
  queued(11);
  started(11);
  queued(12);
  expect(journal.isWhole).toBe(true);
  expect(journal.heard).toBe(12);
});

test("a stream that begins again further on has missed something", () => {
  snapshot(10);
  started(10);
  queued(11);
  started(15);
  expect(journal.isWhole).toBe(false);
  expect(snapshot(15)).toBe(true);
});

test("ledgers that are older than a drain do not undo it", () => {
  snapshot(10);
  started(10);
  journal.hear(wordOf("actor_draining", wires.event(11, "actor_draining", { actor_id: "a1" })));
  journal.refresh(snapshotOf(wires.pool(10, []), 0));
  expect(pool.actors.get("a1")?.draining).toBe(true);
  journal.refresh(snapshotOf(wires.pool(11, []), 0));
  expect(pool.actors.get("a1")?.draining).toBe(false);
});

test("of very many events a snapshot that is older than what is kept is of no use", () => {
  snapshot(10);
  started(10);
  for (let sequence = 11; sequence < 11 + 5000; sequence += 1) queued(sequence);
  const before = pool.version;
  snapshot(20);
  expect(pool.version).toBe(before);
  expect(journal.log.length).toBe(10);
});
