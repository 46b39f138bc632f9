/** What the library asks of where it runs; tests put fakes here. */

/** The parts of `RTCDataChannel` that are used. */
export interface ChannelPort {
  readonly label: string;
  readonly readyState: string;
  send(text: string): void;
  close(): void;
  addEventListener(type: string, listener: (event: any) => void): void;
}

/** The parts of `RTCRtpSender` that are used. */
export interface SenderPort {
  replaceTrack(track: MediaStreamTrack | null): Promise<void>;
  getParameters?(): RTCRtpSendParameters;
  setParameters?(parameters: RTCRtpSendParameters): Promise<void>;
}

/** The parts of `RTCRtpTransceiver` that are used. */
export interface TransceiverPort {
  readonly mid: string | null;
  readonly sender: SenderPort;
  readonly receiver: { readonly track: MediaStreamTrack };
}

/** The parts of `RTCPeerConnection` that are used. */
export interface PeerPort {
  readonly connectionState: string;
  readonly localDescription: { readonly sdp: string } | null;
  addTransceiver(kind: string, init: RTCRtpTransceiverInit): TransceiverPort;
  createDataChannel(label: string): ChannelPort;
  setLocalDescription(): Promise<void>;
  setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void>;
  getStats(): Promise<ReadonlyMap<string, unknown> | RTCStatsReport>;
  addEventListener(type: string, listener: (event: any) => void): void;
  close(): void;
}

/** The parts of a response that are used. */
export interface ResponsePort {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  text(): Promise<string>;
}

/** The parts of a request that are used. */
export interface RequestPort {
  readonly method: string;
  readonly headers: Record<string, string>;
  readonly body?: string;
  readonly signal?: AbortSignal;
  readonly keepalive?: boolean;
}

/** How far an upload has come. */
export type Progress = (sent: number, total: number) => void;

/** Everything outside this library. */
export interface Environment {
  fetch(url: string, request: RequestPort): Promise<ResponsePort>;
  /** Sends a file with PUT and tells of its progress. */
  put(url: string, file: Blob, type: string, onProgress: Progress, signal?: AbortSignal): Promise<ResponsePort>;
  makePeer(configuration: RTCConfiguration): PeerPort;
  makeStream(): MediaStream;
  /** Milliseconds on a clock that does not fall. */
  now(): number;
  /** Calls back once after some milliseconds; returns what prevents it. */
  after(ms: number, callback: () => void): () => void;
  /** A number from 0 to 1. */
  random(): number;
  /** An id that nobody else draws, of at most 64 plain characters. */
  newId(): string;
  /** Calls back when the network is there again; returns what stops that. */
  onOnline(callback: () => void): () => void;
}

/** Waits some milliseconds, or until told not to. */
export function pause(environment: Environment, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const cancel = environment.after(ms, () => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    });
    const aborted = () => {
      cancel();
      reject(signal?.reason as Error);
    };
    signal?.addEventListener("abort", aborted, { once: true });
  });
}
