import { describe, expect, test } from "vitest";
import { age, clock, count, counted, percent } from "../../src/console/format";
import { detailOf, GROUPS, isWanted, labelOf } from "../../src/console/kinds";
import { partOf } from "../../src/console/lists/part";
import { columnsOf, csvOf, isAbout, sorted, totalsOf, type Column } from "../../src/console/metering";
import { Ring } from "../../src/console/ring";
import { find, matches } from "../../src/console/search";
import { placementOf, spansOf, Traces, waterfallOf } from "../../src/console/trace";
import { eventOf, sessionOf, usageOf } from "../../src/console/wire";
import * as wires from "./wires";

describe("metering", () => {
  const { rows } = usageOf({
    rows: [
      { tenant: "acme", session_id: "s1", model: "m", chunks: "10", spent_us: "1500000", bytes_out: "7" },
      { tenant: '=cmd|"x", y', session_id: "s2", model: "m", chunks: "30", spent_us: "2" },
    ],
  });
  const column = (field: string) => columnsOf("session").find((each) => each.field === field) as Column;

  test("sums up, and sorts figures from the largest and names from A", () => {
    expect(totalsOf(rows)).toMatchObject({ chunks: 40, bytesOut: 7 });
    expect(sorted(rows, column("chunks"), false)[0]?.chunks).toBe(30);
    expect(sorted(rows, column("chunks"), true)[0]?.chunks).toBe(10);
    expect(sorted(rows, column("session"), false)[0]?.session).toBe("s1");
    expect(isAbout(rows[0]!, "ACM")).toBe(true);
    expect(isAbout(rows[0]!, "s2")).toBe(false);
  });

  test("as a file: quoted where it must be, and no text is a formula", () => {
    const [head, first, second, end] = csvOf(rows, "session").split("\r\n");
    expect(head).toBe("tenant,session_id,model,chunks,frames,streamed_s,compute_s,spent_s,bytes_out,bytes_in,uploaded_bytes,parked_s");
    expect(first).toBe("acme,s1,m,10,0,0,0,1.500,7,0,0,0");
    expect(second?.startsWith(`"'=cmd|""x"", y",s2,`)).toBe(true);
    expect(end).toBe("");
    expect(csvOf(rows, "tenant").split("\r\n")[0]).not.toContain("session_id");
  });
});

describe("a waterfall", () => {
  const span = (span_id: string, parent_id: string, begin: string, duration_us: string, more: object = {}) => ({
    trace_id: "t1",
    span_id,
    parent_id,
    name: `name.${span_id}`,
    process: "actor 3f9c",
    begin_time: `2026-11-23T09:31:02.${begin}Z`,
    duration_us,
    ...more,
  });

  test("has children below their parents, in the order of their begin", () => {
    const { spans, omitted } = spansOf({
      omitted: 2,
      spans: [
        span("c", "a", "400", "100000", { error: "TimeoutError" }),
        span("a", "client", "000", "800000", { attributes: { "command.name": "set_prompt" } }),
        span("b", "a", "200", "100000"),
        span("d", "b", "250", "0"),
      ],
    });
    const fall = waterfallOf(spans);
    expect(omitted).toBe(2);
    expect(fall.rows.map(({ span: { id }, depth }) => [id, depth])).toEqual([
      ["a", 0],
      ["b", 1],
      ["d", 2],
      ["c", 1],
    ]);
    expect(fall).toMatchObject({ title: "set_prompt", failed: true, isWhole: true, durationMs: 800 });
    const under = spansOf({ spans: [span("q", "p", "000", "10", { name: "actor.queue" }), span("s", "p", "100", "10", { name: "actor.stage.x" })] });
    expect(waterfallOf(under.spans)).toMatchObject({ title: "Chunk under way", isWhole: false });
    expect(fall.rows[1]).toMatchObject({ left: 0.25, width: 0.125 });
    for (const { left, width } of fall.rows) expect(left + width).toBeLessThanOrEqual(1);
  });

  test("of spans that are their own parents, or of none, ends", () => {
    const { spans } = spansOf({ spans: [span("a", "a", "000", "10"), span("b", "c", "000", "10"), span("c", "b", "000", "10")] });
    expect(waterfallOf(spans).rows.map(({ span: { id } }) => id)).toContain("a");
    expect(waterfallOf([]).rows).toEqual([]);
  });

  test("a chunk that answers no command is called by its number", () => {
    const { spans } = spansOf({ spans: [span("a", "", "000", "10", { name: "actor.chunk", attributes: { "chunk.index": "7", "chunk.run": "2" } })] });
    expect(waterfallOf(spans).title).toBe("Chunk 7 of run 2");
  });

  test("of the way to a place is made from events, up to the first place", () => {
    const at = (second: string, kind: string) => eventOf({ ...wires.event(1, kind), time: `2026-11-23T09:31:${second}Z` });
    const way = [at("02", "session_queued"), at("05", "session_assigned"), at("06", "session_placed")];
    const { rows, durationMs, title } = waterfallOf(placementOf([...way, at("09", "session_computing"), at("30", "session_restored")]));
    expect([title, durationMs]).toEqual(["Placement", 4000]);
    expect(rows.map(({ span: { name }, left, width }) => [name, left, width])).toEqual([
      ["Placement", 0, 1],
      ["waits for a place", 0, 0.75],
      ["is taken in", 0.75, 0.25],
    ]);
    expect(placementOf(way.slice(0, 2))).toEqual([]);
    expect(placementOf([])).toEqual([]);
  });

  test("traces are bounded, the oldest go", () => {
    const traces = new Traces();
    for (let trace = 0; trace < 100; trace += 1) traces.add(spansOf({ spans: [span("a", "", "000", "10", { trace_id: `t${trace}` })] }).spans);
    expect(traces.ids()).toHaveLength(60);
    expect(traces.ids()[0]).toBe("t99");
    for (let more = 0; more < 500; more += 1) traces.add(spansOf({ spans: [span(`x${more}`, "", "000", "10", { trace_id: "t99" })] }).spans);
    expect(traces.spans("t99")).toHaveLength(400);
    expect(traces.omitted).toBe(101);
  });
});

describe("search", () => {
  const session = (id: string, tenant: string) => sessionOf(wires.session(id, "ACTIVE", { tenant }), 0);
  const sessions = [session("s1abc", "acme"), session("xs1ab", "acme"), session("s2", "s1-tenant")];

  test("finds tenants first, then ids that begin so, then those that have it inside", () => {
    expect(find(sessions, " S1A ").map((each) => (each.is === "session" ? each.session.id : each.tenant))).toEqual(["s1abc", "xs1ab"]);
    expect(find(sessions, "s1").map((each) => each.is)).toEqual(["tenant", "session", "session"]);
    expect(find(sessions, "acme")[0]).toEqual({ is: "tenant", tenant: "acme", sessions: 2 });
    expect(find(sessions, "  ")).toEqual([]);
    expect(find(sessions, "s", 2)).toHaveLength(2);
  });

  test("matches by id, tenant, model and actor", () => {
    expect(matches(sessions[0]!, "ACME")).toBe(true);
    expect(matches(sessions[0]!, "streaming")).toBe(true);
    expect(matches(sessions[0]!, "nothing")).toBe(false);
  });
});

describe("events", () => {
  const told = eventOf(wires.event(1, "session_lost", { session_id: "s1", tenant: "acme", from_actor_id: "a1", reason: "its actor is gone" }));

  test("are narrowed by groups and by words", () => {
    expect(isWanted(told, "trouble", "")).toBe(true);
    expect(isWanted(told, "sessions", "GONE")).toBe(true);
    expect(isWanted(told, "actors", "")).toBe(false);
    expect(isWanted(told, "all", "nowhere")).toBe(false);
    expect(Object.keys(GROUPS)).toContain("trouble");
  });

  test("are said in words, those of a later version, too", () => {
    expect(labelOf("session_lost")).toBe("Lost");
    expect(labelOf("session_cloned_twice")).toBe("session cloned twice");
    expect(detailOf(told)).toBe("from a1 · its actor is gone");
  });
});

test("of a long list only what is seen is rendered, and a little beyond", () => {
  expect(partOf(0, 100, 20, 1000)).toEqual({ first: 0, end: 10 });
  expect(partOf(10_000, 100, 20, 1000)).toEqual({ first: 496, end: 510 });
  expect(partOf(1e9, 100, 20, 1000)).toEqual({ first: 996, end: 1000 });
  expect(partOf(500, 100, 20, 0)).toEqual({ first: 0, end: 0 });
});

test("a ring keeps the last ones in their order", () => {
  const ring = new Ring<number>(3);
  for (const value of [1, 2, 3, 4, 5]) ring.push(value);
  expect([...ring]).toEqual([3, 4, 5]);
  expect([ring.at(0), ring.at(-1), ring.at(3), ring.length]).toEqual([3, 5, undefined, 3]);
  ring.clear();
  expect([...ring]).toEqual([]);
});

test("figures read well", () => {
  expect([percent(0), percent(0.004), percent(0.0996), percent(0.625)]).toEqual(["0 %", "0.4 %", "10 %", "63 %"]);
  expect([age(-5), age(59_600), age(185_000), age(7_440_000), age(363_600_000)]).toEqual(["0 s", "1 min 00 s", "3 min 05 s", "2 h 04 min", "4 d 5 h"]);
  expect([count(1204.4), counted(1, "session"), counted(2, "session")]).toEqual(["1,204", "1 session", "2 sessions"]);
  expect(clock(0)).toMatch(/^\d\d:\d\d:\d\d\.000$/);
});
