import { describe, expect, test } from "vitest";
import { Chunks, MOST, Track } from "../../src/console/chunks";
import * as line from "../../src/console/timeline";
import type { Chunk } from "../../src/console/wire";

const chunk = (finishedAt: number, more: Partial<Chunk> = {}): Chunk => ({
  session: "s1",
  run: 1,
  chunk: 0,
  beganAt: finishedAt - 100,
  finishedAt,
  waitMs: 0,
  batch: 1,
  slackMs: 500,
  late: false,
  computeMs: 100,
  ...more,
});

describe("a track", () => {
  test("keeps numbers through growing, and at most so many chunks", () => {
    const track = new Track();
    for (let number = 0; number < MOST + 500; number += 1) track.add(chunk(number, { chunk: number, session: `s${number}` }));
    expect([track.first, track.end]).toEqual([500, MOST + 500]);
    for (const number of [500, 4096, MOST + 499]) {
      expect(track.at(number)).toMatchObject({ chunk: number, session: `s${number}`, finishedAt: number, beganAt: number - 100 });
    }
    expect(track.at(499)).toBeNull();
    expect(track.at(MOST + 500)).toBeNull();
  });

  test("forgets what is old", () => {
    const track = new Track();
    for (let number = 0; number < 10; number += 1) track.add(chunk(number * 100));
    track.forget(450);
    expect([track.first, track.end]).toEqual([5, 10]);
  });

  test("tells nothing due from just in time", () => {
    const track = new Track();
    track.add(chunk(1, { slackMs: null }));
    track.add(chunk(2, { slackMs: 0 }));
    expect([track.at(0)?.slackMs, track.at(1)?.slackMs]).toEqual([null, 0]);
  });
});

test("counts chunks, late ones and the least time left since a time", () => {
  const chunks = new Chunks();
  const told = [chunk(100, { slackMs: -900, late: true }), chunk(200, { slackMs: null }), chunk(300, { slackMs: -20, late: true, session: "s2" }), chunk(400)];
  chunks.take("a1", told, 3);
  expect(chunks.tally("a1", 200)).toEqual({ chunks: 3, late: 1, leastSlackMs: -20 });
  expect(chunks.late("a1", 200)).toEqual(new Set(["s2"]));
  expect(chunks.medianCallMs("a1", 0)).toBe(100);
  expect(chunks.tally("nobody", 0)).toEqual({ chunks: 0, late: 0, leastSlackMs: null });
  expect(chunks.tracks.get("a1")?.omitted).toBe(3);
});

describe("geometry", () => {
  const window: line.Window = { end: 20_000, span: 10_000, width: 1000 };
  const [upper, lower] = line.lanesOf(["a1", "a2"], 200) as [line.Lane, line.Lane];

  test("time runs from left to right", () => {
    expect(line.xOf(window, 10_000)).toBe(0);
    expect(line.xOf(window, 20_000)).toBe(1000);
    expect(line.timeAt(window, line.xOf(window, 13_210))).toBeCloseTo(13_210);
  });

  test("lanes lie one below the other, and are as high as there is room, within bounds", () => {
    expect(lower.top).toBeGreaterThanOrEqual(upper.top + upper.height);
    const many = line.lanesOf(Array.from({ length: 64 }, (_, index) => `a${index}`), 200);
    expect(many[0]?.height).toBe(20);
    expect(line.heightOf(many)).toBeGreaterThan(1000);
    expect(line.lanesOf(["a1"], 2000)[0]?.height).toBe(96);
    expect(line.heightOf([])).toBe(0);
  });

  test("marks are above the deadline's line when there is time left, below it when late, never outside the lane", () => {
    expect(line.yOf(upper, 500)).toBeLessThan(upper.deadline);
    expect(line.yOf(upper, 0)).toBe(upper.deadline);
    expect(line.yOf(upper, -100)).toBeGreaterThan(upper.deadline);
    const [top, height] = upper.slack;
    expect(line.yOf(upper, 1e9)).toBe(top);
    expect(line.yOf(upper, -1e9)).toBe(top + height);
    expect(top + height).toBeLessThanOrEqual(upper.top + upper.height);
  });

  test("a chunk is found by its bar and by its mark, the nearest one first", () => {
    const track = new Track();
    track.add(chunk(15_000));
    track.add(chunk(15_150, { slackMs: -300, late: true }));
    const at = (time: number, y: number) => line.chunkAt(window, upper, track, line.xOf(window, time), y);
    const bars = upper.bars[0] + 2;
    expect(at(14_950, bars)).toBe(0);
    expect(at(15_100, bars)).toBe(1);
    expect(at(15_000, line.yOf(upper, 500))).toBe(0);
    expect(at(15_150, line.yOf(upper, -300))).toBe(1);
    expect(at(18_000, bars)).toBeNull();
    expect(line.laneAt([upper, lower], lower.top + 1)?.actor).toBe("a2");
    expect(line.laneAt([upper, lower], 5000)).toBeNull();
  });

  test("lines of time are on whole seconds and not too close", () => {
    const { first, every } = line.linesOf({ end: 20_400, span: 20_000, width: 320 });
    expect(every).toBe(5000);
    expect(first).toBe(5000);
  });
});

test("a chunk is late only when the play-out had to wait", () => {
  expect(line.comingOf(null, false)).toBe("first");
  expect(line.comingOf(900, false)).toBe("early");
  expect(line.comingOf(20, false)).toBe("tight");
  expect(line.comingOf(-1, true)).toBe("late");
});

test("says a chunk in words", () => {
  const track = new Track();
  track.add(chunk(1000, { run: 2, chunk: 7, batch: 4, waitMs: 15, slackMs: -40, late: true }));
  expect(line.inWords(track.at(0)!)).toBe(
    "Chunk 7 of run 2: 100 ms on the GPU in a batch of 4 after waiting 15 ms, finished 40 ms after its deadline, the play-out had to wait",
  );
});
