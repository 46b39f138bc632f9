"""A server as one writes it with aiortc in an afternoon; run as a process.

Modes: `encode`, where aiortc's own encoders encode the frames of the clip, at a pinned
bitrate; and `packets`, where it is given packets that are encoded already: the cost of
stock aiortc's transport alone. Many sessions a process, the same routes for both.

    python -m tests.bench.media.systems.naive_server --mode encode --clip FOLDER --log FILE
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import uuid
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from aiohttp import web
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.codecs import h264, vpx

from model_actor.media.codec import Codec
from model_actor.models.simulated.canned import Reel
from tests.bench.media.clip import FRAMES, HEIGHT, RATE, WIDTH, Clip
from tests.bench.media.plugin.bench_models import SmallModel

CLOCK_HZ = 90_000
CHUNK = 24
CAPABILITIES = {
    "selected_transport": {"protocol": "webrtc", "version": "1.0"},
    "capabilities": {
        "protocol_version": "1.0",
        "tracks": [{"name": "main_video", "kind": "video", "direction": "recvonly"}],
        "commands": [],
        "emission_fps": RATE,
    },
}
Picture = Callable[[int], Any]
"""Makes the frame, or the packet, of a number."""


class Stream(MediaStreamTrack):
    """Frames of the clip, each when it is due, from `start` on."""

    kind = "video"

    def __init__(self, picture: Picture, told: Callable[[int], None]) -> None:
        super().__init__()
        self._picture, self._told = picture, told
        self._begun = asyncio.Event()
        self._began = 0.0
        self._next = 0

    def begin(self) -> None:
        """Starts it."""
        self._began = time.monotonic()
        self._begun.set()

    async def recv(self) -> Any:
        """Returns the next frame when it is due."""
        await self._begun.wait()
        number = self._next
        self._next += 1
        await asyncio.sleep(max(0.0, self._began + number / RATE - time.monotonic()))
        if number % CHUNK == 0:
            self._told(number)
        made = self._picture(number)
        made.pts, made.time_base = number * CLOCK_HZ // RATE, Fraction(1, CLOCK_HZ)
        return made


class Session:
    """One session and its peer."""

    def __init__(self, server: Server) -> None:
        self.session_id = uuid.uuid4().hex
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._server = server
        self._stream: Stream | None = None
        self.answer: str | None = None

    async def take(self, offer: dict[str, Any]) -> None:
        """Answers an offer."""
        peer = self._peer

        @peer.on("datachannel")
        def _opened(channel: Any) -> None:
            channel.on("message", lambda text: self._told(channel, text))

        await peer.setRemoteDescription(RTCSessionDescription(offer["sdp_offer"], "offer"))
        (transceiver,) = peer.getTransceivers()
        transceiver.direction = "sendonly"
        codec = "vp8" if "VP8" in offer["sdp_offer"] else "h264"
        picture, told = self._server.pictures[codec], self._server.note
        self._stream = Stream(picture, lambda number: told(self.session_id, number))
        transceiver.sender.replaceTrack(self._stream)
        await peer.setLocalDescription(await peer.createAnswer())
        self.answer = peer.localDescription.sdp

    def _told(self, channel: Any, text: str) -> None:
        said = json.loads(text)
        inner = said.get("data", {})
        if inner.get("type") == "start" and self._stream is not None:
            self._stream.begin()
        if inner.get("type") == "set_prompt":
            shown = {"type": "state", "data": {"current_prompt": inner["data"]["prompt"]}}
            channel.send(json.dumps({"scope": "application", "data": shown}))

    async def close(self) -> None:
        """Ends it."""
        await self._peer.close()


class Server:
    """The routes."""

    def __init__(self, pictures: dict[str, Picture], log: Path) -> None:
        self.pictures = pictures
        self._log = log.open("a", buffering=1)
        self._sessions: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, session_id: str, first_frame: int) -> None:
        """Notes that a chunk is due now: this server has no model to wait for."""
        self._log.write(f"{session_id} 0 {first_frame} {time.monotonic_ns()}\n")

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns what to serve."""
        base = "/sessions/{session_id}"
        connections = base + "/transport/webrtc/connections"
        return [
            web.post("/sessions", self._create),
            web.get(base, self._show),
            web.delete(base, self._delete),
            web.post(connections, self._register),
            web.post(connections + "/{connection}/sdp_params", self._offer),
            web.get(connections + "/{connection}/sdp_params", self._answer),
        ]

    def _session(self, request: web.Request) -> Session:
        try:
            return self._sessions[request.match_info["session_id"]]
        except KeyError:
            raise web.HTTPNotFound from None

    async def _create(self, _: web.Request) -> web.Response:
        session = Session(self)
        self._sessions[session.session_id] = session
        return web.json_response({"session_id": session.session_id, **CAPABILITIES}, status=201)

    async def _show(self, request: web.Request) -> web.Response:
        session_id = self._session(request).session_id
        return web.json_response({"session_id": session_id, "state": "ACTIVE", **CAPABILITIES})

    async def _delete(self, request: web.Request) -> web.Response:
        session = self._session(request)
        del self._sessions[session.session_id]
        await session.close()
        return web.Response(status=204)

    async def _register(self, request: web.Request) -> web.Response:
        self._session(request)
        return web.json_response({"connection_id": 1002}, status=201)

    async def _offer(self, request: web.Request) -> web.Response:
        session, offer = self._session(request), await request.json()
        task = asyncio.create_task(session.take(offer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.json_response({}, status=202)

    async def _answer(self, request: web.Request) -> web.Response:
        answer = self._session(request).answer
        if answer is None:
            return web.json_response({}, status=202)
        return web.json_response({"sdp_answer": answer})

    async def close(self) -> None:
        """Ends all sessions."""
        await asyncio.gather(*(session.close() for session in self._sessions.values()))


def frames_of(clip: Path) -> Picture:
    """The clip as frames for aiortc to encode."""
    frames = Clip(clip).i420
    assert frames.shape[1:] == (HEIGHT * 3 // 2, WIDTH)
    # The kindest way: no copy.
    return lambda number: av.VideoFrame.from_numpy_buffer(frames[number % FRAMES], format="yuv420p")


def packets_of(codec: Codec, bitrate: int) -> Picture:
    """The packets that `bench-small` sends too: marked keyframes, padded to the bitrate."""
    reel, size = Reel(SmallModel.info), round(bitrate / 8 / RATE)
    made = [reel.packet(codec, number, size) for number in range(FRAMES)]
    return lambda number: av.Packet(made[number % FRAMES])


def pin(bitrate: int) -> None:
    """Pins the bitrate of aiortc's encoders, which have no other setting for it."""
    for module in (h264, vpx):
        for name in ("DEFAULT_BITRATE", "MIN_BITRATE", "MAX_BITRATE"):
            setattr(module, name, bitrate)


async def serve(options: argparse.Namespace) -> None:
    """Serves until standard input ends; writes the port to standard output."""
    pin(options.bitrate)
    if options.mode == "packets":
        pictures = {codec.value: packets_of(codec, options.bitrate) for codec in Codec}
    else:
        shared = frames_of(options.clip)
        pictures = {codec.value: shared for codec in Codec}
    server = Server(pictures, options.log)
    app = web.Application()
    app.add_routes(server.routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.close()
    await runner.cleanup()


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=("encode", "packets"), required=True)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--bitrate", type=int, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
