/** Which source frame belongs to a shown picture. */
import { describe, expect, it } from "vitest";
import { CaptureClock, type Sighting } from "../../src/playground/align/capture";
import { move } from "../../src/playground/align/lead";
import { PlayoutClock, ticksBetween, type Anchor } from "../../src/playground/align/playout";
import { Ring } from "../../src/playground/align/ring";

const FPS = 24;
/** Ticks of one frame. */
const TICKS = 90_000 / FPS;
const ORIGIN = 0xffff_f000;

/** What is told of a chunk whose first frame has a number, in a stream that began at `ORIGIN`. */
function anchor(frame: number, chunk: number, more: Partial<Anchor> = {}): Anchor {
  return {
    run: 1,
    chunk,
    frame,
    timestampUs: Math.round((frame * 1e6) / FPS),
    sourceUs: 5_000_000 + Math.round((frame * 1e6) / FPS),
    sourceToEmitUs: 2_000_000,
    rtpTimestamp: (ORIGIN + frame * TICKS) >>> 0,
    ...more,
  };
}

const timestamp = (frame: number) => (ORIGIN + frame * TICKS) >>> 0;

describe("the play-out clock", () => {
  it("counts frames from the first of their chunk, over the wrap-around of timestamps", () => {
    const clock = new PlayoutClock(FPS);
    clock.told(anchor(0, 0));
    clock.told(anchor(33, 1));
    clock.told(anchor(57, 2));
    for (const frame of [0, 1, 32, 33, 40, 57, 80]) {
      const shown = clock.at(timestamp(frame));
      expect(shown?.frame).toBe(frame);
      expect(shown?.sourceMs).toBeCloseTo(5_000 + (frame * 1000) / FPS, 1);
    }
  });

  it("knows nothing of pictures before the first chunk, and nothing without timestamps", () => {
    const clock = new PlayoutClock(FPS);
    clock.told(anchor(0, 0, { rtpTimestamp: 0 }));
    expect(clock.at(timestamp(0))).toBeNull();
    clock.told(anchor(33, 1));
    expect(clock.at(timestamp(32))).toBeNull();
  });

  it("does not take a first chunk, which is short, for a measure of the others", () => {
    const clock = new PlayoutClock(FPS);
    clock.told(anchor(0, 0));
    clock.told(anchor(9, 1));
    for (const frame of [8, 9, 17, 18, 32]) expect(clock.at(timestamp(frame))?.frame).toBe(frame);
  });

  it("stays at the last frame of a chunk while nothing follows", () => {
    const clock = new PlayoutClock(FPS);
    clock.told(anchor(33, 1));
    clock.told(anchor(57, 2));
    expect(clock.at(timestamp(57 + 23))?.frame).toBe(80);
    expect(clock.at(timestamp(57 + 200))?.frame).toBe(80);
  });

  it("goes no further than the clip, whose last chunk is shorter", () => {
    const clock = new PlayoutClock(FPS);
    for (const [chunk, frame] of [9, 33, 57].entries()) clock.told(anchor(frame, chunk + 1));
    expect(clock.at(timestamp(75), FPS, 67)?.frame).toBe(66);
    expect(clock.at(timestamp(75))?.frame).toBe(75);
  });

  it("takes the chunk that a picture belongs to, though a later one is known", () => {
    const clock = new PlayoutClock(FPS);
    clock.told(anchor(33, 1));
    // The one after it was late by ten frames.
    clock.told(anchor(57, 2, { rtpTimestamp: timestamp(67), timestampUs: Math.round((67 * 1e6) / FPS) }));
    expect(clock.at(timestamp(56))?.frame).toBe(56);
    expect(clock.at(timestamp(60))?.frame).toBe(56);
    expect(clock.at(timestamp(67))?.frame).toBe(57);
    expect(clock.framesPerSecond).toBe(FPS);
  });

  it("learns another rate from two chunks that agree", () => {
    const clock = new PlayoutClock(FPS);
    for (const chunk of [0, 1, 2]) clock.told(anchor(24 * chunk, chunk, { timestampUs: chunk * 1_500_000 }));
    expect(clock.framesPerSecond).toBeCloseTo(16, 5);
  });

  it("counts the frames of a clip at the clip's own rate", () => {
    const clock = new PlayoutClock(FPS);
    clock.told(anchor(0, 0, { sourceUs: 0 }));
    expect(clock.at(timestamp(30), 60)?.sourceMs).toBeCloseTo(500, 5);
  });

  it("forgets the timestamps of another connection", () => {
    const clock = new PlayoutClock(FPS);
    clock.told(anchor(0, 0));
    clock.clear();
    expect(clock.at(timestamp(3))).toBeNull();
  });

  it.each([
    [0, 90, 90],
    [0xffff_ffff, 1, 2],
    [1, 0xffff_ffff, -2],
  ])("measures from %i to %i %i ticks", (from, to, ticks) => {
    expect(ticksBetween(from, to)).toBe(ticks);
  });
});

describe("the camera's clock", () => {
  /** A chunk whose source was taken at `taken` on our clock, 70 s later on the camera's. */
  const sighting = (taken: number, extra = 0): Sighting => ({
    arrivedAt: taken + 8 + 20 + 2_000 + extra,
    sourceMs: taken + 70_000,
    inServiceMs: 2_000,
    roundTripMs: 20,
    encodingMs: 8,
  });

  it("is found from the way a frame has gone", () => {
    const clock = new CaptureClock();
    expect(clock.takenAt(75_000)).toBeNull();
    clock.seen(sighting(1_000));
    expect(clock.takenAt(75_000)).toBeCloseTo(5_000, 5);
  });

  it("is not moved by queues on the way", () => {
    const clock = new CaptureClock();
    for (const [index, queue] of [0, 180, 3, 90, 0, 250, 12, 1].entries()) clock.seen(sighting(1_000 * index, queue));
    expect(Math.abs((clock.takenAt(75_000) ?? 0) - 5_000)).toBeLessThan(1000 / FPS);
  });

  it("is another one with another camera", () => {
    const clock = new CaptureClock();
    for (let index = 0; index < 20; index += 1) clock.seen(sighting(1_000 * index));
    const other = { ...sighting(30_000), sourceMs: 4_000 };
    clock.seen(other);
    expect(clock.takenAt(75_000)).toBeCloseTo(5_000, 5);
    clock.seen(sighting(31_000));
    expect(clock.takenAt(75_000)).toBeCloseTo(5_000, 5);
    for (let index = 0; index < 3; index += 1) clock.seen(other);
    expect(clock.takenAt(4_000)).toBeCloseTo(30_000, 5);
  });

  it("keeps the error of half a period of the model below one frame", () => {
    const clock = new CaptureClock();
    // The service's frames lie up to 20 ms beside those of the camera, either way.
    for (let index = 0; index < 24; index += 1) clock.seen(sighting(1_000 * index, 20 * Math.sin(index)));
    expect(Math.abs((clock.takenAt(75_000) ?? 0) - 5_000)).toBeLessThan(1000 / FPS);
  });
});

describe("the ring of source frames", () => {
  const filled = (...times: number[]) => {
    const ring = new Ring([{ at: 0 }, { at: 0 }, { at: 0 }, { at: 0 }]);
    for (const time of times) ring.next(time).at = time;
    return ring;
  };

  it("is empty at first", () => {
    expect(filled().nearest(3)).toBeNull();
    expect(filled().oldest).toBeNull();
  });

  it.each([
    [-5, 10],
    [14, 10],
    [16, 20],
    [20, 20],
    [99, 30],
  ])("finds for %i the frame of %i", (time, found) => {
    expect(filled(10, 20, 30).nearest(time)).toMatchObject({ frame: { at: found }, time: found, distance: Math.abs(time - found) });
  });

  it("pushes out the oldest", () => {
    const ring = filled(10, 20, 30, 40, 50, 60);
    expect([ring.size, ring.oldest, ring.newest]).toEqual([4, 30, 60]);
    for (const time of [30, 40, 50, 60]) expect(ring.nearest(time)?.frame.at).toBe(time);
    expect(ring.nearest(10)?.frame.at).toBe(30);
  });

  it("begins anew where time falls: the clip was put somewhere else", () => {
    const ring = filled(10, 20, 30, 5);
    expect([ring.size, ring.oldest, ring.nearest(30)?.frame.at]).toEqual([1, 5, 5]);
  });
});

describe("the clip's lead", () => {
  const MOST = 2_000;

  it("plays at the rate of the picture where the lead is right", () => {
    expect(move(1_000, 2_000, 0.8, MOST)).toEqual({ kind: "play", rate: 0.8 });
    expect(move(0, null, 0.8, MOST)).toEqual({ kind: "play", rate: 0.8 });
  });

  it("plays faster behind and slower ahead", () => {
    const [behind, ahead] = [move(1_000, 1_100, 1, MOST), move(1_000, 2_900, 1, MOST)];
    expect(behind.kind === "play" && behind.rate).toBeGreaterThan(1.4);
    expect(ahead.kind === "play" && ahead.rate).toBeLessThan(0.6);
  });

  it("waits where it is far ahead, and is put back where it is lost", () => {
    expect(move(1_000, 3_500, 1, MOST).kind).toBe("wait");
    expect(move(1_000, 9_000, 1, MOST)).toEqual({ kind: "seek", toMs: 1_000 });
    expect(move(9_000, 1_000, 1, MOST)).toEqual({ kind: "seek", toMs: 9_000 });
  });

  it("comes to the right lead from anywhere", () => {
    for (const start of [0, 400, 1_900]) {
      let ahead = start;
      for (let tick = 0; tick < 240; tick += 1) {
        const next = move(10_000, 10_000 + ahead, 1, MOST);
        const rate = next.kind === "play" ? next.rate : 0;
        ahead += (rate - 1) * (1000 / FPS);
      }
      expect(Math.abs(ahead - MOST / 2)).toBeLessThan(60);
    }
  });
});
