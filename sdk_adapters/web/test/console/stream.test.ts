import { describe, expect, test } from "vitest";
import { SchedulerClock } from "../../src/console/clock";
import { EventReader } from "../../src/console/sse";
import { sent } from "./wires";

describe("server-sent events", () => {
  test("are the same however the text is cut", () => {
    const text = `retry: 1000\n\n: ping\n\n${sent("started", { sequence: "5" })}${sent("session_queued", { a: "ü\n" }, 6)}`;
    const whole = new EventReader().push(text);
    expect(whole.map(({ name, id }) => [name, id])).toEqual([
      ["started", ""],
      ["session_queued", "6"],
    ]);
    for (const size of [1, 2, 7, 16]) {
      const reader = new EventReader();
      const pieces = [];
      for (let at = 0; at < text.length; at += size) pieces.push(...reader.push(text.slice(at, at + size)));
      expect(pieces).toEqual(whole);
      expect(reader.retryMs).toBe(1000);
    }
  });

  test("may have several lines of data and lines that end with CR LF", () => {
    expect(new EventReader().push("data: a\r\ndata:b\r\n\r\n")).toEqual([{ name: "message", id: "", data: "a\nb" }]);
  });

  test("without data are none", () => {
    expect(new EventReader().push("event: nothing\n\nid: 3\n\n")).toEqual([]);
  });

  test("that never end are refused", () => {
    const reader = new EventReader();
    expect(() => {
      for (let piece = 0; piece < 10; piece += 1) reader.push("x".repeat(1024 * 1024));
    }).toThrow(RangeError);
  });
});

test("the scheduler's clock is that of the word that was fastest on its way", () => {
  const clock = new SchedulerClock();
  expect(clock.at(1000)).toBe(1000);
  clock.heard(5000, 1300);
  clock.heard(5100, 1350);
  clock.heard(5200, 1900);
  expect(clock.at(2000)).toBe(5750);
  clock.reset();
  expect(clock.isKnown).toBe(false);
});
