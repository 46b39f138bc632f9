"use strict";

// One viewer. Python offers for it and fetches what it noted; see door.py.

// Runs in a worker, between the network and the decoder: takes the trailer with the number of
// its frame (trailer.py) off every encoded frame, and tells it.
const TAP = `
const MAGIC = [0x52, 0x58, 0x4d, 0x54];
function trailer(bytes) {
  const end = bytes.length - 8;
  if (end < 0 || !MAGIC.every((byte, index) => bytes[end + 4 + index] === byte)) return null;
  const length = bytes[end] | bytes[end + 1] << 8 | bytes[end + 2] << 16 | bytes[end + 3] << 24;
  let at = end - length, number = 0n;
  while (at >= 0 && at < end) {
    const tag = bytes[at++];
    let value = 0n, shift = 0n;
    for (; at < end; shift += 7n) {
      const byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    if (tag === 0x08) number = value;
  }
  if (!number) return null;
  return { run: Number(number >> 32n), frame: Number(number & 0xffffffffn) - 1, size: length + 8 };
}
onrtctransform = async ({ transformer }) => {
  const reader = transformer.readable.getReader(), writer = transformer.writable.getWriter();
  for (let next; !(next = await reader.read()).done;) {
    const frame = next.value, size = frame.data.byteLength;
    const told = trailer(new Uint8Array(frame.data));
    if (told) frame.data = frame.data.slice(0, size - told.size);
    writer.write(frame);
    postMessage({ ...told, rtp: frame.getMetadata().rtpTimestamp, size });
  }
};`;

const MOST = 4096;
const noted = [];
const times = {};
let peer, waiting = [];

function note(entry) {
  if (noted.length < MOST) noted.push(entry);
}

// Notes the frames up to the one that is on the screen now.
function shown(rtp) {
  const at = performance.now();
  const until = waiting.findIndex((each) => each.rtp === rtp);
  if (until < 0) return;
  for (const each of waiting.splice(0, until + 1))
    if (each.run !== undefined) note([at, each.run, each.frame, each.rtp, each.size]);
}

async function offer(codec, camera) {
  peer = new RTCPeerConnection();
  peer.oniceconnectionstatechange = () => {
    if (peer.iceConnectionState === "connected") times.ice ??= performance.now();
  };
  peer.onconnectionstatechange = () => {
    if (peer.connectionState === "connected") times.dtls ??= performance.now();
  };
  const wanted = RTCRtpReceiver.getCapabilities("video").codecs.filter(
    ({ mimeType, sdpFmtpLine = "" }) => mimeType === "video/rtx" ||
      (mimeType.toLowerCase() === "video/" + codec &&
        (codec !== "h264" || /42e01f/.test(sdpFmtpLine) && /packetization-mode=1/.test(sdpFmtpLine))));
  const tracks = [];
  if (camera) {
    const media = await navigator.mediaDevices.getUserMedia(
      { video: { width: camera.width, height: camera.height, frameRate: camera.rate } });
    const sending = peer.addTransceiver(media.getVideoTracks()[0], { direction: "sendonly" });
    sending.setCodecPreferences(wanted);
    tracks.push([sending, "camera"]);
  }
  const receiving = peer.addTransceiver("video", { direction: "recvonly" });
  receiving.setCodecPreferences(wanted);
  tracks.push([receiving, "main_video"]);
  const tap = new Worker(URL.createObjectURL(new Blob([TAP], { type: "text/javascript" })));
  tap.onmessage = ({ data }) => {
    waiting.push(data);
    if (waiting.length > 512) waiting.shift();
  };
  receiving.receiver.transform = new RTCRtpScriptTransform(tap);
  const screen = document.getElementById("screen");
  screen.srcObject = new MediaStream([receiving.receiver.track]);
  const look = (_, { rtpTimestamp }) => {
    shown(rtpTimestamp);
    screen.requestVideoFrameCallback(look);
  };
  screen.requestVideoFrameCallback(look);
  const channel = peer.createDataChannel("sana.stats");
  channel.onmessage = ({ data }) => note([performance.now(), JSON.parse(data)]);
  await peer.setLocalDescription();
  while (peer.iceGatheringState !== "complete")
    await new Promise((done) => peer.addEventListener("icegatheringstatechange", done, { once: true }));
  return {
    sdp: peer.localDescription.sdp,
    tracks: Object.fromEntries(tracks.map(([each, name]) => [each.mid, name])),
  };
}

async function answered(sdp) {
  times.answered = performance.now();
  await peer.setRemoteDescription({ type: "answer", sdp });
  while (peer.connectionState !== "connected") {
    if (["failed", "closed"].includes(peer.connectionState)) throw new Error("it does not connect");
    await new Promise((done) => peer.addEventListener("connectionstatechange", done, { once: true }));
  }
  return times;
}

// Returns what was noted since the last call, and whether there still is a connection.
function take() {
  return { noted: noted.splice(0), state: peer.connectionState, now: performance.now() };
}
