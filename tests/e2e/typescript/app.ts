/** A small app on the React parts, as a page has it. */
import { createElement as e } from "react";
import { createRoot } from "react-dom/client";
import {
  SanaProvider,
  SanaVideo,
  SanaWebcam,
  useSana,
  useSanaError,
  useSanaMessage,
  useSanaState,
  useSanaStatus,
} from "@sana-gateway/client/react";
import { Client } from "./flows.js";

let chunks = 0;

function Controls() {
  const model = useSana();
  const status = useSanaStatus();
  const error = useSanaError();
  const prompt = useSanaState((state) => state?.currentPrompt ?? "no prompt");
  const running = useSanaState((state) => state?.running ?? false);
  useSanaMessage("chunkComplete", () => void (chunks += 1));
  const begin = async () => {
    await model.setPrompt("a mosaic of small stones");
    await model.setMode("live");
    await model.start();
  };
  return e(
    "section",
    null,
    e("button", { disabled: status !== "ready", onClick: () => void begin() }, "Start"),
    e("output", null, `${status}, ${prompt}, ${running ? "running" : "still"}, ${error === null ? "fine" : error.message}`),
  );
}

/** Shows the app, presses its button, waits for pictures; then takes it away. */
export async function app(base: string): Promise<string> {
  const client = new Client(base);
  const place = document.getElementById("app") as HTMLElement;
  const root = createRoot(place);
  const connect = { apiUrl: base, model: "simulated" };
  const parts = [
    e(SanaWebcam, { key: "camera", constraints: { width: 640, height: 360 }, id: "camera" }),
    e(SanaVideo, { key: "video", id: "edited" }),
    e(Controls, { key: "controls" }),
  ];
  root.render(e(SanaProvider, { connect, model: client.model }, parts));
  const button = await client.until("the button", () => place.querySelector<HTMLButtonElement>("button:enabled"));
  await client.filming();
  button.click();
  await client.until("chunks", () => chunks > 1);
  const video = place.querySelector<HTMLVideoElement>("#edited") as HTMLVideoElement;
  await client.until("the picture", () => video.videoWidth > 0 && !video.paused);
  const said = `${place.querySelector("output")?.textContent}, ${video.videoWidth}x${video.videoHeight}`;
  root.unmount();
  await client.until("the end", () => client.model.status === "disconnected");
  return said;
}
