"""Null clients in a process of their own: `python -m tests.bench.media.clients.null_client`.

Reads one JSON object a line from standard input, `{"do": NAME, ...}`, and answers each
with one line on standard output; ends with its input. `driver.py` is the other end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import av

from model_actor.media.codec import Codec
from model_actor.models.simulated.canned import Reel
from tests.bench.media import clip as clips
from tests.bench.media import marker
from tests.bench.media.clients.null_peer import NullPeer, PacketTrack
from tests.bench.media.clients.reactor_wire import Place
from tests.bench.media.plugin.bench_models import SmallModel

Words = dict[str, Any]
_JOINS_AT_ONCE = 2


class NullClient:
    """All null peers of this process."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._peers: list[NullPeer] = []

    async def join(self, words: Words) -> Words:
        """Joins so many sessions at a place."""
        place = Place(words["url"], words["model"], words["local"])
        camera = words.get("camera_bitrate")
        turn = asyncio.Semaphore(_JOINS_AT_ONCE)

        async def one() -> Words:
            peer = NullPeer(self._http, place, words["codec"])
            async with turn:
                track = _camera(words["codec"], camera) if camera else None
                joined = await peer.join(track)
                self._peers.append(peer)
                if words["stage"]:
                    clip = Path(words["clip"]) if words.get("clip") else None
                    await peer.stage(clip, live=bool(camera))
            return dataclasses.asdict(joined)

        return {"joined": await asyncio.gather(*(one() for _ in range(words["count"])))}

    async def start(self, _: Words) -> Words:
        """Starts every stream that does not run."""
        waiting = [peer for peer in self._peers if not peer.started]
        return {"started_ns": await asyncio.gather(*(peer.start() for peer in waiting))}

    async def begin(self, words: Words) -> Words:
        """Begins to note packets and to send commands."""
        for peer in self._peers:
            peer.begin(whole=words["whole"], commands_hz=words["commands_hz"])
        return {"at_ns": time.monotonic_ns()}

    async def end(self, _: Words) -> Words:
        """Returns what came since `begin`."""
        return {"sessions": [await peer.end() for peer in self._peers]}

    async def compare(self, words: Words) -> Words:
        """Decodes what the first session kept and compares it with the clip."""
        payloads = self._peers[0].payloads()
        return {"pictures": await asyncio.to_thread(_compare, payloads, words)}

    async def leave(self, _: Words) -> Words:
        """Ends all sessions."""
        peers, self._peers = self._peers, []
        await asyncio.gather(*(peer.close() for peer in peers))
        return {}


def _camera(codec: str, bitrate: int) -> PacketTrack:
    """Keyframes of a small picture, padded to the bitrate: cheap to decode, full size to carry."""
    info = SmallModel.info
    if not _REEL:
        _REEL.append(Reel(info))
    size = round(bitrate / 8 / info.frame_rate)
    frames = [_REEL[0].packet(Codec(codec), number, size) for number in range(24)]
    return PacketTrack(frames, info.frame_rate)


_REEL: list[Reel] = []


def _compare(payloads: dict[int, bytes], words: Words) -> list[Words]:
    """Decodes frames in order; returns number, matrix and PSNR by timestamp."""
    clip = clips.Clip(Path(words["clip"]))
    rgb = clip.rgb
    decoder: Any = av.CodecContext.create(words["codec"], "r")
    decoder.thread_count = 1
    sources: dict[int, clips.Pictures] = {}
    found = []
    for timestamp, data in payloads.items():
        try:
            pictures = decoder.decode(av.Packet(data))
        except av.error.FFmpegError:
            continue
        for picture in pictures:
            plane = picture.to_ndarray()[: picture.height]
            number = marker.read(plane)
            if number is None or plane.shape != (clips.HEIGHT, clips.WIDTH):
                continue
            if number not in sources:
                sources[number] = clips.luma(rgb[number], words["matrix"])
            quality = clips.psnr(plane, sources[number])
            found.append({"timestamp": timestamp, "number": number, "psnr": round(quality, 2)})
    return found


async def serve() -> None:
    """Answers until the input ends."""
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        client = NullClient(http)
        deeds: dict[str, Callable[[Words], Awaitable[Words]]] = {
            name: getattr(client, name)
            for name in ("join", "start", "begin", "end", "compare", "leave")
        }
        while line := await reader.readline():
            words = json.loads(line)
            try:
                said = await deeds[words["do"]](words)
            except Exception as error:  # the driver is told, whatever it was
                traceback.print_exc()
                said = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()
        await client.leave({})


if __name__ == "__main__":
    asyncio.run(serve())
