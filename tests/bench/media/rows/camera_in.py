"""How soon a camera frame is handed on after its last packet: the receive path alone."""

from __future__ import annotations

import asyncio
import bisect
import statistics
import time
from typing import Any, Final

from gateway.webrtc.peer import AiortcPeers, PeerSettings
from model_actor.media.codec import Codec
from model_actor.media.encoder import EncoderSettings, VideoEncoder
from tests.bench.media import clip as clips
from tests.bench.media.bench import BITRATE, Bench
from tests.bench.media.clients.null_peer import PacketTrack
from tests.bench.media.results import OURS, Figure, Target
from tests.fakes.hub import FakeHub
from tests.fakes.webrtc_client import H264, VP8, joined

ROW: Final = "camera_in"
HANDED_ON = Target(8.0)
WINDOW_S: Final = 1.5
NOTE = (
    "A probe of the receive path, not of the running service: a peer of the gateway and an "
    "aiortc client in one process, on one event loop; from the last packet's `sendto` to the call "
    "that hands the frame to the session. Full size, 2.5 Mbit/s. Stock aiortc: 46 ms, one frame."
)
_CODECS: Final = {"vp8": VP8, "h264": H264}


async def measure(bench: Bench) -> list[Figure]:
    """Publishes a camera to a peer and times every frame."""
    figures = []
    for name, codec in _CODECS.items():
        bench.say(f"{ROW}: {name}")
        frames = await asyncio.to_thread(_encoded, name, bench.clip)
        values = [await _delay_ms(frames, codec) for _ in range(bench.runs)]
        called = f"{name.upper()}: camera frame handed on after its last packet"
        figures.append(Figure(ROW, called, OURS, "ms", tuple(values), HANDED_ON, note=NOTE))
    return figures


async def _delay_ms(frames: list[bytes], codec: int) -> float:
    """Returns the median delay over a window."""
    hub, factory = FakeHub(), AiortcPeers(PeerSettings(joins_per_second=1000))
    track: Any = PacketTrack(frames, clips.RATE)
    sent: list[int] = []
    handed: list[int] = []
    try:
        async with joined(hub, factory, codec=codec, camera=track) as call:
            transport: Any = call.client.transport
            connection: Any = call.connection
            send, take = transport._send_rtp, connection.camera

            async def noted(data: bytes) -> None:
                await send(data)
                if not 192 <= data[1] <= 208 and data[1] & 0x80:
                    sent.append(time.monotonic_ns())

            def taken(frame: Any) -> None:
                handed.append(time.monotonic_ns())
                take(frame)

            await asyncio.sleep(1.0)
            transport._send_rtp, connection.camera = noted, taken
            await asyncio.sleep(WINDOW_S)
    finally:
        await factory.close()
    delays = [(at - last) / 1e6 for at in handed if (last := _latest(sent, at))]
    return statistics.median(delays)


def _latest(times: list[int], at: int) -> int:
    """Returns the last of some rising times that is not after another; 0 without one."""
    index = bisect.bisect_right(times, at)
    return times[index - 1] if index else 0


def _encoded(name: str, clip: clips.Clip) -> list[bytes]:
    settings = EncoderSettings(Codec(name), clips.WIDTH, clips.HEIGHT, clips.RATE, BITRATE)
    encoder = VideoEncoder(settings)
    frames = [encoder.encode(clip.i420[number]).data for number in range(clips.FRAMES)]
    encoder.close()
    return frames
