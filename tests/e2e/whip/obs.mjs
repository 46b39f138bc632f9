// Publishes as OBS Studio does: on libdatachannel, with a track of sound that comes first, in one
// POST without candidates, and with a DELETE at the end.
//
// Usage: node obs.mjs URL FILE. FILE holds the encoded pictures, each after its length in four
// bytes; they are sent over and over, 24 a second, until standard input ends.

import { readFileSync } from "node:fs";
import datachannel from "node-datachannel";

const RATE = 24, CLOCK = 90_000, [SOUND, PICTURES] = [1000, 1001];
const { Audio, H264RtpPacketizer, PeerConnection, RtcpNackResponder, RtcpSrReporter,
        RtpPacketizationConfig, Video } = datachannel;

function pictures(path) {
  const bytes = readFileSync(path), found = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + 4 + bytes.readUInt32BE(at);
    found.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return found;
}

const [url, file] = process.argv.slice(2), encoded = pictures(file);
const peer = new PeerConnection("publisher", { iceServers: [], disableAutoNegotiation: true });
const sound = new Audio("0", "SendOnly"), video = new Video("1", "SendOnly");
sound.addOpusCodec(111);
sound.addSSRC(SOUND, "publisher", "stream", "sound");
video.addH264Codec(96);
video.addSSRC(PICTURES, "publisher", "stream", "pictures");
const soundTrack = peer.addTrack(sound), track = peer.addTrack(video);
const rtp = new RtpPacketizationConfig(PICTURES, "publisher", 96, CLOCK);
const chain = new H264RtpPacketizer("StartSequence", rtp);
chain.addToChain(new RtcpSrReporter(rtp));
chain.addToChain(new RtcpNackResponder());
track.setMediaHandler(chain);

const described = new Promise((resolve) => peer.onLocalDescription(resolve));
peer.setLocalDescription("offer");
const offer = (await described).replaceAll(/a=(candidate:.*|end-of-candidates)\r\n/g, "");
const headers = { "Content-Type": "application/sdp", "Authorization": "Bearer token" };
const made = await fetch(url, { method: "POST", headers, body: offer });
const answer = await made.text();
if (made.status !== 201) {
  console.error(`refused with ${made.status}: ${answer}`);
  process.exit(1);
}
const opened = new Promise((resolve) => track.onOpen(resolve));
peer.setRemoteDescription(answer, "answer");
await opened;

let sent = 0;
const timer = setInterval(() => {
  rtp.timestamp = sent * CLOCK / RATE;
  track.sendMessageBinary(encoded[sent++ % encoded.length]);
  // What was answered as inactive is sent all the same.
  soundTrack.sendMessageBinary(Buffer.alloc(40, 0x80));
}, 1000 / RATE);
console.log("publishing");

process.stdin.resume().on("end", async () => {
  clearInterval(timer);
  peer.close();
  const gone = await fetch(made.headers.get("location"), { method: "DELETE", headers });
  process.exit(gone.status === 200 ? 0 : 1);
});
