import { expect, test } from "vitest";
import { drainOf, durationMs, snapshotOf, timeMs, usageOf, wordOf } from "../../src/console/wire";
import * as wires from "./wires";

test("reads a pool, with 64-bit numbers that are text and without what is zero", () => {
  const told = wires.pool(1763889000000123, [
    wires.session("s1", "QUEUED", { queue_position: 3, estimated_wait: "8s", priority: 2 }),
    wires.session("s2", "ACTIVE", { actor_id: "a1", computing: true, rate_share: 0.5, steps: 2 }),
  ]);
  const pool = snapshotOf(told, 100_000);
  expect(pool.sequence).toBe(1763889000000123);
  expect(pool.sessions[0]).toMatchObject({ state: "queued", position: 3, waitMs: 8000, priority: 2, createdAt: 87_500 });
  expect(pool.sessions[1]).toMatchObject({ state: "active", actor: "a1", computing: true, rate: 0.5, steps: 2, waitMs: null });
  expect(pool.actors[0]).toMatchObject({ residentBytes: 68719476736, draining: false, ceilingMs: 850, process: null });
  expect(pool.signals).toMatchObject({ queued: 1, missRate: 0.25, chunks: 900, utilisation: 0 });
});

test("takes states of a later version for unknown ones", () => {
  const [session] = snapshotOf(wires.pool(1, [wires.session("s", "TELEPORTED")]), 0).sessions;
  expect(session?.state).toBe("unknown");
});

test("an answer that is nothing of ours is an empty pool", () => {
  expect(snapshotOf(null, 0)).toMatchObject({ sequence: 0, actors: [], sessions: [] });
  expect(snapshotOf({ sessions: "no", actors: 7 }, 0)).toMatchObject({ actors: [], sessions: [] });
});

test("chunks are by the scheduler's clock", () => {
  const word = wordOf("chunks", {
    actor_id: "a1",
    omitted: 3,
    actor_time: "2026-11-23T09:31:03.000Z",
    heard_time: "2026-11-23T09:31:08.000Z",
    chunks: [
      {
        session_id: "s1",
        run: 1,
        chunk: 17,
        begin_time: "2026-11-23T09:31:02.700Z",
        finish_time: "2026-11-23T09:31:02.900Z",
        wait_us: "15000",
        batch: 4,
        compute_us: "50000",
        slack_us: "-230000",
        late: true,
      },
      { session_id: "s2", run: 1, finish_time: "2026-11-23T09:31:02.900Z", compute_us: "50000" },
    ],
  });
  if (word.is !== "chunks") throw new Error(word.is);
  const at = Date.parse("2026-11-23T09:31:07.900Z");
  expect(word.omitted).toBe(3);
  expect(word.chunks[0]).toEqual({
    session: "s1",
    run: 1,
    chunk: 17,
    beganAt: at - 200,
    finishedAt: at,
    waitMs: 15,
    batch: 4,
    slackMs: -230,
    late: true,
    computeMs: 50,
  });
  expect(word.chunks[1]).toMatchObject({ chunk: 0, slackMs: null, late: false, batch: 1, beganAt: at - 50 });
});

test("reads the words of the journal", () => {
  expect(wordOf("gap", { after_sequence: "5", next_sequence: "9" })).toEqual({ is: "gap", after: 5, next: 9 });
  expect(wordOf("started", { sequence: "5" })).toEqual({ is: "started", sequence: 5, at: null });
  const word = wordOf("session_moving", wires.event(7, "session_moving", { actor_id: "b", from_actor_id: "a" }));
  expect(word).toMatchObject({ is: "event", event: { sequence: 7, kind: "session_moving", actor: "b", fromActor: "a", reason: "" } });
});

test("reads usage in seconds, and how far a drain has come", () => {
  const page = usageOf({ rows: [{ tenant: "acme", chunks: "10", streamed_us: "5000000" }], next_page_token: "x" });
  expect(page.rows[0]).toMatchObject({ tenant: "acme", session: "", chunks: 10, streamedS: 5, bytesOut: 0 });
  expect(page.next).toBe("x");
  expect(drainOf({ remaining: 12, without_room: 3 })).toEqual({ remaining: 12, withoutRoom: 3, cancelled: false, lost: false });
});

test("reads durations and times to the microsecond", () => {
  expect(durationMs("0.250s")).toBe(250);
  expect(durationMs("soon")).toBeNull();
  expect(timeMs("2026-11-23T09:31:02.700500Z")).toBeCloseTo(Date.parse("2026-11-23T09:31:02Z") + 700.5, 3);
  expect(timeMs("yesterday")).toBeNull();
});
