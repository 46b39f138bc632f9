import { describe, expect, test } from "vitest";
import {
  CommandRejected,
  ConnectionLostError,
  NotConnectedError,
  SanaStreamingModel,
  SessionEndedError,
  TimedOutError,
  UnauthenticatedError,
  UnknownModelError,
  type QueuePlace,
  type State,
  type Status,
} from "../src/index.js";
import { AT, ready } from "./calls.js";
import { FakeService, fakeTrack, PLACED, rejection, type Json } from "./fakes.js";

describe("connecting", () => {
  test("makes a session, negotiates, and is ready with the first snapshot", async () => {
    const service = new FakeService();
    const model = new SanaStreamingModel(service);
    const seen: Status[] = [];
    model.on("statusChanged", (status) => seen.push(status));
    await Promise.all([model.connect(AT), service.advance()]);
    expect(seen).toEqual(["connecting", "waiting", "ready"]);
    expect(model.state).toMatchObject({ phase: "idle", mode: "live", currentPrompt: null, degradedFrameRate: 0 });
    expect(model.sessionId).toBe("s1");
    const [created] = service.asked;
    expect(created).toMatchObject({ method: "POST", path: "/sessions", token: "Bearer t" });
    expect(created?.body).toMatchObject({ model: { name: "sana-streaming" }, client_info: { sdk_type: "sana-gateway-js" } });
    const offer = service.asked.find(({ path, method }) => method === "POST" && path.endsWith("/sdp_params"));
    expect(offer?.body).toMatchObject({
      sdp_offer: "offer 1",
      track_mapping: [
        { mid: "0", name: "camera", direction: "sendonly" },
        { mid: "1", name: "main_video", direction: "recvonly" },
      ],
    });
    expect(offer?.body["client_info"]).not.toHaveProperty("resume_after");
    expect(service.peer.configuration.iceServers).toEqual([{ urls: ["turn:t"], username: "u", credential: "p" }]);
    expect([...service.peer.channels.keys()]).toEqual(["data", "sana.stats"]);
    const trickled = service.asked.find(({ path }) => path.endsWith("/ice_candidates"));
    expect(trickled?.body).toMatchObject({ candidates: [{ candidate: "candidate:1", sdp_mid: "0" }], is_final: true });
  });

  test("tells the place in the queue while it waits, and keeps asking", async () => {
    const service = new FakeService();
    const model = new SanaStreamingModel(service);
    const places: (QueuePlace | null)[] = [];
    model.on("queueChanged", (place) => places.push(place));
    const waiting = (position: number): Json => ({
      ...PLACED,
      state: "PENDING",
      capabilities: undefined,
      queue: { position, eta_seconds: 4.5 },
    });
    const positions = [3, 1, 1];
    const place = () => {
      const position = positions.shift();
      return { status: 200, body: position === undefined ? PLACED : waiting(position) };
    };
    for (const seen of [0, 1, 3]) service.replies.set(`GET /sessions/s1/place?seen=${seen}`, place);
    const connected = model.connect(AT);
    await service.advance();
    expect([model.status, model.queue?.position]).toEqual(["waiting", 1]);
    await service.advance(1000);
    await connected;
    expect(places).toEqual([{ position: 3, etaSeconds: 4.5 }, { position: 1, etaSeconds: 4.5 }, null]);
    expect(service.paths("GET").filter((path) => path.includes("place"))).toEqual(
      [0, 3, 1, 1].map((seen) => `/sessions/s1/place?seen=${seen}`),
    );
  });

  test("a session that ends while it waits is an error, and is not left behind", async () => {
    const service = new FakeService();
    service.replies.set("GET /sessions/s1/place?seen=0", { status: 200, body: { ...PLACED, state: "CLOSED" } });
    const model = new SanaStreamingModel(service);
    const [error] = await Promise.all([rejection(model.connect(AT)), service.advance()]);
    expect(error).toBeInstanceOf(SessionEndedError);
    expect(model.status).toBe("disconnected");
    expect(service.paths("DELETE")).toEqual(["/sessions/s1"]);
  });

  test("what the service refuses is an error of its own kind that says what to do", async () => {
    const service = new FakeService();
    const body = { detail: "this model is not served here", reason: "UNKNOWN_MODEL", served_models: ["painter"] };
    service.replies.set("POST /sessions", { status: 404, body });
    const model = new SanaStreamingModel(service);
    const error = await rejection(model.connect(AT));
    expect(error).toBeInstanceOf(UnknownModelError);
    expect(error).toMatchObject({ servedModels: ["painter"], code: "unknown_model", status: 404 });
    expect((error as UnknownModelError).advice).toContain("servedModels");
    expect(model.status).toBe("disconnected");
  });

  test("a service that cannot be reached is a lost connection", async () => {
    const service = new FakeService();
    service.reachable = false;
    const error = await rejection(new SanaStreamingModel(service).connect(AT));
    expect(error).toBeInstanceOf(ConnectionLostError);
  });

  test("a token that has expired is fetched anew, once", async () => {
    const service = new FakeService();
    const tokens = ["old", "new", "newest"];
    const model = new SanaStreamingModel(service);
    let refused = false;
    service.replies.set("POST /sessions/s1/transport/webrtc/connections", () => {
      if (refused) return { status: 201, body: { connection_id: 1002 } };
      refused = true;
      return { status: 401, body: { detail: "expired", reason: "UNAUTHENTICATED" } };
    });
    const getToken = async () => tokens.shift() as string;
    await Promise.all([model.connect({ apiUrl: "http://service", getToken }), service.advance()]);
    expect(tokens).toEqual(["newest"]);
    expect(service.asked.at(-1)?.token).toBe("Bearer new");
  });

  test("a token that stays refused is not fetched for ever", async () => {
    const [model, service] = await ready({ token: undefined, getToken: async () => "t" });
    const refused = { status: 401, body: { detail: "expired", reason: "UNAUTHENTICATED" } };
    service.replies.set("POST /sessions/s1/forks", refused);
    expect(await rejection(model.fork(1))).toBeInstanceOf(UnauthenticatedError);
    expect(service.paths("POST").filter((path) => path.endsWith("/forks"))).toHaveLength(2);
  });

  test("a first token that is wrong is not asked for again", async () => {
    const service = new FakeService();
    service.replies.set("POST /sessions", { status: 401, body: { detail: "wrong", reason: "UNAUTHENTICATED" } });
    const error = await rejection(new SanaStreamingModel(service).connect(AT));
    expect(error).toBeInstanceOf(UnauthenticatedError);
    expect(service.asked).toHaveLength(1);
  });

  test("local mode begins and ends the one session, without a token", async () => {
    const service = new FakeService();
    const model = new SanaStreamingModel(service);
    await Promise.all([model.connect({ apiUrl: "http://service", local: true }), service.advance()]);
    await model.disconnect();
    expect(service.paths("POST")).toContain("/start_session");
    expect(service.paths("POST").at(-1)).toBe("/stop_session");
    expect(service.asked.every(({ token }) => token === "")).toBe(true);
  });

  test("who joins a session does not end it, unless it is theirs", async () => {
    for (const [owned, ended] of [[undefined, 0], [true, 1]] as const) {
      const [model, service] = await ready({ sessionId: "s1", ...(owned && { owned }) });
      await model.disconnect();
      expect(service.paths("POST")).not.toContain("/sessions");
      expect(service.paths("DELETE")).toHaveLength(ended);
    }
  });

  test("disconnect ends the session, or keeps it", async () => {
    for (const [keepSession, ended] of [[false, 1], [true, 0]] as const) {
      const [model, service] = await ready();
      await model.disconnect({ keepSession });
      expect(service.paths("DELETE")).toHaveLength(ended);
      expect(service.peer.connectionState).toBe("closed");
      expect([model.status, model.state, model.sessionId]).toEqual(["disconnected", null, null]);
    }
  });

  test("can be given up while it waits", async () => {
    const service = new FakeService();
    service.replies.set("GET /sessions/s1/place?seen=0", () => new Promise(() => undefined));
    const model = new SanaStreamingModel(service);
    const controller = new AbortController();
    const connected = rejection(model.connect({ ...AT, signal: controller.signal }));
    await service.advance();
    controller.abort(new Error("enough"));
    expect(await connected).toMatchObject({ message: "enough" });
    expect(model.status).toBe("disconnected");
    expect(service.paths("DELETE")).toEqual(["/sessions/s1"]);
  });

  test.each([
    ["GET /sessions/s1/transport/webrtc/ice_servers", 15_000],
    ["GET /sessions/s1/place?seen=0", 45_000],
  ])("a service that does not answer %s is a lost connection", async (route, ms) => {
    const service = new FakeService();
    service.replies.set(route, () => new Promise(() => undefined));
    const connected = rejection(new SanaStreamingModel(service).connect(AT));
    let over = false;
    void connected.then(() => (over = true));
    await service.advance(ms - 1);
    expect(over).toBe(false);
    await service.advance(1);
    expect(await connected).toBeInstanceOf(ConnectionLostError);
  });

  test("may be repeated after it failed or was over, and not before", async () => {
    const [model, service] = await ready();
    expect(await rejection(model.connect(AT))).toMatchObject({ code: "already_connected" });
    await model.disconnect();
    service.greet = (peer) => {
      peer.data.receive({ type: "attached", connection_id: 1, gap: false });
      service.become({});
    };
    await Promise.all([model.connect(AT), service.advance()]);
    expect(model.status).toBe("ready");
  });
});

describe("commands", () => {
  test("travel by name with their arguments, and resolve with their answer", async () => {
    const [model, service] = await ready();
    service.answer = (said, channel) => {
      const { id } = said;
      if (said["name"] === "set_prompt") service.tell("prompt_accepted", { prompt: "p" }, { command_id: id });
      if (said["name"] === "reset") service.tell("generation_reset", { reason: "by command" }, { command_id: id });
      channel.receive({ type: "ack", id, accepted: true });
    };
    await expect(model.setPrompt("p")).resolves.toMatchObject({ prompt: "p", commandId: "id1-1" });
    await expect(model.reset()).resolves.toMatchObject({ reason: "by command" });
    await expect(model.start()).resolves.toEqual({ commandId: "id1-3" });
    await Promise.all([model.setMode("file"), model.setSeed(7), model.pause(), model.resume()]);
    await model.setPrompt("q", { transitionChunks: 4 });
    const sent = service.peer.data.of("command").map(({ name, arguments: given }) => [name, given]);
    expect(sent).toEqual([
      ["set_prompt", { prompt: "p" }],
      ["reset", {}],
      ["start", {}],
      ["set_mode", { mode: "file" }],
      ["set_seed", { seed: 7 }],
      ["pause", {}],
      ["resume", {}],
      ["set_prompt", { prompt: "q", transition_chunks: 4 }],
    ]);
  });

  test("a clip is accepted when it was looked at, not before", async () => {
    const [model, service] = await ready();
    const video = { uploadId: "u1", name: "a.mp4", mimeType: "video/mp4", size: 9 };
    let done = false;
    const staged = model.setVideo(video).then((accepted) => {
      done = true;
      return accepted;
    });
    await service.advance();
    expect(done).toBe(false);
    const [sent] = service.peer.data.of("command");
    expect(sent?.["arguments"]).toEqual({ video: { upload_id: "u1", name: "a.mp4", mime_type: "video/mp4", size: 9 } });
    const data = { width: 640, height: 360, num_frames: 48, num_latent_frames: 6 };
    service.tell("video_accepted", data, { command_id: sent?.["id"] });
    await expect(staged).resolves.toMatchObject({ width: 640, numFrames: 48, numLatentFrames: 6 });
  });

  const REFUSED = {
    command: "start",
    reason: "set a prompt first",
    code: "no_prompt",
    phase: "idle",
    allowed_phases: ["idle", "paused"],
    retry_after_s: 2.5,
  };

  test("a refusal rejects with code, phases and when to try again", async () => {
    const [model, service] = await ready();
    const told: string[] = [];
    model.on("commandError", ({ code }) => told.push(code));
    service.answer = ({ id }, channel) => {
      service.tell("command_error", REFUSED, { command_id: id, revision: 0 });
      channel.receive({ type: "ack", id, accepted: false });
    };
    const error = (await rejection(model.start())) as CommandRejected;
    expect(error).toBeInstanceOf(CommandRejected);
    expect(error).toMatchObject({
      code: "no_prompt",
      command: "start",
      phase: "idle",
      allowedPhases: ["idle", "paused"],
      retryAfter: 2.5,
      advice: "Call setPrompt first.",
    });
    expect(told).toEqual(["no_prompt"]);
  });

  test("a refusal that comes after the ack is an event", async () => {
    const [model, service] = await ready();
    const told: string[] = [];
    model.on("commandError", ({ code }) => told.push(code));
    await model.start();
    service.tell("command_error", { ...REFUSED, code: "no_capacity" }, { command_id: "id1-1", revision: 0 });
    expect(told).toEqual(["no_capacity"]);
  });

  test("one that is not answered is given up", async () => {
    const [model, service] = await ready();
    service.answer = () => undefined;
    const error = rejection(model.start());
    await service.advance(30_000);
    expect(await error).toBeInstanceOf(TimedOutError);
  });

  test("are refused without a connection", async () => {
    const model = new SanaStreamingModel(new FakeService());
    expect(await rejection(model.start())).toBeInstanceOf(NotConnectedError);
    expect(await rejection(model.waitFor(() => true))).toBeInstanceOf(NotConnectedError);
    expect(await rejection(model.publishCamera(fakeTrack("c")))).toBeInstanceOf(NotConnectedError);
  });

  test("given while it connects they are sent when it is ready, in order", async () => {
    const service = new FakeService();
    const model = new SanaStreamingModel(service);
    const connected = model.connect(AT);
    const answers = Promise.all([model.setPrompt("p"), model.setMode("live"), model.start()]);
    await service.advance();
    await connected;
    await answers;
    expect(service.peer.data.of("command").map(({ name }) => name)).toEqual(["set_prompt", "set_mode", "start"]);
  });

  test("there are not more than 256 at once", async () => {
    const [model, service] = await ready();
    service.answer = () => undefined;
    const many = Array.from({ length: 256 }, () => model.pause());
    for (const each of many) each.catch(() => undefined);
    expect(await rejection(model.pause())).toMatchObject({ code: "limit" });
    await model.disconnect();
  });
});

describe("state and messages", () => {
  test("messages are told by name, whole, and each once", async () => {
    const [model, service] = await ready();
    const chunks: number[] = [];
    const revisions: number[] = [];
    model.on("chunkComplete", ({ chunkIndex }) => chunks.push(chunkIndex));
    model.on("message", ({ revision }) => revisions.push(revision));
    service.tell("chunk_complete", { chunk_index: 0, frames_emitted: 9, active_prompt: "p" });
    service.tell("chunk_complete", { chunk_index: 1, frames_emitted: 24, active_prompt: "p" });
    service.tell("chunk_complete", { chunk_index: 1, frames_emitted: 24, active_prompt: "p" }, { revision: 3 });
    expect(chunks).toEqual([0, 1]);
    expect(revisions).toEqual([2, 3]);
    expect(model.revision).toBe(3);
  });

  test("what is unknown or malformed is ignored", async () => {
    const [model, service] = await ready();
    for (const said of ["", "[]", "null", '{"type":"brand_new"}', '{"type":"message","name":"brand_new","data":{}}'])
      service.peer.data.receive(said);
    expect(model.status).toBe("ready");
  });

  test("a listener that throws keeps nobody from hearing", async () => {
    const [model, service] = await ready();
    const caught: unknown[] = [];
    const hear = (error: unknown) => caught.push(error);
    const before = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.on("uncaughtException", hear);
    const seen: State[] = [];
    model.on("stateChanged", () => {
      throw new Error("theirs");
    });
    const stop = model.on("stateChanged", (state) => seen.push(state));
    service.become({ seed: 1 });
    stop();
    service.become({ seed: 2 });
    await service.advance();
    process.removeListener("uncaughtException", hear);
    for (const each of before) process.on("uncaughtException", each);
    expect(seen.map(({ seed }) => seed)).toEqual([1]);
    expect(caught).toHaveLength(2);
  });

  test("a snapshot can be waited for", async () => {
    const [model, service] = await ready();
    const running = model.waitFor((state) => state.running);
    const late = rejection(model.waitFor((state) => state.hasVideo, { timeoutMs: 100 }));
    const over = rejection(model.waitFor((state) => state.hasVideo));
    service.become({ running: true });
    await expect(running).resolves.toMatchObject({ running: true });
    await service.advance(100);
    expect(await late).toBeInstanceOf(TimedOutError);
    service.say({ type: "ended", reason: "drained" });
    expect(await over).toBeInstanceOf(SessionEndedError);
  });

  test("the end of the session is told, with its reason", async () => {
    const [model, service] = await ready();
    const ended: string[] = [];
    model.on("ended", (reason) => ended.push(reason));
    service.answer = () => undefined;
    const given = rejection(model.start());
    service.say({ type: "ended", reason: "time is over" });
    expect(ended).toEqual(["time is over"]);
    expect(await given).toMatchObject({ reason: "time is over" });
    expect(model.status).toBe("disconnected");
    await service.advance(60_000);
    expect(service.peers).toHaveLength(1);
  });

  test("a session that loses its place tells its position", async () => {
    const [model, service] = await ready();
    service.say({ type: "queue", position: 2, eta_seconds: null });
    expect(model.queue).toEqual({ position: 2, etaSeconds: null });
    service.become({});
    expect(model.queue).toBeNull();
  });
});
