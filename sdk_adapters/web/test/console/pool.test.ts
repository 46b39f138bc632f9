import { beforeEach, expect, test } from "vitest";
import { isDegraded, phaseOf } from "../../src/console/phases";
import { Pool } from "../../src/console/pool";
import { eventOf, snapshotOf } from "../../src/console/wire";
import * as wires from "./wires";

let pool: Pool;
let sequence: number;

beforeEach(() => {
  pool = new Pool();
  sequence = 100;
});

const replace = (sessions: readonly object[], actors?: readonly object[]) =>
  pool.replace(snapshotOf(wires.pool(sequence, sessions, actors), 50_000));
const happen = (kind: string, more: object) => pool.apply(eventOf(wires.event((sequence += 1), kind, more)));
const phase = (id: string) => {
  const session = pool.sessions.get(id);
  return session && phaseOf(session);
};

test("follows a session from the queue to its end", () => {
  replace([]);
  const mine = { session_id: "s1", tenant: "acme", model: "m" };
  happen("session_queued", mine);
  expect(phase("s1")).toBe("queued");
  happen("session_assigned", { ...mine, actor_id: "a1" });
  expect(phase("s1")).toBe("starting");
  happen("session_placed", { ...mine, actor_id: "a1", rate_share: 1 });
  expect(phase("s1")).toBe("idle");
  happen("session_computing", { ...mine, actor_id: "a1", rate_share: 1 });
  expect(phase("s1")).toBe("generating");
  happen("session_idle", { ...mine, actor_id: "a1" });
  expect(phase("s1")).toBe("idle");
  happen("session_parked", { ...mine, from_actor_id: "a1" });
  expect(phase("s1")).toBe("parked");
  expect(pool.sessions.get("s1")?.actor).toBe("");
  happen("session_restored", { ...mine, actor_id: "a1", rate_share: 1 });
  expect(phase("s1")).toBe("idle");
  happen("session_released", { ...mine, from_actor_id: "a1" });
  expect(pool.sessions.size).toBe(0);
});

test("a session that moves is where it was until it goes on elsewhere", () => {
  replace([wires.session("s1", "ACTIVE", { actor_id: "a1", computing: true })], [wires.actor("a1"), wires.actor("a2")]);
  happen("session_moving", { session_id: "s1", actor_id: "a2", from_actor_id: "a1" });
  expect(pool.sessions.get("s1")).toMatchObject({ state: "moving", actor: "a1", target: "a2" });
  expect(pool.placesOf("a1").taken).toBe(1);
  happen("session_moved", { session_id: "s1", actor_id: "a2", from_actor_id: "a1", rate_share: 1 });
  expect(pool.sessions.get("s1")).toMatchObject({ state: "active", actor: "a2", target: "", computing: true });
  expect(pool.placesOf("a1").taken).toBe(0);
  expect(pool.placesOf("a2").taken).toBe(1);
});

test("a move that is undone leaves the session where it is", () => {
  replace([wires.session("s1", "ACTIVE", { actor_id: "a1" })], [wires.actor("a1"), wires.actor("a2")]);
  happen("session_moving", { session_id: "s1", actor_id: "a2", from_actor_id: "a1" });
  happen("session_stayed", { session_id: "s1", actor_id: "a1" });
  expect(pool.sessions.get("s1")).toMatchObject({ state: "active", actor: "a1", target: "" });
});

test("quality comes and goes", () => {
  replace([wires.session("s1", "ACTIVE", { actor_id: "a1", computing: true })]);
  happen("session_degraded", { session_id: "s1", rate_share: 0.5, steps: 2 });
  expect(pool.sessions.get("s1")).toMatchObject({ rate: 0.5, steps: 2 });
  expect(isDegraded(pool.sessions.get("s1")!)).toBe(true);
  happen("session_full_quality", { session_id: "s1", rate_share: 1 });
  expect(isDegraded(pool.sessions.get("s1")!)).toBe(false);
});

test("an actor that is lost is gone, its sessions wait", () => {
  replace([wires.session("s1", "ACTIVE", { actor_id: "a1" })]);
  happen("session_lost", { session_id: "s1", from_actor_id: "a1", actor_id: "a1" });
  happen("actor_lost", { actor_id: "a1" });
  expect(pool.actors.size).toBe(0);
  expect(phase("s1")).toBe("lost");
});

test("an actor that enrolls is there before the next snapshot, and drains come and go", () => {
  replace([], []);
  happen("actor_enrolled", { actor_id: "a7", model: "m" });
  expect(pool.actors.get("a7")).toMatchObject({ healthy: true, model: "m" });
  happen("actor_draining", { actor_id: "a7" });
  expect(pool.actors.get("a7")?.draining).toBe(true);
  happen("actor_kept", { actor_id: "a7" });
  expect(pool.actors.get("a7")?.draining).toBe(false);
});

test("a scheduler that begins knows nothing", () => {
  replace([wires.session("s1", "ACTIVE", { actor_id: "a1" })]);
  happen("scheduler_started", {});
  expect([pool.actors.size, pool.sessions.size, pool.placesOf("a1").taken]).toEqual([0, 0, 0]);
});

test("what is refused makes no session", () => {
  replace([]);
  happen("admission_rejected", { session_id: "s1", tenant: "acme" });
  happen("something_of_a_later_version", { session_id: "s2" });
  expect(pool.sessions.size).toBe(0);
});

test("a session keeps its place in the picture through snapshots", () => {
  const on = (...ids: string[]) => ids.map((id) => wires.session(id, "ACTIVE", { actor_id: "a1" }));
  replace(on("s1", "s2", "s3"));
  expect(pool.placesOf("a1").placeOf("s3")).toBe(2);
  replace(on("s3", "s4"));
  expect(pool.placesOf("a1").placeOf("s3")).toBe(2);
  expect(pool.placesOf("a1").placeOf("s4")).toBe(0);
  expect(pool.placesOf("a1").at(1)).toBeNull();
});

test("only the actors that an event concerns are touched", () => {
  replace([wires.session("s1", "ACTIVE", { actor_id: "a1" })], [wires.actor("a1"), wires.actor("a2")]);
  const before = pool.touched("a2");
  happen("session_computing", { session_id: "s1", actor_id: "a1", rate_share: 1 });
  expect(pool.touched("a1")).toBe(pool.version);
  expect(pool.touched("a2")).toBe(before);
});

test("a refresh takes ledgers and leaves sessions; the queue's order goes to those that still wait", () => {
  replace([wires.session("s1", "QUEUED", { queue_position: 2 }), wires.session("s2", "ACTIVE", { actor_id: "a1" })]);
  pool.refresh(snapshotOf(wires.pool(sequence, [], [wires.actor("a1", { booked_ms_per_s: 3 })]), 0));
  expect(pool.sessions.size).toBe(2);
  expect(pool.actors.get("a1")?.bookedMs).toBe(3);
  const line = [wires.session("s1", "QUEUED", { queue_position: 1, estimated_wait: "4s" }), wires.session("s2", "QUEUED", { queue_position: 2 })];
  pool.line(snapshotOf(wires.pool(sequence, line), 0).sessions);
  expect(pool.sessions.get("s1")).toMatchObject({ position: 1, waitMs: 4000 });
  expect(pool.sessions.get("s2")).toMatchObject({ state: "active", position: 0 });
});

test("a session that has its place waits for none", () => {
  replace([wires.session("s1", "QUEUED", { queue_position: 2, estimated_wait: "4s" })]);
  happen("session_assigned", { session_id: "s1", actor_id: "a1" });
  expect(pool.sessions.get("s1")).toMatchObject({ position: 0, waitMs: null });
});

test("counts sessions by what they do", () => {
  replace([wires.session("s1", "ACTIVE", { actor_id: "a1", computing: true }), wires.session("s2", "PARKED")]);
  expect(pool.counts()).toMatchObject({ generating: 1, parked: 1, idle: 0, queued: 0 });
});
