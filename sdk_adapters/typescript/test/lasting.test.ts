import { describe, expect, test } from "vitest";
import {
  ConnectionLostError,
  PublisherTakenError,
  type Status,
} from "../src/index.js";
import { lose, ready } from "./calls.js";
import { FakeService, fakeStream, fakeTrack, rejection, response } from "./fakes.js";

describe("reconnecting", () => {
  test("takes the connection up again by revision, and tells what was missed", async () => {
    const [model, service] = await ready();
    const seen: Status[] = [];
    const chunks: number[] = [];
    model.on("statusChanged", (status) => seen.push(status));
    model.on("chunkComplete", ({ chunkIndex }) => chunks.push(chunkIndex));
    service.become({ running: true });
    service.greet = (peer) => {
      service.greeting(peer);
      const data = { chunk_index: 4, frames_emitted: 24, active_prompt: "p" };
      service.tell("chunk_complete", data, { replayed: true, revision: 3 });
    };
    await lose(service);
    expect(seen).toEqual(["reconnecting", "ready"]);
    expect(chunks).toEqual([4]);
    const again = service.asked.find(({ method }) => method === "PUT");
    expect(again?.path).toBe("/sessions/s1/transport/webrtc/connections/1002/sdp_params");
    expect(again?.body["client_info"]).toMatchObject({ resume_after: 2 });
    expect(service.paths("POST").filter((path) => path.endsWith("/connections"))).toHaveLength(1);
  });

  test.each([
    ["the data channel closed", (service: FakeService) => service.peer.data.close(), 0],
    ["the peer was interrupted", (service: FakeService) => service.peer.become("disconnected"), 4000],
    ["nobody answers pings", (service: FakeService) => (service.peer.data.onSent = () => undefined), 25_000],
  ])("is begun when %s", async (_, break_, ms) => {
    const [model, service] = await ready();
    break_(service);
    await service.advance(ms + 1);
    expect(service.peers).toHaveLength(2);
    expect(model.status).toBe("ready");
  });

  test("an interruption that passes is none", async () => {
    const [, service] = await ready();
    service.peer.become("disconnected");
    await service.advance(3000);
    service.peer.become("connected");
    await service.advance(10_000);
    expect(service.peers).toHaveLength(1);
  });

  test("what has no answer is sent again under its id, and what is given meanwhile waits", async () => {
    const [model, service] = await ready();
    service.answer = () => undefined;
    const prompt = model.setPrompt("p");
    await service.advance();
    service.peer.become("failed");
    const start = model.start();
    service.answer = ({ id }, channel) => channel.receive({ type: "ack", id, accepted: true });
    service.greet = (peer) => {
      service.greeting(peer);
      service.tell("prompt_accepted", { prompt: "p" }, { replayed: true });
    };
    await service.advance(2000);
    await expect(prompt).resolves.toMatchObject({ prompt: "p" });
    await start;
    expect(service.peer.data.of("command").map(({ id, name }) => [id, name])).toEqual([
      ["id1-1", "set_prompt"],
      ["id1-2", "start"],
    ]);
  });

  test("an answer that was told to others while it was away settles its command", async () => {
    const [model, service] = await ready();
    const staged = model.setVideo({ uploadId: "u", name: "n", mimeType: "m", size: 1 });
    await service.advance();
    service.greet = (peer) => {
      service.greeting(peer);
      service.tell("video_accepted", { width: 1, height: 2, num_frames: 48 }, { replayed: true });
    };
    await lose(service);
    await expect(staged).resolves.toMatchObject({ numFrames: 48 });
  });

  test("a gap is told, and an answer that may be within it is not waited for", async () => {
    const [model, service] = await ready();
    const gaps: number[] = [];
    model.on("gap", (revision) => gaps.push(revision));
    const staged = rejection(model.setVideo({ uploadId: "u", name: "n", mimeType: "m", size: 1 }));
    await service.advance();
    service.gap = true;
    service.revision = 900;
    await lose(service);
    expect(gaps).toEqual([1]);
    expect(model.revision).toBe(901);
    expect(await staged).toBeInstanceOf(ConnectionLostError);
  });

  test("after a gap nothing is taken for known, whatever its revision", async () => {
    const [model, service] = await ready();
    service.revision = 500;
    service.become({});
    service.gap = true;
    service.revision = 6;
    await lose(service);
    const chunks: number[] = [];
    model.on("chunkComplete", ({ chunkIndex }) => chunks.push(chunkIndex));
    service.tell("chunk_complete", { chunk_index: 0, frames_emitted: 24, active_prompt: "p" });
    expect([chunks, model.revision]).toEqual([[0], 8]);
  });

  test("a connection that the service has forgotten is made anew", async () => {
    const [model, service] = await ready();
    const gone = { status: 404, body: { detail: "no such connection", reason: "UNKNOWN_SESSION" } };
    service.replies.set("PUT /sessions/s1/transport/webrtc/connections/1002/sdp_params", gone);
    service.replies.set("POST /sessions/s1/transport/webrtc/connections", { status: 201, body: { connection_id: 1003 } });
    await lose(service);
    expect(model.status).toBe("ready");
    expect(service.paths("POST")).toContain("/sessions/s1/transport/webrtc/connections/1003/sdp_params");
  });

  test("a session that is gone has ended", async () => {
    const [model, service] = await ready();
    const gone = { status: 404, body: { detail: "no such session", reason: "UNKNOWN_SESSION" } };
    service.replies.set("GET /sessions/s1/transport/webrtc/ice_servers", gone);
    const ended: string[] = [];
    model.on("ended", (reason) => ended.push(reason));
    await lose(service);
    expect([model.status, ended.length]).toEqual(["disconnected", 1]);
  });

  test("tries with growing pauses, goes on at once when the network is there again", async () => {
    const [model, service] = await ready({ reconnect: { window: 1e6, first: 1000, longest: 8000 } });
    service.reachable = false;
    const before = service.asked.length;
    await lose(service, 0);
    const tries: number[] = [];
    for (let second = 0; second < 12; second += 1) {
      await service.advance(500);
      tries.push((service.asked.length - before));
    }
    expect(new Set(tries).size).toBeGreaterThan(2);
    expect(tries.at(-1)).toBeLessThan(8);
    service.reachable = true;
    service.online();
    await service.advance();
    expect(model.status).toBe("ready");
  });

  test("is given up after a while, with an error", async () => {
    const [model, service] = await ready({ reconnect: { window: 5000 } });
    const errors: unknown[] = [];
    model.on("error", (error) => errors.push(error));
    service.reachable = false;
    await lose(service, 20_000);
    expect(model.status).toBe("disconnected");
    expect(errors).toEqual([expect.any(ConnectionLostError)]);
    const asked = service.asked.length;
    await service.advance(60_000);
    expect(service.asked).toHaveLength(asked);
  });

  test("the stream stays the same and shows the new track; a pause of the picture holds", async () => {
    const [model, service] = await ready();
    const { stream } = model;
    const tracks: string[] = [];
    model.onTrack(({ id }) => tracks.push(id));
    model.pauseVideo();
    await lose(service);
    expect(model.stream).toBe(stream);
    expect(stream.getTracks().map(({ id }) => id)).toEqual(["peer 2 track 1"]);
    expect(tracks).toEqual(["peer 1 track 1", "peer 2 track 1"]);
    expect(service.peer.data.of("pause_track")).toHaveLength(1);
    model.resumeVideo();
    expect(service.peer.data.of("resume_track")).toEqual([{ type: "resume_track", track: "main_video" }]);
  });
});

describe("the camera", () => {
  test("is claimed, sent, exchanged and given back", async () => {
    const [model, service] = await ready();
    const [one, other] = [fakeTrack("one"), fakeTrack("other")];
    await model.publishCamera(fakeStream(one), { maxBitrate: 900_000 });
    expect(service.peer.sender.track).toBe(one);
    expect(service.peer.sender.parameters.encodings[0]?.maxBitrate).toBe(900_000);
    await model.publishCamera(other);
    expect(model.cameraTrack).toBe(other);
    expect(service.peer.data.of("publish")).toHaveLength(1);
    await model.unpublish();
    expect([service.peer.sender.track, model.cameraTrack]).toEqual([null, null]);
    expect(service.peer.data.of("unpublish")).toEqual([{ type: "unpublish", track: "camera" }]);
  });

  test("a claim that is refused sends nothing", async () => {
    const [model, service] = await ready();
    service.peer.data.onSent = ({ id }) =>
      service.say({ type: "refused", id, code: "publisher_slot_taken", reason: "taken" });
    expect(await rejection(model.publishCamera(fakeTrack("c")))).toBeInstanceOf(PublisherTakenError);
    expect([service.peer.sender.track, model.cameraTrack]).toEqual([null, null]);
  });

  test("a stream without video is an error", async () => {
    const [model] = await ready();
    expect(await rejection(model.publishCamera(fakeStream()))).toMatchObject({ code: "no_video" });
  });

  test("is published again after a reconnect, also while the lost connection holds it", async () => {
    const [model, service] = await ready();
    const track = fakeTrack("c");
    await model.publishCamera(track);
    let refusals = 2;
    service.greet = (peer) => {
      service.greeting(peer);
      const usual = peer.data.onSent;
      peer.data.onSent = (said) => {
        if (said["type"] !== "publish" || refusals-- <= 0) return usual(said);
        peer.data.receive({ type: "refused", id: said["id"], code: "publisher_slot_taken", reason: "taken" });
      };
    };
    await lose(service, 5000);
    expect(service.peer.sender.track).toBe(track);
    expect(service.peer.data.of("publish")).toHaveLength(3);
    expect(model.cameraTrack).toBe(track);
  });
});

describe("uploads and copies", () => {
  const file = new File([new Uint8Array(100)], "clip.mp4", { type: "video/mp4" });

  test("an upload tells its progress and returns the reference", async () => {
    const [model, service] = await ready();
    const progress: number[] = [];
    const reference = await model.uploadFile(file, { onProgress: (sent) => progress.push(sent) });
    expect(reference).toEqual({ uploadId: "u1", name: "clip.mp4", mimeType: "video/mp4", size: 100 });
    expect(progress).toEqual([50, 100]);
    const slot = service.asked.find(({ path }) => path.endsWith("/uploads"));
    expect(slot?.body).toEqual({ name: "clip.mp4", mime_type: "video/mp4", size: 100 });
  });

  test("goes on after interruptions, and gives up at last", async () => {
    const [model, service] = await ready();
    const broken = async () => {
      throw new TypeError("interrupted");
    };
    service.uploads = [broken, async () => response({ status: 503 })];
    const uploaded = model.uploadFile(new Blob([new Uint8Array(9)]));
    await service.advance(10_000);
    await expect(uploaded).resolves.toMatchObject({ name: "upload", size: 9 });
    service.uploads = [broken, broken, broken, broken];
    const failed = rejection(model.uploadFile(file));
    await service.advance(60_000);
    expect(await failed).toBeInstanceOf(ConnectionLostError);
  });

  test("a refusal is not repeated", async () => {
    const [model, service] = await ready();
    service.uploads = [async () => response({ status: 400, body: { detail: "wrong length", reason: "BAD_UPLOAD" } })];
    expect(await rejection(model.uploadFile(file))).toMatchObject({ code: "bad_upload", status: 400 });
    expect(service.paths("PUT")).toHaveLength(1);
  });

  test("a session can be copied", async () => {
    const [model, service] = await ready();
    await expect(model.fork(2)).resolves.toEqual(["s2", "s3"]);
    expect(service.asked.at(-1)).toMatchObject({ path: "/sessions/s1/forks", body: { copies: 2, request_id: "id1-1" } });
  });
});

test("figures come from the browser and from the service", async () => {
  const [model, service] = await ready();
  service.become({ running: true, started: true, phase: "running" });
  service.peer.channels
    .get("sana.stats")
    ?.receive(JSON.stringify({ run: 1, sourceToEmitUs: "80000", commandToEmitUs: "50000", bitrate: 2_000_000 }));
  expect(await model.stats()).toMatchObject({ limit: "none", service: { sourceToEmitUs: 80_000, lateUs: 0 } });
  // Of a later chunk, which answers no command.
  service.peer.channels.get("sana.stats")?.receive(JSON.stringify({ run: 1, underruns: 2 }));
  expect(await model.stats()).toMatchObject({ limit: "service", promptToPixelsMs: 50 });
  await model.disconnect();
  expect(await model.stats()).toMatchObject({ limit: "connection", rttMs: null, service: null });
});
