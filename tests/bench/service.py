"""What the service costs and how fast it answers, measured on the service as users start it.

    python -m tests.bench.service [--json OUT] [--only NAME ...]

Everything runs on this machine: gateway, scheduler, model actor and the clients, so the
figures include what the clients take from the same cores. Each stands beside a floor of
the same run: a bare gRPC echo for round trips, the bare encoder for sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription

from model_actor.media.codec import Codec
from model_actor.media.encoder import EncoderSettings, VideoEncoder
from sana_gateway import Client, Session
from tests.media.clips import Recipe, make
from tests.stack import ROOT, Stack, serving

CHUNK_MS = 100
RATE = 24
NATIVE = ROOT / ".venvs/reactor-native/bin/python"
CONNECT = """
import asyncio, json, sys, time
from reactor_sdk import Reactor
async def once(url):
    reactor = Reactor("sana-streaming", api_key="rk", api_url=url)
    begin = time.perf_counter()
    await reactor.connect()
    took = time.perf_counter() - begin
    await reactor.disconnect()
    return took
async def main(url, times):
    print(json.dumps([await once(url) for _ in range(int(times))]))
asyncio.run(main(*sys.argv[1:]))
"""


def percentile(values: Sequence[float], share: float) -> float:
    """Returns a percentile by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Returns count, median, p99, least and most."""
    return {
        "n": len(values),
        "p50": round(percentile(values, 0.5), digits),
        "p99": round(percentile(values, 0.99), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


@asynccontextmanager
async def playing(client: Client, model: str, clip: Path, prompt: str) -> AsyncIterator[Session]:
    """A session that has just been started on a clip."""
    async with await client.create_session(model) as session:
        await session.ready(30)
        await session.set_mode("file")
        await session.set_video(await session.upload(clip))
        await session.wait_for(lambda state: state.has_video, 30)
        await session.set_prompt(prompt)
        yield session


async def echo_floor(calls: int = 300) -> list[float]:
    """Returns round trips of a bare gRPC stream echo in milliseconds."""

    async def echo(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("b", {"e": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream("/b/e")()
        times = []
        for _ in range(calls):
            begin = time.perf_counter()
            await call.write(b"x" * 40)
            await call.read()
            times.append((time.perf_counter() - begin) * 1e3)
        await call.done_writing()
    await server.stop(None)
    return times


def encoder_floor(codec: Codec, frames: int = 96) -> float:
    """Returns CPU milliseconds a frame of the bare encoder on a moving texture."""
    random = np.random.default_rng(1)
    world = random.integers(30, 220, (704 * 3 // 2, 1280 + frames * 3), np.uint8)
    world = np.repeat(np.repeat(world[::8, ::8], 8, 0), 8, 1)[: 704 * 3 // 2]
    pictures = [np.ascontiguousarray(world[:, 3 * n : 3 * n + 1280]) for n in range(frames)]
    encoder = VideoEncoder(EncoderSettings(codec, 1280, 704, RATE, 2_500_000))
    encoder.encode(pictures[0])
    begin = time.thread_time()
    for picture in pictures[1:]:
        encoder.encode(picture)
    cost = (time.thread_time() - begin) / (frames - 1) * 1e3
    encoder.close()
    return cost


async def commands(stack: Stack, clip: Path) -> dict[str, Any]:
    """Command to acknowledgement, with two sessions streaming."""
    floor = await echo_floor()
    times = []
    async with Client(stack.grpc_address) as client, AsyncExitStack() as held:
        sessions = [
            await held.enter_async_context(playing(client, "simulated", clip, "x"))
            for _ in range(2)
        ]
        watching = [asyncio.create_task(_watch(session)) for session in sessions]
        for session in sessions:
            await session.start()
        await sessions[0].wait_for(lambda state: state.running, 20)
        for seed in range(300):
            begin = time.perf_counter()
            await sessions[0].set_seed(seed)
            times.append((time.perf_counter() - begin) * 1e3)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    return {
        "unit": "ms",
        **spread(times),
        "p90": round(percentile(times, 0.9), 2),
        "echo floor p50": round(percentile(floor, 0.5), 2),
        "ratio of medians": round(percentile(times, 0.5) / percentile(floor, 0.5), 1),
    }


async def first_packet(stack: Stack, clip: Path) -> dict[str, Any]:
    """`start` to the first packet, less the time the model spent on the window."""
    beyond = []
    async with Client(stack.grpc_address) as client:
        for _ in range(7):
            async with playing(client, "simulated", clip, "x") as session:
                frames = session.watch("h264")
                first = asyncio.create_task(anext(aiter(frames)))
                begin = time.perf_counter()
                await session.start()
                await first
                beyond.append((time.perf_counter() - begin) * 1e3 - CHUNK_MS)
    return {"unit": "ms", **spread(beyond), "model": CHUNK_MS}


async def connect(stack: Stack, _: Path) -> dict[str, Any]:
    """`connect()` to ready: the unmodified Reactor SDK, and our own client over gRPC."""
    ours = []
    async with Client(stack.grpc_address) as client:
        for _ in range(10):
            begin = time.perf_counter()
            async with await client.create_session("simulated") as session:
                await session.ready(30)
                ours.append((time.perf_counter() - begin) * 1e3)
    command = [str(NATIVE), "-c", CONNECT, stack.http_url, "7"]
    told = await asyncio.to_thread(
        subprocess.run, command, check=True, capture_output=True, text=True, timeout=120
    )
    sdk = [seconds * 1e3 for seconds in json.loads(told.stdout)]
    return {"unit": "ms", "reactor-sdk": spread(sdk, 0), "our client, gRPC": spread(ours, 1)}


async def _watch(session: Session, arrivals: list[float] | None = None) -> None:
    async for _ in session.watch("h264"):
        if arrivals is not None:
            arrivals.append(time.perf_counter())


class NullViewer:
    """A WebRTC viewer that counts frames and decodes none."""

    def __init__(self) -> None:
        self.frames = 0
        self._peer = RTCPeerConnection()

    async def join(self, session: Session, codec: str) -> None:
        """Connects to a session."""
        transceiver = self._peer.addTransceiver("video", "recvonly")
        wanted = [
            each
            for each in RTCRtpReceiver.getCapabilities("video").codecs
            if each.mimeType == f"video/{codec}"
        ]
        transceiver.setCodecPreferences(wanted)
        connected = asyncio.Event()

        @self._peer.on("connectionstatechange")
        def _changed() -> None:
            if self._peer.connectionState == "connected":
                connected.set()

        await self._peer.setLocalDescription(await self._peer.createOffer())
        mid = transceiver.mid
        answer = await session.offer(self._peer.localDescription.sdp, {mid: "main_video"})
        # A null decoder: aiortc would else decode on a thread of this process.
        receiver = transceiver.receiver
        receiver._RTCRtpReceiver__decoder_queue = self
        await self._peer.setRemoteDescription(RTCSessionDescription(sdp=answer[1], type="answer"))
        await connected.wait()

    def put(self, task: object) -> None:
        """Stands in for the queue of aiortc's decoder thread."""
        self.frames += task is not None

    def get(self) -> None:
        """The decoder thread ends at once."""

    async def close(self) -> None:
        """Disconnects."""
        await self._peer.close()


async def gateway_cpu(stack: Stack, clip: Path) -> dict[str, Any]:
    """CPU of the gateway process for one outgoing WebRTC frame, everything in it."""
    result: dict[str, Any] = {"unit": "CPU ms a frame"}
    process = psutil.Process(stack.process.pid)
    async with Client(stack.grpc_address) as client:
        for count in (1, 4):
            async with AsyncExitStack() as held:
                viewers = []
                for _ in range(count):
                    session = await held.enter_async_context(
                        playing(client, "simulated", clip, "x")
                    )
                    viewer = NullViewer()
                    held.push_async_callback(viewer.close)
                    await viewer.join(session, "H264")
                    await session.start()
                    viewers.append(viewer)
                await asyncio.sleep(2)  # joins are over, all streams run
                before, frames = process.cpu_times(), sum(each.frames for each in viewers)
                begin = time.perf_counter()
                await asyncio.sleep(5)
                after = process.cpu_times()
                sent = sum(each.frames for each in viewers) - frames
                wall = time.perf_counter() - begin
            cpu = (after.user + after.system - before.user - before.system) * 1e3
            result[f"{count} session(s)"] = {
                "ms": round(cpu / max(1, sent), 3),
                "fps each": round(sent / wall / count, 2),
            }
    return result


async def painter_sessions(stack: Stack, clip: Path) -> dict[str, Any]:
    """Real-time `painter` sessions that this machine holds, with an H.264 viewer each."""
    result: dict[str, Any] = {
        "floor, bare x264 ms a frame": round(encoder_floor(Codec.H264), 2),
        "prompts": "oil painting, pencil sketch, neon, watercolour, cartoon in turn",
    }
    prompts = ["oil painting", "pencil sketch", "neon", "watercolour", "cartoon"]
    holds = 0
    for count in range(1, 9):
        arrivals: list[list[float]] = [[] for _ in range(count)]
        async with Client(stack.grpc_address) as client, AsyncExitStack() as held:
            watching = []
            for number in range(count):
                session = await held.enter_async_context(
                    playing(client, "painter", clip, prompts[number % len(prompts)])
                )
                watching.append(asyncio.create_task(_watch(session, arrivals[number])))
                await session.start()
            await asyncio.sleep(9)
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        rates, gaps = [], []
        for times in arrivals:
            steady = [at for at in times if at > times[-1] - 6]
            rates.append((len(steady) - 1) / (steady[-1] - steady[0]))
            gaps.append(max(b - a for a, b in itertools.pairwise(steady)))
        ok = min(rates) >= RATE * 0.99 and max(gaps) <= 0.2
        result[f"{count}"] = {
            "worst fps": round(min(rates), 2),
            "longest gap ms": round(max(gaps) * 1e3),
            "holds": ok,
        }
        if not ok:
            break
        holds = count
    result["sessions held"] = holds
    return result


MEASURES: dict[str, tuple[str, Callable[[Stack, Path], Awaitable[dict[str, Any]]]]] = {
    "connect": ("simulated", connect),
    "commands": ("simulated", commands),
    "first_packet": ("simulated", first_packet),
    "gateway_cpu": ("simulated", gateway_cpu),
    "painter_sessions": ("painter", painter_sessions),
}


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    arguments = parser.parse_args()
    figures: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "load before": round(os.getloadavg()[0], 2)}
    }
    with tempfile.TemporaryDirectory() as folder:
        clip = make(Path(folder) / "clip.mp4", Recipe(frames=360, width=1280, height=720))
        for model in ("simulated", "painter"):
            names = [name for name in arguments.only if MEASURES[name][0] == model]
            if not names:
                continue
            options = ["--model", model, "--log-level", "warning"]
            if model == "simulated":
                options += ["--model-option", f"chunk_ms={CHUNK_MS}"]
            with serving(*options) as stack:
                for name in names:
                    figures[name] = asyncio.run(MEASURES[name][1](stack, clip))
                    print(name, json.dumps(figures[name], indent=2), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
