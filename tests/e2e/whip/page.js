// A publisher and a player made of the WHIP and WHEP clients by the author of both standards.
// Driven from outside through `publish`, `view` and the globals they fill.

import { WHEPClient } from "./whep.js";
import { WHIPClient } from "./whip.js";

/** Where the ground of the picture is looked at: left, top, width, height as parts of it. */
const GROUND = [0.05, 0.55, 0.1, 0.1];

const watchers = new Set();
/** Pictures of the player as its decoder put them out: {frame, run, ground}. */
globalThis.frames = [];
/** Requests that the clients made: {method, status}. */
globalThis.requests = [];

const fetched = globalThis.fetch.bind(globalThis);
globalThis.fetch = async (url, options) => {
  const response = await fetched(url, options);
  requests.push({ method: options.method, status: response.status });
  wake();
  return response;
};

function wake() {
  const woken = [...watchers];
  watchers.clear();
  woken.forEach((resolve) => resolve());
}

/** Waits until a condition on what was seen holds. */
globalThis.until = async (condition) => {
  for (let value; !(value = condition());) await new Promise((resolve) => watchers.add(resolve));
};

/** Waits for a picture whose ground is of about this luma, `since` so many pictures. */
globalThis.ground = (luma, since = 0) =>
  until(() => frames.slice(since).some((each) => each.run >= 0 && Math.abs(each.ground - luma) < 4));

/** Watches a session: sound and picture, as players ask for. */
globalThis.view = async (url) => {
  const peer = new RTCPeerConnection();
  peer.addTransceiver("audio", { direction: "recvonly" });
  const { receiver } = peer.addTransceiver("video", { direction: "recvonly" });
  peer.addEventListener("connectionstatechange", wake);
  document.getElementById("main_video").srcObject = new MediaStream([receiver.track]);
  void read(new MediaStreamTrackProcessor({ track: receiver.track, maxBufferSize: 48 }));
  globalThis.player = new WHEPClient();
  await player.view(peer, url);
  await until(() => peer.connectionState === "connected");
};

/** Publishes grey of a level from a canvas, and sound. */
globalThis.publish = async (url, level, token) => {
  const peer = new RTCPeerConnection();
  const canvas = new CanvasCamera(320, 192, 24, level);
  const sound = new AudioContext().createMediaStreamDestination().stream;
  peer.addTransceiver(sound.getAudioTracks()[0], { direction: "sendonly" });
  peer.addTransceiver(canvas.track, { direction: "sendonly" });
  peer.addEventListener("connectionstatechange", wake);
  globalThis.publisher = new WHIPClient();
  await publisher.publish(peer, url, token);
  await until(() => peer.connectionState === "connected");
};

async function read({ readable }) {
  const reader = readable.getReader();
  for (let next; !(next = await reader.read()).done;) {
    const picture = next.value;
    try {
      frames.push(await look(picture));
    } finally {
      picture.close();
    }
    wake();
  }
}

/** Reads a decoded picture: its marker, and the luma of its ground. */
async function look(picture) {
  const { displayWidth: width, displayHeight: height, format } = picture;
  if (!["I420", "NV12"].includes(format)) throw new Error(`pictures in ${format}`);
  const rect = { x: 0, y: 0, width, height };
  const buffer = new Uint8Array(picture.allocationSize({ rect }));
  const [{ stride }] = await picture.copyTo(buffer, { rect });
  const [left, top, wide, tall] = GROUND;
  return {
    frame: -1, run: -1, ...readMarker(buffer, stride, width, height),
    ground: meanOf(buffer, stride, left * width, top * height, wide * width, tall * height),
  };
}
