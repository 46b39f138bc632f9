// @vitest-environment happy-dom
import { act, createElement, StrictMode, type ReactNode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { SanaStreamingModel, type ConnectOptions } from "../src/index.js";
import {
  SanaProvider,
  SanaVideo,
  SanaWebcam,
  useSana,
  useSanaError,
  useSanaMessage,
  useSanaQueue,
  useSanaState,
  useSanaStats,
  useSanaStatus,
  useSanaTrack,
} from "../src/react/index.js";
import { FakeService, fakeStream, fakeTrack } from "./fakes.js";

vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);

const AT: ConnectOptions = { apiUrl: "http://service" };
let root: Root;
let place: HTMLElement;

beforeEach(() => {
  place = document.createElement("div");
  root = createRoot(place);
});
afterEach(async () => act(async () => root.unmount()));

async function show(service: FakeService, children: ReactNode, props: { connect?: ConnectOptions } = { connect: AT }) {
  const model = new SanaStreamingModel(service);
  await act(async () => root.render(createElement(SanaProvider, { ...props, model }, children)));
  await act(() => service.advance());
  return model;
}

function Panel() {
  const status = useSanaStatus();
  const prompt = useSanaState((state) => state?.currentPrompt ?? "none");
  const phase = useSanaState()?.phase ?? "-";
  const queue = useSanaQueue()?.position ?? 0;
  const error = useSanaError();
  const track = useSanaTrack()?.id ?? "-";
  return createElement("p", null, [status, phase, prompt, queue, error === null ? "fine" : "failed", track].join(" "));
}

test("a provider connects, hooks follow, and it disconnects when it is taken away", async () => {
  const service = new FakeService();
  const model = await show(service, createElement(Panel));
  expect(place.textContent).toBe("ready idle none 0 fine peer 1 track 1");
  await act(async () => service.become({ current_prompt: "p", phase: "running" }));
  await act(async () => service.say({ type: "queue", position: 4, eta_seconds: null }));
  expect(place.textContent).toBe("ready running p 4 fine peer 1 track 1");
  await act(async () => root.render(null));
  await act(() => service.advance());
  expect(model.status).toBe("disconnected");
  expect(service.paths("DELETE")).toEqual(["/sessions/s1"]);
});

test("a connection that fails is told, and without options nobody connects", async () => {
  const service = new FakeService();
  service.replies.set("POST /sessions", { status: 503, body: { detail: "full", reason: "NO_CAPACITY" } });
  await show(service, createElement(Panel));
  expect(place.textContent).toContain("disconnected - none 0 failed");
  const idle = new FakeService();
  await act(async () => root.render(null));
  await show(idle, createElement(Panel), {});
  expect(idle.asked).toEqual([]);
});

test("strict mode mounts twice and connects all the same", async () => {
  const service = new FakeService();
  const model = new SanaStreamingModel(service);
  service.greet = (peer) => {
    peer.data.receive({ type: "attached", connection_id: 1, gap: false });
    service.become({});
  };
  const tree = createElement(SanaProvider, { connect: AT, model }, createElement(Panel));
  await act(async () => root.render(createElement(StrictMode, null, tree)));
  await act(() => service.advance());
  expect(model.status).toBe("ready");
});

test("messages reach the latest handler, while the component is there", async () => {
  const heard: string[] = [];
  function Log({ name }: { name: string }) {
    useSanaMessage("chunkComplete", ({ chunkIndex }) => heard.push(`${name} ${chunkIndex}`));
    return null;
  }
  const service = new FakeService();
  const model = await show(service, createElement(Log, { name: "one" }));
  const chunk = (index: number) => service.tell("chunk_complete", { chunk_index: index, frames_emitted: 24 });
  chunk(0);
  const again = createElement(SanaProvider, { connect: AT, model }, createElement(Log, { name: "two" }));
  await act(async () => root.render(again));
  chunk(1);
  await act(async () => root.render(createElement(SanaProvider, { connect: AT, model }, null)));
  chunk(2);
  expect(heard).toEqual(["one 0", "two 1"]);
});

test("the video shows the edited stream", async () => {
  const service = new FakeService();
  const play = vi.spyOn(HTMLVideoElement.prototype, "play").mockResolvedValue();
  const assigned = vi.spyOn(HTMLVideoElement.prototype, "srcObject", "set").mockImplementation(() => undefined);
  const model = await show(service, createElement(SanaVideo, { className: "big" }));
  expect(place.querySelector("video")?.className).toBe("big");
  expect(assigned).toHaveBeenCalledWith(model.stream);
  expect(play).toHaveBeenCalled();
});

test("the webcam is published while the model is ready, and given back", async () => {
  const camera = fakeStream(fakeTrack("cam"));
  vi.stubGlobal("navigator", { mediaDevices: { getUserMedia: async () => camera } });
  vi.spyOn(HTMLVideoElement.prototype, "srcObject", "set").mockImplementation(() => undefined);
  const service = new FakeService();
  const model = await show(service, createElement(SanaWebcam, { camera: { maxBitrate: 1 } }));
  expect(model.cameraTrack?.id).toBe("cam");
  const hidden = createElement(SanaProvider, { connect: AT, model }, createElement(SanaWebcam, { publish: false }));
  await act(async () => root.render(hidden));
  expect(model.cameraTrack).toBeNull();
  vi.unstubAllGlobals();
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
});

test("a camera that is refused is told", async () => {
  const refused = new Error("NotAllowedError");
  vi.stubGlobal("navigator", { mediaDevices: { getUserMedia: async () => Promise.reject(refused) } });
  const errors: unknown[] = [];
  await show(new FakeService(), createElement(SanaWebcam, { onCameraError: (error: unknown) => errors.push(error) }));
  expect(errors).toEqual([refused]);
  vi.unstubAllGlobals();
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
});

test("figures are looked at now and again", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  function Quality() {
    return createElement("i", null, useSanaStats(50)?.limit ?? "unknown");
  }
  await show(new FakeService(), createElement(Quality));
  expect(place.textContent).toBe("unknown");
  await act(async () => void (await vi.advanceTimersByTimeAsync(60)));
  expect(place.textContent).toBe("idle");
  vi.useRealTimers();
});

test("hooks say where they belong", () => {
  function Lost() {
    useSana();
    return null;
  }
  const silent = vi.spyOn(console, "error").mockImplementation(() => undefined);
  expect(() => act(() => root.render(createElement(Lost)))).toThrow("<SanaProvider>");
  silent.mockRestore();
});
