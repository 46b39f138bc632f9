import { describe, expect, test } from "vitest";
import type { State, ViewerStats } from "../src/contract.js";
import { figures, LIMITS, type Circumstances, type Limit, type Look, type Report } from "../src/statistics.js";

const RUNNING = { running: true, started: true, paused: false, mode: "live", phase: "running", degradedFrameRate: 0 };
const QUIET: Circumstances = {
  connected: true,
  state: RUNNING as State,
  service: null,
  commandUs: 0,
  pongMs: null,
  publishing: true,
};

function look(at: number, changes: { in?: object; out?: object; remote?: object } = {}, underruns = 0): Look {
  const reports: [string, Report][] = [
    ["in", { type: "inbound-rtp", kind: "video", codecId: "c", framesDecoded: 0, packetsReceived: 0, ...changes.in }],
    ["out", { type: "outbound-rtp", kind: "video", framesEncoded: 0, bytesSent: 0, ...changes.out }],
    ["remote", { type: "remote-inbound-rtp", kind: "video", fractionLost: 0, ...changes.remote }],
    ["c", { type: "codec", mimeType: "video/H264" }],
    ["t", { type: "transport", selectedCandidatePairId: "p" }],
    ["p", { type: "candidate-pair", currentRoundTripTime: 0.03, localCandidateId: "l" }],
    ["l", { type: "local-candidate", candidateType: "relay" }],
  ];
  return { at, reports: new Map(reports), underruns };
}

const service = (changes: Partial<ViewerStats>) => ({ rung: 0, ...changes }) as ViewerStats;

test("rates are those between two looks", () => {
  const before = look(1000, { in: { framesDecoded: 10, bytesReceived: 1000 }, out: { framesEncoded: 5 } });
  const now = look(3000, {
    in: { framesDecoded: 58, bytesReceived: 501_000, frameWidth: 1280, frameHeight: 704, freezeCount: 1 },
    out: { framesEncoded: 65, bytesSent: 250_000, totalEncodeTime: 0.52 },
  });
  expect(figures(now, before, QUIET)).toMatchObject({
    limit: "none",
    rttMs: 30,
    path: "relay",
    video: { fps: 24, bitrate: 2_000_000, width: 1280, height: 704, codec: "H264", freezes: 1, loss: 0 },
    camera: { fps: 30, bitrate: 1_000_000, encodeMs: 8 },
  });
});

test("delays are the service's share, the network there and back, the buffer and the decoder", () => {
  const inbound = { jitterBufferDelay: 4, jitterBufferEmittedCount: 100, totalDecodeTime: 0.5, framesDecoded: 100 };
  const told = service({ sourceToEmitUs: 100_000 });
  const shown = figures(look(0, { in: inbound }), null, { ...QUIET, service: told, commandUs: 400_000 });
  expect(shown.glassToGlassMs).toBeCloseTo(100 + 30 + 40 + 5);
  expect(shown.promptToPixelsMs).toBeCloseTo(400 + 30 + 40 + 5);
  expect(figures(look(0), null, QUIET)).toMatchObject({ glassToGlassMs: null, promptToPixelsMs: null });
});

test("without a look at the network the pong of the data channel tells the round trip", () => {
  const empty = { at: 0, reports: new Map(), underruns: 0 };
  expect(figures(empty, null, { ...QUIET, pongMs: 12 })).toMatchObject({ rttMs: 12, path: "", camera: null });
});

describe("the limit", () => {
  const state = (changes: object) => ({ ...QUIET, state: { ...RUNNING, ...changes } as State });
  const lossy = { in: { packetsLost: 10, packetsReceived: 90 } };
  const CASES: [Limit, Circumstances, Look][] = [
    ["none", QUIET, look(1)],
    ["idle", state({ running: false, started: false, phase: "idle" }), look(1)],
    ["idle", { ...QUIET, state: null }, look(1)],
    ["connection", { ...QUIET, connected: false }, look(1, lossy)],
    ["capacity", state({ running: false, phase: "awaiting_compute" }), look(1)],
    ["capacity", state({ degradedFrameRate: 12 }), look(1)],
    ["capacity", state({ degradedSteps: 2 }), look(1)],
    ["source", state({ running: false }), look(1)],
    ["downlink", QUIET, look(1, lossy)],
    ["downlink", { ...QUIET, service: service({ rung: 1 }) }, look(1)],
    ["decoder", QUIET, look(1, { in: { framesDropped: 10, framesDecoded: 90 } })],
    ["camera_cpu", QUIET, look(1, { out: { qualityLimitationReason: "cpu" } })],
    ["uplink", QUIET, look(1, { out: { qualityLimitationReason: "bandwidth" } })],
    ["uplink", QUIET, look(1, { remote: { fractionLost: 0.1 } })],
    ["none", { ...QUIET, publishing: false }, look(1, { out: { qualityLimitationReason: "cpu" } })],
    ["service", QUIET, look(1, {}, 1)],
  ];
  test.each(CASES)("%s", (limit, around, now) => {
    expect(figures(now, look(0), around).limit).toBe(limit);
    expect(LIMITS[limit].length).toBeGreaterThan(10);
  });
});
