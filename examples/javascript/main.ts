import { Reactor } from "@reactor-team/js-sdk";

import { apiUrl, getToken } from "./gateway";

const video = document.querySelector("video")!;
const reactor = new Reactor({ modelName: "sana-streaming", apiUrl });

// Render the edited stream as frames arrive.
reactor.on("trackReceived", (name, track, stream) => {
  if (name !== "main_video") return;
  video.srcObject = stream;
  void video.play();
});

reactor.on("message", (msg) => {
  if (msg.type === "command_error") console.error(msg.data.command, msg.data.reason);
});

reactor.on("statusChanged", async (status) => {
  if (status !== "ready") return;

  // Publish the camera as the live source. Pin the resolution first (see Tracks above).
  const cam = await navigator.mediaDevices.getUserMedia({ video: true });
  const track = cam.getVideoTracks()[0];
  track.contentHint = "detail";
  await reactor.publishTrack("camera", track);

  // Describe the edit, then start.
  await reactor.sendCommand("set_prompt", {
    prompt: "Van Gogh oil painting, swirling brushstrokes, vivid colors",
  });
  await reactor.sendCommand("set_mode", { mode: "live" });
  await reactor.sendCommand("start", {});
});

const jwt = await getToken(); // token minted on your server
await reactor.connect(jwt);
