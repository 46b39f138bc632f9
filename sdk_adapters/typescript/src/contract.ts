// Generated from proto/sana_gateway/v1 by generate.py (`make proto`). Do not edit.

/** Where a session takes its source video from. */
export type Mode =
  /** Not said; the server answers with a command_error. */
  | "unspecified"
  /** The camera track that a client publishes. */
  | "live"
  /** A clip uploaded before and named with set_video. */
  | "file";

/** Chooses the source of video; repeating the present mode is always accepted. */
export interface SetMode {
  /** The mode to switch to. */
  readonly mode: Mode;
}

/** A file uploaded to this session. */
export interface FileRef {
  /** Server-made id of the upload. */
  readonly uploadId: string;
  /** Name the client gave; informative only. */
  readonly name: string;
  /** MIME type the client gave; informative only. */
  readonly mimeType: string;
  /** Size in bytes. */
  readonly size: number;
}

/** Stages an uploaded clip as the source of file mode. */
export interface SetVideo {
  /** The upload, as returned by Upload. */
  readonly video: FileRef;
}

/** Sets the edit prompt; it takes effect at the next chunk. */
export interface SetPrompt {
  /** What to make of the video. Not empty. */
  readonly prompt: string;
  /**
   * Chunks over which the prompt before becomes this one, 0 to 16; while a run goes on. Absent or
   * 0: at once. Refused by a model whose Capabilities.prompt_transitions is false.
   */
  readonly transitionChunks?: number;
}

/** Sets the noise seed; it takes effect at the next start. */
export interface SetSeed {
  /** 0 to 2^53-1. */
  readonly seed: number;
}

/** Begins a run. Needs a prompt and a source for the present mode. */
export type Start = Readonly<Record<string, never>>;

/** Halts generation after the chunk under way and frees its GPU. */
export type Pause = Readonly<Record<string, never>>;

/** Goes on after a pause. */
export type Resume = Readonly<Record<string, never>>;

/** Aborts the run and clears clip, prompt and progress; keeps mode and seed. */
export type Reset = Readonly<Record<string, never>>;

/** A set_prompt was accepted. */
export interface PromptAccepted {
  /** The prompt, which lands at the next chunk. */
  readonly prompt: string;
}

/** A set_video was accepted. */
export interface VideoAccepted {
  /** Displayed width of the clip in pixels. */
  readonly width: number;
  /** Displayed height of the clip in pixels. */
  readonly height: number;
  /** Exact number of presented frames. */
  readonly numFrames: number;
  /** (num_frames - 1) / 8 + 1, rounded down. */
  readonly numLatentFrames: number;
}

/** The first chunk of a run was dispatched. */
export interface GenerationStarted {
  /** Prompt of the first chunk. */
  readonly prompt: string;
  /** Always 0. */
  readonly chunkNum: number;
  /** Always 0. */
  readonly frameNum: number;
}

/** A chunk was shown to its last frame. */
export interface ChunkComplete {
  /** Index of the chunk in its run, from 0. */
  readonly chunkIndex: number;
  /** Number of frames of the chunk. */
  readonly framesEmitted: number;
  /** Prompt the chunk was made with. */
  readonly activePrompt: string;
}

/** A clip was played through to its end. */
export interface GenerationComplete {
  /** Number of chunks of the run. */
  readonly totalChunks: number;
}

/** The answer to reset. */
export interface GenerationReset {
  /** Why, for people. */
  readonly reason: string;
}

/** Why a command was refused. */
export type RejectReason =
  /** Not said. */
  | "unspecified"
  /** The command does not exist. */
  | "unknown_command"
  /** An argument is missing, of the wrong type or out of range. */
  | "bad_argument"
  /** The command is not allowed in the present phase. */
  | "wrong_phase"
  /** start without a prompt. */
  | "no_prompt"
  /** start without a source for the present mode. */
  | "no_source"
  /** The clip cannot be used (not a video, too short, over a limit, ...). */
  | "bad_video"
  /** No GPU became free in time. */
  | "no_capacity"
  /** The wait of an earlier command ended because of this one. */
  | "superseded"
  /** The model failed; the session goes on. */
  | "model_failed"
  /** A moderator of the service refused the prompt, or could not judge it. */
  | "not_allowed";

/**
 * Phase of the editing session. Clients of the Reactor wire see it only through the three booleans
 * of the state payload.
 */
export type Phase =
  /** Not known. */
  | "unspecified"
  /** Nothing runs; sources and prompts can be staged. */
  | "idle"
  /** start was received and waits (at most seconds) for its source. */
  | "awaiting_source"
  /** Started, waiting for a GPU. */
  | "awaiting_compute"
  /** Chunks are being generated. */
  | "running"
  /** pause was accepted; the chunk under way is being finished. */
  | "pausing"
  /** Halted; no GPU is held. */
  | "paused";

/** A command was refused; nothing else changed. */
export interface CommandError {
  /** Name of the command. */
  readonly command: string;
  /** Why and what to do, for people. */
  readonly reason: string;
  /** Why, for programs. */
  readonly code: RejectReason;
  /** Phases in which the command is allowed; empty when the phase is not the cause. */
  readonly allowedPhases: readonly Phase[];
  /** Phase the session was in. */
  readonly phase: Phase;
  /** Seconds after which to try again; 0 when trying again would not help. */
  readonly retryAfterS: number;
}

/** Snapshot of a session. */
export interface State {
  /** Frames are being streamed. */
  readonly running: boolean;
  /** start was accepted; false after reset and when a clip has played through. */
  readonly started: boolean;
  /** pause was accepted. */
  readonly paused: boolean;
  /** Chunks completed since start. */
  readonly currentChunk: number;
  /** Last accepted prompt; absent when none is set. */
  readonly currentPrompt: string | null;
  /** A prompt is set. */
  readonly hasPrompt: boolean;
  /** A clip is staged. */
  readonly hasVideo: boolean;
  /** Number of frames of the staged clip, else 0. */
  readonly numSourceFrames: number;
  /** Present seed. */
  readonly seed: number;
  /** Present mode (not on the Reactor wire). */
  readonly mode: Mode;
  /** Present phase (not on the Reactor wire). */
  readonly phase: Phase;
  /** Place in the queue for a GPU, from 1; 0 when not queued (not on the Reactor wire). */
  readonly queuePosition: number;
  /**
   * Frames per second that the model runs at, when that is less than its own because the pool is
   * full; 0: its own.
   */
  readonly degradedFrameRate: number;
  /**
   * The worker is being emptied and there is no room elsewhere: the session goes on here for now,
   * and may be parked.
   */
  readonly awaitingRoom: boolean;
  /**
   * Steps that the model takes for each window, when these are fewer than its own because the pool
   * is full; 0: its own.
   */
  readonly degradedSteps: number;
}

/** How a session went on at another worker. */
export type Continuity =
  /** Not known. */
  | "unspecified"
  /** Nothing is missing or different: what was not yet shown was handed over or made again. */
  | "exact"
  /** Live: it goes on with what the camera sends now; what was under way is left out. */
  | "live_edge"
  /**
   * The model's state was lost: it began anew, from prompt and seed, at the first frame not yet
   * shown. The picture may differ from what it would have been.
   */
  | "restarted";

/**
 * The session goes on at another worker: it was moved, or its worker died. Not on the Reactor
 * wire.
 */
export interface SessionMoved {
  /** How it went on. */
  readonly continuity: Continuity;
  /** Why it moved, for people. */
  readonly reason: string;
}

/**
 * Why a call failed. The same words stand in google.rpc.ErrorInfo.reason (without the prefix),
 * with domain "sana-gateway". A command that Execute could not have accepted fails with the name
 * of its RejectReason.
 */
export type ErrorReason =
  /** Not said. */
  | "unspecified"
  /** No such session, or not one of the caller's. */
  | "unknown_session"
  /** The model is not served here; the details list what is. */
  | "unknown_model"
  /** The queue is full, or no GPU became free in time for a command. */
  | "no_capacity"
  /** A field or an argument is missing or wrong. */
  | "bad_argument"
  /** The token is missing, wrong or expired. */
  | "unauthenticated"
  /** The token does not allow this. */
  | "forbidden"
  /** The session has ended. */
  | "session_closed"
  /** The session still waits for its place on an actor. */
  | "not_ready"
  /** The command is not allowed in the present phase; the details list where it is. */
  | "wrong_phase"
  /** No such upload, or not one of this session's. */
  | "unknown_upload"
  /** The bytes sent do not match the announced size or offset. */
  | "bad_upload"
  /** Another connection publishes this track already. */
  | "publisher_taken"
  /** The offer has no video, or no codec that we speak. */
  | "bad_offer"
  /** A limit of the service was reached. */
  | "limit"
  /** The command does not exist. */
  | "unknown_command"
  /** start without a prompt. */
  | "no_prompt"
  /** start without a source for the present mode. */
  | "no_source"
  /** The clip cannot be used (not a video, too short, over a limit, ...). */
  | "bad_video"
  /** The wait of the command ended because of a later one. */
  | "superseded"
  /** The model failed; the session goes on. */
  | "model_failed"
  /**
   * The command was refused, and the reason is not known any more: a repeat is acknowledged like
   * the original, without its words.
   */
  | "command_refused"
  /** A moderator of the service refused the prompt, or could not judge it. */
  | "not_allowed";

/**
 * What a viewer's picture has been through, sent with the first frame of every chunk. Durations
 * are measured by the gateway alone: nothing is compared across clocks. A client adds its own
 * share: half the round trip, its jitter buffer, decoding.
 */
export interface ViewerStats {
  /** The chunk. */
  readonly run: number;
  /** Index of the chunk in its run. */
  readonly chunk: number;
  /** Index of its first frame in the run; the same frame's durations follow. */
  readonly frame: number;
  /** Its position on the session's play-out clock in microseconds. */
  readonly timestampUs: number;
  /** Its VideoFrame.source_us. */
  readonly sourceUs: number;
  /**
   * From the arrival of its camera frame at the gateway to its hand-out: the server's share of
   * glass to glass. 0: no camera at this gateway.
   */
  readonly sourceToEmitUs: number;
  /**
   * From the arrival of the newest command that took effect in this chunk to its hand-out: the
   * server's share of prompt to pixels. 0: no command took effect here.
   */
  readonly commandToEmitUs: number;
  /** How late it was handed out. */
  readonly lateUs: number;
  /** Frames announced and not yet handed out. */
  readonly buffered: number;
  /** Times the play-out clock had to wait for a chunk in this run. */
  readonly underruns: number;
  /** Rung that the viewer is given: 0 is main, 1 is low. */
  readonly rung: number;
  /** Target of that rung in bits per second. */
  readonly bitrate: number;
  /** What the viewer's network is estimated to carry, in bits per second; 0: unknown. */
  readonly estimatedBitrate: number;
  /** Round trip to the viewer in microseconds; 0: unknown. */
  readonly roundTripUs: number;
  /** Share of packets lost of late, 0 to 1. */
  readonly fractionLost: number;
  /** Frames not sent to this viewer because it fell behind. */
  readonly framesDropped: number;
  /**
   * Timestamp of its RTP packets (90 kHz): by it a viewer knows the frame among those that its
   * decoder gives out. 0: it does not travel over RTP.
   */
  readonly rtpTimestamp: number;
}

/** Arguments of every command, by the name of its method. */
export interface Commands {
  readonly setMode: SetMode;
  readonly setVideo: SetVideo;
  readonly setPrompt: SetPrompt;
  readonly setSeed: SetSeed;
  readonly start: Start;
  readonly pause: Pause;
  readonly resume: Resume;
  readonly reset: Reset;
}

/** Payload of every message, by its name. */
export interface Messages {
  readonly promptAccepted: PromptAccepted;
  readonly videoAccepted: VideoAccepted;
  readonly generationStarted: GenerationStarted;
  readonly chunkComplete: ChunkComplete;
  readonly generationComplete: GenerationComplete;
  readonly generationReset: GenerationReset;
  readonly commandError: CommandError;
  readonly state: State;
  readonly sessionMoved: SessionMoved;
}

/** Name on the wire of every command. */
export const COMMANDS = {
  setMode: "set_mode",
  setVideo: "set_video",
  setPrompt: "set_prompt",
  setSeed: "set_seed",
  start: "start",
  pause: "pause",
  resume: "resume",
  reset: "reset",
} as const;

/** Name here of every message on the wire. */
export const MESSAGES = {
  prompt_accepted: "promptAccepted",
  video_accepted: "videoAccepted",
  generation_started: "generationStarted",
  chunk_complete: "chunkComplete",
  generation_complete: "generationComplete",
  generation_reset: "generationReset",
  command_error: "commandError",
  state: "state",
  session_moved: "sessionMoved",
} as const;

/** Kind of every field of `ViewerStats`. */
export const VIEWER_STATS = {
  run: "number",
  chunk: "number",
  frame: "number",
  timestampUs: "number",
  sourceUs: "number",
  sourceToEmitUs: "number",
  commandToEmitUs: "number",
  lateUs: "number",
  buffered: "number",
  underruns: "number",
  rung: "number",
  bitrate: "number",
  estimatedBitrate: "number",
  roundTripUs: "number",
  fractionLost: "number",
  framesDropped: "number",
  rtpTimestamp: "number",
} as const;
