/**
 * How good the connection is, and what limits it. Pure.
 *
 * Rates are taken between two looks. The service's own share of the delays comes with each chunk
 * (`ViewerStats`); a client adds half the round trip, its jitter buffer and its decoder.
 */
import type { State, ViewerStats } from "./contract.js";

/** What limits the picture, the most pressing first. */
export type Limit =
  /** Nothing. */
  | "none"
  /** Nothing runs. */
  | "idle"
  /** The connection is lost, and is taken up again. */
  | "connection"
  /** The GPU pool is full: the model runs at a lower rate or with fewer steps, or waits. */
  | "capacity"
  /** The service was late with chunks. */
  | "service"
  /** The camera sends nothing. */
  | "source"
  /** This machine cannot encode its camera fast enough. */
  | "camera_cpu"
  /** The network cannot carry the camera in full. */
  | "uplink"
  /** The network cannot carry the picture in full. */
  | "downlink"
  /** This machine cannot decode the picture fast enough. */
  | "decoder";

/** What each limit means, and what to do. */
export const LIMITS: Readonly<Record<Limit, string>> = {
  none: "Nothing limits the picture.",
  idle: "Nothing runs now.",
  connection: "The connection is lost and is being taken up again.",
  capacity: "Every GPU is busy: the model runs slower or coarser, or waits for its turn.",
  service: "The service was late with a chunk.",
  source: "The camera sends no pictures: look whether it is covered, muted or used elsewhere.",
  camera_cpu: "This machine is too slow to encode its camera: choose a smaller picture.",
  uplink: "The network carries the camera only in part: choose a smaller picture, or another network.",
  downlink: "The network carries the picture only in part: try another network.",
  decoder: "This machine is too slow to decode the picture: close other programs.",
};

/** What goes one way. */
export interface Flow {
  /** Pictures a second. */
  readonly fps: number;
  /** Bits a second. */
  readonly bitrate: number;
  readonly width: number;
  readonly height: number;
  /** For example `H264`. */
  readonly codec: string;
}

/** The connection, as it is now. */
export interface ConnectionStats {
  /** What limits the picture; `LIMITS` says what to do. */
  readonly limit: Limit;
  /** Round trip in milliseconds; null: not known yet. */
  readonly rttMs: number | null;
  /** `host`, `srflx`, `prflx` or `relay`; empty while unknown. */
  readonly path: string;
  /** The edited picture. */
  readonly video: Flow & {
    readonly framesDecoded: number;
    readonly framesDropped: number;
    readonly freezes: number;
    /** Share of packets lost since the last look, 0 to 1. */
    readonly loss: number;
    /** Milliseconds that a picture waits before it is decoded. */
    readonly jitterBufferMs: number;
  };
  /** The camera, where it is published. */
  readonly camera:
    | (Flow & {
        readonly loss: number;
        /** Milliseconds that a picture takes to be encoded. */
        readonly encodeMs: number;
      })
    | null;
  /** From the camera's lens to the screen, as far as it can be measured, in milliseconds. */
  readonly glassToGlassMs: number | null;
  /** From the last command to its picture, in milliseconds. */
  readonly promptToPixelsMs: number | null;
  /** What the service says of the latest chunk. */
  readonly service: ViewerStats | null;
}

/** A look at the counters, to take rates from. */
export interface Look {
  readonly at: number;
  readonly reports: ReadonlyMap<string, Report>;
  readonly underruns: number;
}

/** A report of the browser: the dictionaries of W3C "Identifiers for WebRTC's Statistics API". */
export type Report = Readonly<Record<string, unknown>> & { readonly type?: unknown };

/** What else the figures are made from. */
export interface Circumstances {
  readonly connected: boolean;
  readonly state: State | null;
  readonly service: ViewerStats | null;
  /** The service's share of the delay of the latest command, in microseconds; 0: none was answered. */
  readonly commandUs: number;
  /** Round trip over the data channel in milliseconds. */
  readonly pongMs: number | null;
  readonly publishing: boolean;
}

/** Losses above this share are seen. */
const LOSSY = 0.02;
/** A decoder that drops more of its pictures than this is too slow. */
const DROPPY = 0.05;

/** Returns the figures of two looks; `before` may be null. */
export function figures(now: Look, before: Look | null, around: Circumstances): ConnectionStats {
  const [inbound, sent] = [find(now, "inbound-rtp"), find(now, "outbound-rtp")];
  const [inboundThen, sentThen] = [before && find(before, "inbound-rtp"), before && find(before, "outbound-rtp")];
  const heard = find(now, "remote-inbound-rtp");
  const pair = selectedPair(now);
  const seconds = before === null ? 0 : (now.at - before.at) / 1000;
  const video = {
    ...flow(now, inbound, inboundThen, seconds, "framesDecoded", "bytesReceived"),
    framesDecoded: number(inbound, "framesDecoded"),
    framesDropped: number(inbound, "framesDropped"),
    freezes: number(inbound, "freezeCount"),
    loss: share(grown(inbound, inboundThen, "packetsLost"), grown(inbound, inboundThen, "packetsReceived")),
    jitterBufferMs: 1000 * ratio(inbound, "jitterBufferDelay", "jitterBufferEmittedCount"),
  };
  const camera =
    sent === null || !around.publishing
      ? null
      : {
          ...flow(now, sent, sentThen, seconds, "framesEncoded", "bytesSent"),
          loss: number(heard, "fractionLost"),
          encodeMs: 1000 * ratio(sent, "totalEncodeTime", "framesEncoded"),
        };
  const network = pair === null ? null : number(pair, "currentRoundTripTime") * 1000 || null;
  const rttMs = network ?? around.pongMs;
  const decodeMs = 1000 * ratio(inbound, "totalDecodeTime", "framesDecoded");
  const ours = (rttMs ?? 0) / 2 + video.jitterBufferMs + decodeMs;
  const { service, commandUs } = around;
  const dropped = grown(inbound, inboundThen, "framesDropped");
  const late = before !== null && now.underruns > before.underruns;
  return {
    limit: limitOf(around, video, camera, sent, late, share(dropped, grown(inbound, inboundThen, "framesDecoded"))),
    rttMs,
    path: String(now.reports.get(text(pair, "localCandidateId"))?.["candidateType"] ?? ""),
    video,
    camera,
    // Up and down the network once each.
    glassToGlassMs: service?.sourceToEmitUs ? service.sourceToEmitUs / 1000 + (rttMs ?? 0) / 2 + ours : null,
    promptToPixelsMs: commandUs > 0 ? commandUs / 1000 + (rttMs ?? 0) / 2 + ours : null,
    service,
  };
}

function limitOf(
  { connected, state, service, publishing }: Circumstances,
  video: { readonly loss: number },
  camera: { readonly loss: number; readonly fps: number } | null,
  sent: Report | null,
  late: boolean,
  dropped: number,
): Limit {
  const reason = text(sent, "qualityLimitationReason");
  const short = service !== null && service.rung > 0;
  const rules: [boolean, Limit][] = [
    [!connected, "connection"],
    [state?.phase === "awaiting_compute" || degraded(state), "capacity"],
    [state?.started === true && !state.running && !state.paused && state.mode === "live", "source"],
    [!state?.running, "idle"],
    [short || video.loss > LOSSY, "downlink"],
    [dropped > DROPPY, "decoder"],
    [publishing && reason === "cpu", "camera_cpu"],
    [publishing && (reason === "bandwidth" || (camera?.loss ?? 0) > LOSSY), "uplink"],
    [late, "service"],
  ];
  return rules.find(([holds]) => holds)?.[1] ?? "none";
}

const degraded = (state: State | null) => (state?.degradedFrameRate ?? 0) > 0 || (state?.degradedSteps ?? 0) > 0;

function flow(
  look: Look,
  report: Report | null,
  before: Report | null,
  seconds: number,
  frames: string,
  bytes: string,
): Flow {
  const codec = look.reports.get(text(report, "codecId"));
  const measured = seconds > 0 && before !== null;
  return {
    fps: measured ? grown(report, before, frames) / seconds : number(report, "framesPerSecond"),
    bitrate: measured ? (8 * grown(report, before, bytes)) / seconds : 0,
    width: number(report, "frameWidth"),
    height: number(report, "frameHeight"),
    codec: text(codec ?? null, "mimeType").replace(/^video\//, ""),
  };
}

/** Returns the pair of candidates that is used. */
function selectedPair(look: Look): Report | null {
  const named = look.reports.get(text(find(look, "transport"), "selectedCandidatePairId"));
  if (named !== undefined) return named;
  return [...look.reports.values()].find((each) => each.type === "candidate-pair" && each["nominated"]) ?? null;
}

const find = (look: Look, type: string) =>
  [...look.reports.values()].find((each) => each.type === type && (each["kind"] ?? "video") === "video") ?? null;
const number = (report: Report | null, name: string) => Number(report?.[name] ?? 0);
const text = (report: Report | null, name: string) => String(report?.[name] ?? "");
const grown = (now: Report | null, before: Report | null, name: string) =>
  Math.max(0, number(now, name) - number(before, name));
const share = (part: number, rest: number) => (part > 0 ? part / (part + rest) : 0);
const ratio = (report: Report | null, sum: string, count: string) =>
  number(report, count) > 0 ? number(report, sum) / number(report, count) : 0;
