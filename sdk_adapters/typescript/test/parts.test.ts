/** The small parts: pending commands, the wire, pauses, the environment of a browser. */
import { readFileSync } from "node:fs";
import { afterEach, expect, expectTypeOf, test, vi } from "vitest";
import { backoff, RECONNECT } from "../src/backoff.js";
import {
  browser,
  COMMANDS,
  SanaStreamingModel,
  VERSION,
  type ChunkComplete,
  type Phase,
  type State,
  type VideoAccepted,
} from "../src/index.js";
import { PendingCommands } from "../src/pending.js";
import { decode, decodeStats, snaked, type Message } from "../src/wire.js";
import { rejection } from "./fakes.js";

const message = (name: string, data: object, commandId = "") =>
  ({ name, data, commandId, revision: 1, replayed: false }) as unknown as Message;

test("the version is that of the package", () => {
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  expect(VERSION).toBe(version);
});

test("every command of the contract has a method", () => {
  for (const name of Object.keys(COMMANDS)) expect(SanaStreamingModel.prototype).toHaveProperty(name);
});

test("events and answers are typed", () => {
  const model = new SanaStreamingModel(browser());
  model.on("chunkComplete", (chunk) => expectTypeOf(chunk).toEqualTypeOf<ChunkComplete>());
  model.on("stateChanged", (state) => expectTypeOf(state).toEqualTypeOf<State>());
  expectTypeOf(model.setVideo).returns.resolves.toExtend<VideoAccepted>();
  expectTypeOf<State["phase"]>().toEqualTypeOf<Phase>();
  // @ts-expect-error: there is no such mode.
  model.setMode("both").catch(() => undefined);
  // @ts-expect-error: there is no such event.
  model.on("chunkCompleted", () => undefined);
});

test("a refusal whose words were lost rejects all the same", async () => {
  const pending = new PendingCommands();
  const [, answered] = pending.add("1", "start", {});
  pending.ack("1", false);
  expect(await rejection(answered)).toMatchObject({ code: "unspecified", command: "start" });
});

test("an accepted prompt whose answer was lost is the prompt that was given", async () => {
  const pending = new PendingCommands();
  const [, answered] = pending.add("1", "setPrompt", { prompt: "p" });
  pending.ack("1", true);
  await expect(answered).resolves.toEqual({ prompt: "p", commandId: "1" });
});

test("what was told to all answers only what the connection was lost of", () => {
  const pending = new PendingCommands();
  const [added, answered] = pending.add("1", "setPrompt", { prompt: "p" });
  answered.catch(() => undefined);
  added.cancel = () => undefined;
  pending.message(message("promptAccepted", { prompt: "of somebody else" }));
  expect(added.reply).toBeNull();
  pending.lost();
  pending.message(message("promptAccepted", { prompt: "p" }));
  expect(added.reply).toEqual({ prompt: "p" });
});

test("answers to unknown commands are nobody's", () => {
  const pending = new PendingCommands();
  pending.ack("9", true);
  pending.message(message("promptAccepted", { prompt: "p" }, "9"));
  expect(pending.size).toBe(0);
});

test("messages of the wire become camel case, one level deep", () => {
  const data = { current_chunk: 1, has_video: true, allowed_phases: ["awaiting_source"] };
  const text = JSON.stringify({ type: "message", name: "state", revision: 2, command_id: "c", replayed: true, data });
  expect(decode(text)).toEqual({
    type: "message",
    message: {
      type: "message",
      name: "state",
      revision: 2,
      commandId: "c",
      replayed: true,
      data: { currentChunk: 1, hasVideo: true, allowedPhases: ["awaiting_source"] },
    },
  });
  expect(decode('{"type":"queue","position":3,"eta_seconds":null}')).toEqual({
    type: "queue",
    position: 3,
    etaSeconds: null,
  });
  expect(snaked({ mimeType: "a", uploadId: { innerName: 1 } })).toEqual({ mime_type: "a", upload_id: { inner_name: 1 } });
});

test("figures of a chunk may leave out zeros and write integers as text", () => {
  expect(decodeStats('{"lateUs":"12","fractionLost":0.5}')).toMatchObject({ lateUs: 12, fractionLost: 0.5, run: 0 });
  expect(decodeStats("no json")).toBeNull();
});

test("pauses grow, are bounded, and are never shorter than the service asked for", () => {
  const waits = [1, 2, 3, 10, 100].map((attempt) => backoff(RECONNECT, attempt, 1));
  expect(waits).toEqual([200, 400, 800, 3000, 3000]);
  expect(backoff(RECONNECT, 1, 0)).toBe(0);
  expect(backoff(RECONNECT, 1, 0.5, 7)).toBe(7000);
});

afterEach(() => vi.unstubAllGlobals());

class FakeRequest {
  static readonly made: FakeRequest[] = [];
  upload: { onprogress?: (event: { loaded: number }) => void } = {};
  status = 200;
  responseText = "done";
  onload?: () => void;
  onerror?: () => void;
  onabort?: () => void;
  readonly said: unknown[] = [];
  constructor() {
    FakeRequest.made.push(this);
  }
  open(...said: unknown[]) {
    this.said.push(said);
  }
  setRequestHeader(...said: unknown[]) {
    this.said.push(said);
  }
  getResponseHeader = () => null;
  send = (file: Blob) => this.said.push(file);
  abort = () => this.onabort?.();
}

test("a browser's uploads tell their progress and can be given up", async () => {
  vi.stubGlobal("XMLHttpRequest", FakeRequest);
  const progress: number[] = [];
  const file = new Blob(["12345"]);
  const put = () => browser().put("http://x/", file, "video/mp4", (sent) => progress.push(sent));
  const sent = put();
  const request = FakeRequest.made.at(-1) as FakeRequest;
  request.upload.onprogress?.({ loaded: 3 });
  request.upload.onprogress?.({ loaded: 9 });
  request.onload?.();
  const answer = await sent;
  expect([answer.status, await answer.text(), answer.headers.get("a")]).toEqual([200, "done", null]);
  expect(progress).toEqual([3, 5]);
  expect(request.said).toEqual([["PUT", "http://x/"], ["Content-Type", "video/mp4"], file]);
  const broken = put();
  FakeRequest.made.at(-1)?.onerror?.();
  expect(await rejection(broken)).toBeInstanceOf(TypeError);
  const controller = new AbortController();
  const given = browser().put("http://x/", file, "video/mp4", () => undefined, controller.signal);
  controller.abort(new Error("enough"));
  expect(await rejection(given)).toMatchObject({ message: "enough" });
});

test("where there is no XMLHttpRequest uploads go by fetch", async () => {
  const fetched = vi.fn(async () => new Response("ok", { status: 201 }));
  vi.stubGlobal("fetch", fetched);
  const answer = await browser().put("http://x/", new Blob(["1"]), "video/mp4", () => undefined);
  expect(answer.status).toBe(201);
  expect(fetched).toHaveBeenCalledWith("http://x/", expect.objectContaining({ method: "PUT" }));
});

test("ids of a browser are short, plain and its own", () => {
  const ids = Array.from({ length: 100 }, () => browser().newId());
  expect(new Set(ids).size).toBe(100);
  for (const id of ids) expect(id).toMatch(/^[0-9a-z]{12,40}$/);
});
