/** One peer connection: its negotiation, its channels, and how its loss is noticed. */
import { Api, CLIENT_INFO, type TrackShown } from "./api.js";
import { ConnectionLostError } from "./errors.js";
import { pause, type ChannelPort, type Environment, type PeerPort, type TransceiverPort } from "./ports.js";
import { DATA, STATS, encode, type Said } from "./wire.js";

/** How long the answer to an offer may take. */
const ANSWER_MS = 15_000;
/** Between two looks for it; the service keeps each for up to a second. */
const ANSWER_PAUSE_MS = 200;
/** How long the channel may take to open once there is an answer. */
const OPEN_MS = 20_000;
/** How long a transport may be interrupted before it counts as lost. */
const INTERRUPTED_MS = 4_000;
/** Candidates are sent in batches of this time. */
const TRICKLE_MS = 25;

/** Names of the tracks. */
export const CAMERA = "camera";
export const MAIN_VIDEO = "main_video";

/** What is negotiated. */
export interface Wanted {
  readonly session: string;
  readonly tracks: readonly TrackShown[];
  /** Number of a connection to take up again; null registers one. */
  readonly link: number | null;
  /** Revision after which what was missed is repeated; null: the state is enough. */
  readonly resumeAfter: number | null;
  readonly signal: AbortSignal;
}

/** Who hears what comes. */
export interface TransportListener {
  onText(text: string): void;
  onStats(text: string): void;
  /** Once, after it was open. */
  onLost(reason: string): void;
}

/** An open transport. */
export class Transport {
  /** Number of its connection. */
  readonly link: number;
  readonly peer: PeerPort;
  readonly transceivers: ReadonlyMap<string, TransceiverPort>;
  readonly #data: ChannelPort;
  #cancel: (() => void) | null = null;
  #closed = false;

  constructor(link: number, peer: PeerPort, transceivers: ReadonlyMap<string, TransceiverPort>, data: ChannelPort) {
    this.link = link;
    this.peer = peer;
    this.transceivers = transceivers;
    this.#data = data;
  }

  /** Says something; it is lost where the channel is. */
  say(said: Said): void {
    if (this.#data.readyState === "open") this.#data.send(encode(said));
  }

  /** Tells once when the transport is lost. */
  watch(environment: Environment, onLost: (reason: string) => void): void {
    const lost = (reason: string) => {
      if (this.#closed) return;
      this.close();
      onLost(reason);
    };
    const stop = () => {
      this.#cancel?.();
      this.#cancel = null;
    };
    this.#data.addEventListener("close", () => lost("the data channel closed"));
    this.peer.addEventListener("connectionstatechange", () => {
      const state = this.peer.connectionState;
      stop();
      if (state === "failed" || state === "closed") lost(`the peer connection is ${state}`);
      if (state === "disconnected")
        this.#cancel = environment.after(INTERRUPTED_MS, () => lost("the peer connection was interrupted"));
    });
  }

  /** Ends it; nothing is told. */
  close(): void {
    this.#closed = true;
    this.#cancel?.();
    this.peer.close();
  }
}

/** Negotiates a transport; returns once its channel is open. */
export async function openTransport(
  environment: Environment,
  api: Api,
  wanted: Wanted,
  listener: TransportListener,
): Promise<Transport> {
  const { session, signal, tracks } = wanted;
  const [iceServers, link] = await Promise.all([
    api.iceServers(session, signal),
    wanted.link ?? api.register(session, signal),
  ]);
  const peer = environment.makePeer({ iceServers });
  const aborted = () => peer.close();
  signal.addEventListener("abort", aborted, { once: true });
  try {
    const transceivers = new Map(
      tracks.map(({ name, kind, direction }) => [name, peer.addTransceiver(kind, { direction })]),
    );
    const data = peer.createDataChannel(DATA);
    const opened = isOpen(environment, peer, data, signal);
    data.addEventListener("message", ({ data: text }: MessageEvent<string>) => listener.onText(text));
    const stats = peer.createDataChannel(STATS);
    stats.addEventListener("message", ({ data: text }: MessageEvent<string>) => listener.onStats(text));
    const transport = new Transport(link, peer, transceivers, data);
    await negotiate(environment, api, wanted, link, peer, transceivers);
    await opened();
    transport.watch(environment, (reason) => listener.onLost(reason));
    return transport;
  } catch (error) {
    peer.close();
    throw error;
  } finally {
    signal.removeEventListener("abort", aborted);
  }
}

async function negotiate(
  environment: Environment,
  api: Api,
  wanted: Wanted,
  link: number,
  peer: PeerPort,
  transceivers: ReadonlyMap<string, TransceiverPort>,
): Promise<void> {
  const { session, signal } = wanted;
  const offered = trickle(environment, peer, (candidates, final) => {
    // Without them the peer may be reached all the same: the offer's answer has the service's own.
    api.candidates(session, link, candidates, final).catch(() => undefined);
  });
  await peer.setLocalDescription();
  const mapping = wanted.tracks.map((track) => ({ ...track, mid: transceivers.get(track.name)?.mid }));
  const resume = wanted.resumeAfter === null ? {} : { resume_after: wanted.resumeAfter };
  const offer = {
    sdp_offer: peer.localDescription?.sdp,
    client_info: { ...CLIENT_INFO, ...resume },
    track_mapping: mapping,
  };
  await api.offer(session, link, offer, wanted.link !== null, signal);
  offered();
  const deadline = environment.now() + ANSWER_MS;
  for (;;) {
    const sdp = await api.answer(session, link, signal);
    if (sdp !== null) return peer.setRemoteDescription({ type: "answer", sdp });
    if (environment.now() > deadline) throw new ConnectionLostError("the service did not answer the offer");
    await pause(environment, ANSWER_PAUSE_MS, signal);
  }
}

/** Sends the peer's candidates in batches, once the offer is there; returns what says that it is. */
function trickle(
  environment: Environment,
  peer: PeerPort,
  send: (candidates: object[], final: boolean) => void,
): () => void {
  let waiting: object[] = [];
  let final = false;
  let [offered, planned] = [false, false];
  const flush = () => {
    planned = false;
    if (!waiting.length && !final) return;
    send(waiting, final);
    [waiting, final] = [[], false];
  };
  const plan = () => {
    if (!offered || planned) return;
    planned = true;
    environment.after(TRICKLE_MS, flush);
  };
  peer.addEventListener("icecandidate", ({ candidate }: RTCPeerConnectionIceEvent) => {
    final = candidate === null;
    if (candidate?.candidate)
      waiting.push({
        candidate: candidate.candidate,
        sdp_mid: candidate.sdpMid,
        sdp_mline_index: candidate.sdpMLineIndex,
      });
    plan();
  });
  return () => {
    offered = true;
    flush();
  };
}

/** Returns what waits until a channel is open. */
function isOpen(
  environment: Environment,
  peer: PeerPort,
  data: ChannelPort,
  signal: AbortSignal,
): () => Promise<void> {
  const opened = new Promise<void>((resolve, reject) => {
    const fail = (reason: string) => reject(new ConnectionLostError(reason, ADVICE));
    data.addEventListener("open", () => resolve());
    data.addEventListener("close", () => fail("the data channel closed before it was open"));
    peer.addEventListener("connectionstatechange", () => {
      if (peer.connectionState === "failed") fail("no network path to the service was found");
    });
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
  opened.catch(() => undefined);
  return () => {
    let cancel = () => {};
    const late = new Promise<never>((_, reject) => {
      const error = new ConnectionLostError("the peer connection did not open in time", ADVICE);
      cancel = environment.after(OPEN_MS, () => reject(error));
    });
    return Promise.race([opened, late]).finally(() => cancel());
  };
}

const ADVICE = "Allow UDP to the service, or have its operator configure a TURN server.";
