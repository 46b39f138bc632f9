"""A plain aiortc client, and what it sends and sees, for tests of our WebRTC peers.

Pictures are grey, and their brightness tells which frame they are. Both ends live in one
process and on one loop; `FakeHub.until` waits for whatever either of them sees.
"""

from __future__ import annotations

import asyncio
import fractions
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.rtp import RtcpPsfbPacket

from gateway import ports
from gateway.webrtc.peer import AiortcPeer, AiortcPeers
from sana_gateway.v1 import media_pb2
from scheduler.core.ids import Principal
from tests.fakes.hub import FakeHub
from tests.fakes.session import FakeConnection

H264, VP8 = media_pb2.CODEC_H264, media_pb2.CODEC_VP8
MIME = {H264: "video/H264", VP8: "video/VP8"}
ENCODERS: dict[int, tuple[str, dict[str, str]]] = {
    H264: ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}),
    VP8: ("libvpx", {"deadline": "realtime", "cpu-used": "-6", "lag-in-frames": "0"}),
}
FRAME_RATE = 24
PERIOD_US = 1_000_000 // FRAME_RATE
MICROSECONDS = fractions.Fraction(1, 1_000_000)


def grey(level: int, width: int = 320, height: int = 176, *, noise: int = 0) -> av.VideoFrame:
    """A picture whose brightness tells which frame it is."""
    luma = np.full((height * 3 // 2, width), 128, np.uint8)
    luma[:height] = level
    if noise:
        grain = np.random.default_rng(level).integers(0, noise, (height, width))
        luma[:height] += grain.astype(np.uint8)
    return av.VideoFrame.from_ndarray(luma, format="yuv420p")


def level_of(frame: av.VideoFrame) -> int:
    return round(float(frame.to_ndarray()[: frame.height, : frame.width].mean()))


def level_at(index: int) -> int:
    return 20 + 3 * index


def encode(
    codec: int, count: int, *, width: int = 320, height: int = 176, noise: int = 0, every: int = 30
) -> list[ports.EncodedFrame]:
    """Frame `index` of run 1 is grey of `level_at(index)`; each `every`th is a keyframe."""
    name, options = ENCODERS[codec]
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.bit_rate, context.time_base = 2_500_000, MICROSECONDS
    context.framerate, context.options = fractions.Fraction(FRAME_RATE), options
    encoded = []
    for index in range(count):
        picture = grey(level_at(index), width, height, noise=noise)
        picture.pts = index * PERIOD_US
        if index % every == 0:
            picture.pict_type = av.video.frame.PictureType.I
        (packet,) = context.encode(picture)
        encoded.append(
            ports.EncodedFrame(
                data=bytes(packet),
                keyframe=bool(packet.is_keyframe),
                codec=codec,
                timestamp_us=index * PERIOD_US,
                run=1,
                chunk=index // 24,
                frame=index,
                source_us=index * PERIOD_US,
            )
        )
    return encoded


def decode(frames: list[ports.CameraFrame]) -> list[av.VideoFrame]:
    """Decodes camera frames, as the decode worker would."""
    decoders = {H264: "h264", VP8: "libvpx"}
    decoder = av.CodecContext.create(decoders[frames[0].codec], "r")
    assert isinstance(decoder, av.VideoCodecContext)
    pictures = [picture for frame in frames for picture in decoder.decode(av.Packet(frame.data))]
    return pictures + decoder.decode(None)


class Camera(MediaStreamTrack):
    """A track that the test gives pictures (or, encoded, packets) to."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._pictures: asyncio.Queue[av.VideoFrame] = asyncio.Queue()
        self._count = 0

    def show(self, picture: av.VideoFrame) -> None:
        picture.pts, picture.time_base = self._count * PERIOD_US, MICROSECONDS
        self._count += 1
        self._pictures.put_nowait(picture)

    async def recv(self) -> av.VideoFrame:
        return await self._pictures.get()


class RunningCamera(Camera):
    """A track that shows a picture fifty times a second."""

    async def recv(self) -> av.VideoFrame:
        await asyncio.sleep(0.02)
        self.show(grey(100, noise=20))
        return await super().recv()


class Sink:
    """Takes the words of the session; these tests are about media."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@dataclass(eq=False)
class Client:
    """A client with a camera and a view, as the Reactor SDK 0.8 is one."""

    hub: FakeHub
    pc: RTCPeerConnection
    camera: Camera
    pictures: list[av.VideoFrame] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    def new(cls, hub: FakeHub, *, codec: int | None = None, camera: Camera | None = None) -> Client:
        client = cls(hub, RTCPeerConnection(RTCConfiguration(iceServers=[])), camera or Camera())
        for transceiver in (
            client.pc.addTransceiver(client.camera, direction="sendonly"),
            client.pc.addTransceiver("video", direction="recvonly"),
        ):
            if codec is not None:
                known = RTCRtpSender.getCapabilities("video").codecs
                wanted = ("video/rtx", MIME[codec])
                transceiver.setCodecPreferences([each for each in known if each.mimeType in wanted])
        client.pc.on("connectionstatechange", hub.changes.happened)
        client.pc.on("track", client._watch)
        return client

    @property
    def sender(self) -> RTCRtpSender:
        return self.pc.getTransceivers()[0].sender

    @property
    def transport(self) -> Any:
        return self.sender.transport

    def _watch(self, track: MediaStreamTrack) -> None:
        self.tasks.append(asyncio.ensure_future(self._receive(track)))

    async def _receive(self, track: MediaStreamTrack) -> None:
        while True:
            picture = await track.recv()
            assert isinstance(picture, av.VideoFrame)
            self.pictures.append(picture)
            self.hub.changes.happened()

    async def offer(self) -> tuple[str, dict[str, str]]:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        camera, video = self.pc.getTransceivers()
        return self.pc.localDescription.sdp, {camera.mid: "camera", video.mid: "main_video"}

    async def accept(self, answer: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await self.hub.until(lambda: self.pc.connectionState == "connected")

    async def say(self, fmt: int, media_ssrc: int, fci: bytes = b"") -> None:
        """Sends payload-specific feedback."""
        await self.transport._send_rtp(
            bytes(RtcpPsfbPacket(fmt=fmt, ssrc=1, media_ssrc=media_ssrc, fci=fci))
        )

    async def close(self) -> None:
        await self.pc.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass(eq=False)
class Joined:
    """A client that is connected to a peer of ours."""

    client: Client
    peer: AiortcPeer
    connection: FakeConnection
    answer: str
    ended: list[str]

    @property
    def frames(self) -> list[ports.CameraFrame]:
        return self.connection.frames

    @property
    def pictures(self) -> list[av.VideoFrame]:
        return self.client.pictures

    @property
    def subscription(self) -> Any:
        return self.connection.subscriptions[0]

    @property
    def until(self) -> Callable[..., Any]:
        return self.client.hub.until

    async def show(self, frame: ports.EncodedFrame) -> None:
        """Gives the viewer a frame that is due, and lets it be sent."""
        self.subscription.viewer.frame(frame)
        await asyncio.sleep(0)


async def connect(hub: FakeHub) -> FakeConnection:
    session = await hub.create(Principal("tenant", frozenset()), "painter")
    connection, _ = session.connect(Sink())
    return connection


@asynccontextmanager
async def joined(
    hub: FakeHub,
    peers: AiortcPeers,
    *,
    codec: int | None = None,
    camera: Camera | None = None,
    edit: Callable[[str], str] = lambda sdp: sdp,
    **options: Any,
) -> AsyncIterator[Joined]:
    client, connection = Client.new(hub, codec=codec, camera=camera), await connect(hub)
    prepare = options.pop("prepare", None)
    if prepare is not None:
        prepare(client)
    ended: list[str] = []

    def on_closed() -> None:
        ended.append("closed")
        hub.changes.happened()

    sdp, tracks = await client.offer()
    peer, answer = await peers.answer(connection, edit(sdp), tracks, on_closed=on_closed, **options)
    try:
        await client.accept(answer)
        await hub.until(lambda: not connection.subscriptions[0].paused)
        yield Joined(client, peer, connection, answer, ended)
    finally:
        await peer.close()
        await client.close()


async def shows_a_picture_both_ways(call: Joined) -> None:
    frames = encode(call.subscription.codec, 3)
    seen, watched = len(call.frames), len(call.pictures)
    for frame in frames:
        await call.show(frame)
        call.client.camera.show(grey(90))
    await call.until(lambda: len(call.pictures) >= watched + 2)
    await call.until(lambda: len(call.frames) > seen)
    assert call.ended == []
    assert call.client.pc.connectionState == "connected"


def our_ssrc(call: Joined) -> int:
    return int(re.findall(r"a=ssrc:(\d+)", call.answer.split("m=video")[2])[0])
