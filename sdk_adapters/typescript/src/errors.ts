/**
 * The errors of this library: one tree. Each says what went wrong (`message`), why for programs
 * (`code`) and what to do (`advice`).
 *
 *     SanaError                    root
 *     +-- CommandRejected          the session refused a command; nothing changed
 *     +-- RequestError             the service refused a request; see `status`
 *     |   +-- UnauthenticatedError     the token is missing, wrong or expired
 *     |   +-- ForbiddenError           the token does not allow this
 *     |   +-- UnknownModelError        the model is not served; see `servedModels`
 *     |   +-- UnknownSessionError      no such session, or not one of the caller's
 *     |   +-- NoCapacityError          the queue is full; see `retryAfter`
 *     |   +-- LimitError               a limit of the service; see `retryAfter`
 *     |   +-- VersionError             client and service do not understand each other
 *     +-- PublisherTakenError      another connection publishes the camera
 *     +-- SessionEndedError        the session has ended; see `reason`
 *     +-- ConnectionLostError      the service cannot be reached
 *     +-- TimedOutError            no answer in time
 *     +-- NotConnectedError        `connect` was not called, or `disconnect` was
 */
import type { CommandError, Phase, RejectReason } from "./contract.js";

/** Root of what this library throws. */
export class SanaError extends Error {
  /** Why, for programs. */
  readonly code: string;
  /** What to do. */
  readonly advice: string;
  /** Seconds after which to try again; null where that would not help, or nobody knows. */
  readonly retryAfter: number | null;

  constructor(message: string, code: string, advice: string, retryAfter: number | null = null) {
    super(message);
    this.name = new.target.name;
    this.code = code;
    this.advice = advice;
    this.retryAfter = retryAfter;
  }
}

const REJECTED: Record<RejectReason, string> = {
  unspecified: "Look at `state`, and try again.",
  unknown_command: "The service is older than this client, or its model has no such command.",
  bad_argument: "Correct the argument.",
  wrong_phase: "Wait for one of `allowedPhases`.",
  no_prompt: "Call setPrompt first.",
  no_source: "Publish a camera (live mode), or stage a clip with setVideo (file mode).",
  bad_video: "Choose another clip: a video of at least 33 frames.",
  no_capacity: "Every GPU is busy: try again after `retryAfter` seconds.",
  superseded: "Nothing: a later command took its place.",
  model_failed: "Try again; the session goes on.",
  not_allowed: "Choose another prompt: the service does not allow this one.",
};

/** The session refused a command; nothing changed. */
export class CommandRejected extends SanaError {
  declare readonly code: RejectReason;
  /** Name of the command. */
  readonly command: string;
  /** Why and what to do, for people. */
  readonly reason: string;
  /** Phase the session was in. */
  readonly phase: Phase;
  /** Phases in which the command is allowed; empty when the phase is not the cause. */
  readonly allowedPhases: readonly Phase[];

  constructor(error: CommandError) {
    const { command, reason, code, phase, allowedPhases, retryAfterS } = error;
    super(`${command}: ${reason}`, code, REJECTED[code] ?? REJECTED.unspecified, retryAfterS || null);
    this.command = command;
    this.reason = reason;
    this.phase = phase;
    this.allowedPhases = allowedPhases;
  }
}

/** The service refused a request. */
export class RequestError extends SanaError {
  /** Status of the HTTP response. */
  readonly status: number;

  constructor(message: string, refusal: Refusal, advice = "Correct the request, or try again.") {
    super(message, refusal.code, advice, refusal.retryAfter);
    this.status = refusal.status;
  }
}

/** The token is missing, wrong or expired. */
export class UnauthenticatedError extends RequestError {
  constructor(message: string, refusal: Refusal) {
    super(message, refusal, "Give connect a valid token, or a getToken that fetches a new one.");
  }
}

/** The token does not allow this. */
export class ForbiddenError extends RequestError {
  constructor(message: string, refusal: Refusal) {
    super(message, refusal, "Mint a token whose scope covers this model and session.");
  }
}

/** The model is not served here. */
export class UnknownModelError extends RequestError {
  /** Names that are served. */
  readonly servedModels: readonly string[];

  constructor(message: string, refusal: Refusal) {
    super(message, refusal, "Ask for one of `servedModels`.");
    this.servedModels = refusal.servedModels;
  }
}

/** No such session, or not one of the caller's. */
export class UnknownSessionError extends RequestError {
  constructor(message: string, refusal: Refusal) {
    super(message, refusal, "Begin a new session: connect without sessionId.");
  }
}

/** The queue is full. */
export class NoCapacityError extends RequestError {
  constructor(message: string, refusal: Refusal) {
    super(message, refusal, "Try again after `retryAfter` seconds.");
  }
}

/** A limit of the service was reached. */
export class LimitError extends RequestError {
  constructor(message: string, refusal: Refusal) {
    super(message, refusal, "End sessions or uploads that are not needed; try again later.");
  }
}

/** Client and service do not understand each other. */
export class VersionError extends RequestError {
  constructor(message: string, refusal: Refusal) {
    super(message, refusal, "Bring @sana-gateway/client and the service to the same release.");
  }
}

/** Another connection publishes the camera. */
export class PublisherTakenError extends SanaError {
  constructor(message: string) {
    super(message, "publisher_taken", "Unpublish there first, or use a session of your own.");
  }
}

/** The session has ended. */
export class SessionEndedError extends SanaError {
  /** Why, for people. */
  readonly reason: string;

  constructor(reason: string) {
    super(`the session has ended: ${reason}`, "session_ended", "Call connect to begin another.");
    this.reason = reason;
  }
}

/** The service cannot be reached. */
export class ConnectionLostError extends SanaError {
  constructor(message: string, advice = "Check network and apiUrl, then call connect again.") {
    super(message, "connection_lost", advice);
  }
}

/** No answer in time. */
export class TimedOutError extends SanaError {
  constructor(message: string) {
    super(message, "timed_out", "Look at `status` and `state`, then try again.");
  }
}

/** `connect` was not called, or `disconnect` was. */
export class NotConnectedError extends SanaError {
  constructor(message = "this model is not connected") {
    super(message, "not_connected", "Call connect, and wait for it.");
  }
}

/** What a refused HTTP request says. */
export interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly retryAfter: number | null;
  readonly servedModels: readonly string[];
}

type Made = new (message: string, refusal: Refusal) => RequestError;

const BY_CODE: Record<string, Made> = {
  unauthenticated: UnauthenticatedError,
  forbidden: ForbiddenError,
  unknown_model: UnknownModelError,
  unknown_session: UnknownSessionError,
  no_capacity: NoCapacityError,
  limit: LimitError,
};
const BY_STATUS: Record<number, Made> = {
  401: UnauthenticatedError,
  403: ForbiddenError,
  426: VersionError,
  429: LimitError,
  501: VersionError,
  503: NoCapacityError,
};

/** Returns the error for a refused request. */
export function requestError(refusal: Refusal, detail: string): SanaError {
  if (refusal.code === "session_closed") return new SessionEndedError(detail);
  const Known = BY_CODE[refusal.code] ?? BY_STATUS[refusal.status] ?? RequestError;
  return new Known(detail, refusal);
}
