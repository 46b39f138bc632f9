// The calls of sana-gateway from Node; docs/grpc.md explains them.

import { EventEmitter } from "node:events";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { randomUUID } from "node:crypto";
import { basename } from "node:path";

import grpc from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer } from "@grpc/proto-loader";

/** The public contract: made from proto/, with all it imports. */
export const DESCRIPTORS = new URL("../../proto/sana_gateway.binpb", import.meta.url);
/** Bytes of one piece of an upload; the service takes up to 1 MiB. */
const PIECE = 256 * 1024;
/** Names of fields as in proto/, enums by name, 64-bit integers as strings. */
const STYLE = { keepCase: true, enums: String, longs: String, defaults: true, oneofs: true };

/** What a call or a command failed with. */
export class GatewayError extends Error {
  /**
   * @param {string} message Why, for people.
   * @param {string} reason Why, for programs: see the tables of docs/grpc.md.
   * @param {number | null} retryAfter Seconds after which to try again, where that makes sense.
   */
  constructor(message, reason, retryAfter = null) {
    super(message);
    this.reason = reason;
    this.retryAfter = retryAfter;
  }
}

/** A gateway. */
export class Gateway {
  /** @param {string} address host:port of its gRPC. @param {{token?: string, apiKey?: string}} options */
  static async connect(address, { token, apiKey } = {}) {
    const definition = loadFileDescriptorSetFromBuffer(await readFile(DESCRIPTORS), STYLE);
    return new Gateway(address, definition, { token, apiKey });
  }

  constructor(address, definition, { token, apiKey }) {
    const { SessionService } = grpc.loadPackageDefinition(definition).sana_gateway.v1;
    this.stub = new SessionService(address, grpc.credentials.createInsecure());
    this.metadata = new grpc.Metadata();
    if (token) this.metadata.set("authorization", `Bearer ${token}`);
    if (apiKey) this.metadata.set("x-api-key", apiKey);
    this.status = definition["google.rpc.Status"];
    this.detail = definition["sana_gateway.v1.ErrorDetail"];
  }

  /** Makes a unary call. */
  call(method, request) {
    return new Promise((resolve, reject) => {
      this.stub[method](request, this.metadata, (error, response) =>
        error ? reject(this.explained(error)) : resolve(response),
      );
    });
  }

  /** Creates a session and attaches to it; returns once it has its place. */
  async createSession(model, { onQueue } = {}) {
    const { session } = await this.call("CreateSession", { model, request_id: randomUUID() });
    const attached = new Session(this, session.session_id);
    if (onQueue) attached.on("queue", onQueue);
    await attached.ready;
    return attached;
  }

  /** Turns a failed call into an error that says what the service said. */
  explained(error) {
    const [packed] = error.metadata?.get("grpc-status-details-bin") ?? [];
    if (!packed) return new GatewayError(error.details ?? error.message, grpc.status[error.code]);
    const { message, details } = this.status.deserialize(packed);
    const typed = details.find(({ type_url }) => type_url.endsWith("sana_gateway.v1.ErrorDetail"));
    if (!typed) return new GatewayError(message, grpc.status[error.code]);
    const { reason, retry_after } = this.detail.deserialize(typed.value);
    const seconds = retry_after ? Number(retry_after.seconds) + retry_after.nanos / 1e9 : null;
    return new GatewayError(message, reason.replace("ERROR_REASON_", ""), seconds);
  }

  close() {
    this.stub.close();
  }
}

/**
 * A session. Emits `state`, `chunk_complete` and the other payloads of Message, `queue` while it
 * waits, and `ended`.
 */
export class Session extends EventEmitter {
  constructor(gateway, id) {
    super();
    this.gateway = gateway;
    this.id = id;
    this.state = null;
    this.waiting = new Map();
    this.stream = gateway.stub.Attach(gateway.metadata);
    this.ready = new Promise((resolve, reject) => {
      this.once("attached", resolve);
      this.once("failed", reject);
      this.once("ended", (reason) => reject(new GatewayError(reason, "SESSION_CLOSED")));
    });
    this.stream.on("data", (response) => this.#take(response));
    this.stream.on("error", (error) => this.#fail(gateway.explained(error)));
    this.stream.write({ start: { session_id: id } });
  }

  /** Sends a command, such as `{ set_prompt: { prompt } }`; fails when it is refused. */
  command(command) {
    const command_id = randomUUID();
    return new Promise((resolve, reject) => {
      this.waiting.set(command_id, { resolve, reject, error: null });
      this.stream.write({ command: { ...command, command_id } });
    });
  }

  /** Stages an uploaded clip; resolves with what it is once it was looked at, or fails. */
  async setVideo(video) {
    const accepted = this.next("video_accepted");
    const refused = this.next("command_error").then(({ reason, code }) => {
      throw new GatewayError(reason, code.replace("REJECT_REASON_", ""));
    });
    // Whichever does not come is nobody's fault.
    accepted.catch(() => {});
    refused.catch(() => {});
    await this.command({ set_video: { video } });
    return Promise.race([accepted, refused]);
  }

  /** Resolves with the next message of a kind, or fails when the session does. */
  next(kind) {
    return new Promise((resolve, reject) => {
      const settle = (done) => (value) => {
        this.off(kind, took).off("failed", failed).off("ended", ended);
        done(value);
      };
      const took = settle(resolve);
      const failed = settle(reject);
      const ended = settle((reason) => reject(new GatewayError(reason, "SESSION_CLOSED")));
      this.on(kind, took).on("failed", failed).on("ended", ended);
    });
  }

  /** Uploads a file; returns the reference for set_video. */
  async upload(path, mime_type = "video/mp4") {
    const { size } = await stat(path);
    const { stub, metadata } = this.gateway;
    const answer = withResolvers();
    const call = stub.Upload(metadata, (error, response) =>
      error ? answer.reject(this.gateway.explained(error)) : answer.resolve(response),
    );
    const send = async () => {
      call.write({ start: { session_id: this.id, name: basename(path), mime_type, size } });
      for await (const data of createReadStream(path, { highWaterMark: PIECE })) {
        // `write` says whether there is room; what does not fit waits in memory.
        if (!call.write({ data })) await Promise.race([once(call, "drain"), answer.promise]);
      }
      call.end();
    };
    await Promise.race([send(), answer.promise]);
    return (await answer.promise).upload.file;
  }

  /** Yields the frames of main_video, encoded, each when it is due. */
  async *watch(codec = "CODEC_H264") {
    const call = this.gateway.stub.Media(this.gateway.metadata);
    call.write({ start: { session_id: this.id, watch: true, watch_codec: codec } });
    try {
      // The stream is read only as fast as this loop turns; the service drops up to a keyframe.
      for await (const response of call) {
        if (response.video && !response.video.held) yield response.video;
      }
    } catch (error) {
      if (error.code !== grpc.status.CANCELLED) throw this.gateway.explained(error);
    } finally {
      call.cancel();
    }
  }

  /** Ends the session and frees what it held. */
  async close() {
    await this.gateway.call("CloseSession", { session_id: this.id });
    this.stream.end();
  }

  #take({ attached, ack, message, queue, ended }) {
    if (attached) this.emit("attached", attached);
    if (queue) this.emit("queue", queue);
    if (message) this.#message(message);
    if (ack) this.#settle(ack);
    if (ended) this.emit("ended", ended.reason);
  }

  #message(message) {
    const payload = message[message.payload];
    if (message.payload === "state") this.state = payload;
    const waiting = this.waiting.get(message.command_id);
    if (waiting && message.payload === "command_error") waiting.error = payload;
    this.emit(message.payload, payload);
  }

  #settle({ command_id, accepted }) {
    const waiting = this.waiting.get(command_id);
    this.waiting.delete(command_id);
    if (accepted) return waiting?.resolve();
    // A command_error comes before the ack of the command that it refuses.
    const { reason, code, retry_after_s } = waiting?.error ?? { reason: "refused", code: "" };
    waiting?.reject(
      new GatewayError(reason, code.replace("REJECT_REASON_", ""), retry_after_s || null),
    );
  }

  #fail(error) {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
    if (this.listenerCount("failed")) this.emit("failed", error);
  }
}

function once(emitter, event) {
  return new Promise((resolve) => emitter.once(event, resolve));
}

function withResolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
