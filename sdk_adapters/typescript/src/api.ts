/** The HTTP routes of the service. */
import { ConnectionLostError, requestError, SanaError } from "./errors.js";
import type { Environment, Progress, RequestPort, ResponsePort } from "./ports.js";
import { pause } from "./ports.js";
import { backoff, RECONNECT } from "./backoff.js";
import { SDK_TYPE } from "./wire.js";
import { VERSION } from "./version.js";

/** A token, or what fetches one; `local` and a service without authentication need none. */
export interface Credentials {
  readonly token?: string | undefined;
  readonly getToken?: (() => string | Promise<string>) | undefined;
}

/** A track of a session, as the client sees it. */
export interface TrackShown {
  readonly name: string;
  readonly kind: string;
  readonly direction: "sendonly" | "recvonly";
}

/** A session as the service shows it. */
export interface SessionShown {
  readonly session_id: string;
  readonly state: string;
  readonly model: { readonly name: string };
  readonly capabilities?: { readonly tracks: readonly TrackShown[]; readonly emission_fps?: number };
  readonly queue?: { readonly position: number; readonly eta_seconds: number | null };
}

interface Slot {
  readonly presigned_id: string;
  readonly presigned_url: string;
}

/** Who we are, for the service. */
export const CLIENT_INFO = { sdk_type: SDK_TYPE, sdk_version: VERSION };
const TRANSPORTS = [{ protocol: "webrtc", version: "1.0" }];
/** Tries of an upload. */
const UPLOAD_TRIES = 4;
/** How long an answer may take. */
const ANSWER_MS = 15_000;
/** The same where the service waits for something: a place, a copy. */
const PATIENT_MS = 45_000;
const PATIENT = /^\/(sessions|start_session)$|\/(place|forks)\b/;

/** One service, and one caller. */
export class Api {
  readonly #environment: Environment;
  readonly #base: string;
  readonly #credentials: Credentials;
  #token: string | null = null;

  constructor(environment: Environment, base: string, credentials: Credentials) {
    this.#environment = environment;
    this.#base = base.replace(/\/+$/, "");
    this.#credentials = credentials;
  }

  create(model: string, signal?: AbortSignal): Promise<SessionShown> {
    const body = { model: { name: model }, client_info: CLIENT_INFO, supported_transports: TRANSPORTS };
    return this.#json("POST", "/sessions", body, signal);
  }

  startLocal(signal?: AbortSignal): Promise<SessionShown> {
    return this.#json("POST", "/start_session", { client_info: CLIENT_INFO }, signal);
  }

  /** Returns the session once it is placed, has ended, or has another position than `seen`. */
  place(session: string, seen: number, signal?: AbortSignal): Promise<SessionShown> {
    return this.#json("GET", `/sessions/${session}/place?seen=${seen}`, undefined, signal);
  }

  /** Ends a session, also while the page is being left. Where that fails, the service ends it soon. */
  async close(session: string, local: boolean): Promise<void> {
    const [method, path] = local ? ["POST", "/stop_session"] : ["DELETE", `/sessions/${session}`];
    await this.#ask(method as string, path as string, undefined, undefined, true).catch(() => undefined);
  }

  async fork(session: string, copies: number, requestId: string): Promise<SessionShown[]> {
    const body = { copies, request_id: requestId };
    const made = await this.#json<{ sessions: SessionShown[] }>("POST", `/sessions/${session}/forks`, body);
    return made.sessions;
  }

  async iceServers(session: string, signal?: AbortSignal): Promise<RTCIceServer[]> {
    interface Server {
      uris: string[];
      credentials?: { username: string; password: string };
    }
    const path = `${transport(session)}/ice_servers`;
    const { ice_servers } = await this.#json<{ ice_servers: Server[] }>("GET", path, undefined, signal);
    return ice_servers.map(({ uris, credentials }) => ({
      urls: uris,
      ...(credentials && { username: credentials.username, credential: credentials.password }),
    }));
  }

  /** Registers a connection; returns its number. */
  async register(session: string, signal?: AbortSignal): Promise<number> {
    const path = `${transport(session)}/connections`;
    return (await this.#json<{ connection_id: number }>("POST", path, {}, signal)).connection_id;
  }

  async offer(session: string, link: number, offer: object, again: boolean, signal?: AbortSignal): Promise<void> {
    const path = `${transport(session)}/connections/${link}/sdp_params`;
    await this.#json(again ? "PUT" : "POST", path, offer, signal);
  }

  /** Returns the answer to the latest offer; null while there is none. */
  async answer(session: string, link: number, signal?: AbortSignal): Promise<string | null> {
    const path = `${transport(session)}/connections/${link}/sdp_params`;
    const said = await this.#json<{ sdp_answer?: string }>("GET", path, undefined, signal);
    return said.sdp_answer ?? null;
  }

  async candidates(session: string, link: number, candidates: object[], final: boolean): Promise<void> {
    const path = `${transport(session)}/connections/${link}/ice_candidates`;
    await this.#json("POST", path, { candidates, is_final: final, client_info: CLIENT_INFO });
  }

  /** Uploads a file; goes on after interruptions. Returns the id of the upload. */
  async upload(
    session: string,
    file: Blob,
    name: string,
    type: string,
    onProgress: Progress,
    signal?: AbortSignal,
  ): Promise<string> {
    const announced = { name, size: file.size, mime_type: type };
    const slot = await this.#json<Slot>("POST", `/sessions/${session}/uploads`, announced, signal);
    for (let attempt = 1; ; attempt += 1) {
      try {
        const response = await this.#environment.put(slot.presigned_url, file, type, onProgress, signal);
        if (response.status < 300) return slot.presigned_id;
        const refused = await refusalOf(response);
        // A whole upload whose answer was lost.
        if (attempt > 1 && response.status === 409) return slot.presigned_id;
        if (response.status < 500) throw refused;
        if (attempt >= UPLOAD_TRIES) throw refused;
      } catch (error) {
        if (signal?.aborted || error instanceof SanaError) throw error;
        if (attempt >= UPLOAD_TRIES) throw new ConnectionLostError("the upload was interrupted");
      }
      await pause(this.#environment, backoff(RECONNECT, attempt, this.#environment.random()), signal);
    }
  }

  async #json<Answer>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<Answer> {
    const response = await this.#ask(method, path, body, signal);
    const text = await response.text();
    try {
      return (text ? JSON.parse(text) : {}) as Answer;
    } catch {
      throw new ConnectionLostError(`${this.#base} answers, but not as the service does`);
    }
  }

  async #ask(
    method: string,
    path: string,
    body?: object,
    signal?: AbortSignal,
    keepalive = false,
  ): Promise<ResponsePort> {
    const held = this.#token !== null;
    let response = await this.#send(method, path, body, signal, keepalive);
    if (response.status === 401 && held) {
      // A token that was good once may have expired.
      this.#token = null;
      response = await this.#send(method, path, body, signal, keepalive);
    }
    if (response.status >= 300) throw await refusalOf(response);
    return response;
  }

  async #send(
    method: string,
    path: string,
    body: object | undefined,
    signal: AbortSignal | undefined,
    keepalive: boolean,
  ): Promise<ResponsePort> {
    const token = await this.#bearer();
    const request: RequestPort = {
      method,
      headers: {
        "Reactor-API-Version": "1",
        "Reactor-API-Accept-Version": "1",
        ...(body && { "Content-Type": "application/json" }),
        ...(token && { Authorization: `Bearer ${token}` }),
      },
      ...(body && { body: JSON.stringify(body) }),
      ...(keepalive && { keepalive }),
    };
    const abort = new AbortController();
    const given = () => abort.abort(signal?.reason);
    if (signal?.aborted) given();
    signal?.addEventListener("abort", given, { once: true });
    const cancel = this.#environment.after(PATIENT.test(path) ? PATIENT_MS : ANSWER_MS, () => abort.abort());
    try {
      return await this.#environment.fetch(this.#base + path, { ...request, signal: abort.signal });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ConnectionLostError(`${this.#base || "the service"} cannot be reached`);
    } finally {
      cancel();
      signal?.removeEventListener("abort", given);
    }
  }

  async #bearer(): Promise<string> {
    const { token, getToken } = this.#credentials;
    if (getToken === undefined) return token ?? "";
    this.#token ??= await getToken();
    return this.#token;
  }
}

const transport = (session: string) => `/sessions/${session}/transport/webrtc`;

/** Returns the error that a response stands for. */
async function refusalOf(response: ResponsePort): Promise<SanaError> {
  const text = await response.text();
  let body: { detail?: string; reason?: string; served_models?: string[] } = {};
  try {
    body = (JSON.parse(text) ?? {}) as typeof body;
  } catch {
    // Of a proxy: its text is all there is.
  }
  const retryAfter = Number(response.headers.get("Retry-After") ?? Number.NaN);
  const refusal = {
    status: response.status,
    code: (body.reason ?? `http_${response.status}`).toLowerCase(),
    retryAfter: Number.isFinite(retryAfter) ? retryAfter : null,
    servedModels: body.served_models ?? [],
  };
  return requestError(refusal, body.detail ?? `the service answered ${response.status}`);
}
