"""The bare way of a command, with nothing of ours on it; each part is run as a process.

    client -- data channel of stock aiortc --> near -- stream of grpc.aio --> far, and back

`far` answers every message with a longer one, `near` passes bytes on between the two, as a
gateway does between clients and an actor, and nobody reads them.

    python -m tests.bench.media.systems.echo_chain client PATH

The path is that of the socket between `near` and `far`. A client starts its `near`, that its
`far`; each ends with its standard input.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import grpc
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription

ASKED_BYTES: Final = 150
"""Length of a `set_prompt` on the wire of a client, ..."""
ANSWER_BYTES: Final = 350
"""... and of the state that answers it."""
_SERVICE, _METHOD = "bench.Echo", "Echo"
_LIMIT: Final = 1 << 20
"""Bytes of a line between two processes."""


async def far(path: str, lines: asyncio.StreamReader) -> None:
    """Answers whatever comes on a stream."""

    async def echo(asked: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        async for message in asked:
            yield message.ljust(ANSWER_BYTES)

    server = grpc.aio.server()
    method = {_METHOD: grpc.stream_stream_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, method),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    _tell("ready")
    await lines.read()
    await server.stop(None)


async def near(path: str, lines: asyncio.StreamReader) -> None:
    """Answers offers, a line each, and passes on what comes in by data channels."""
    channels: list[RTCDataChannel] = []
    waiting: asyncio.Queue[bytes] = asyncio.Queue()
    peers = []

    async def asked() -> AsyncIterator[bytes]:
        while True:
            yield await waiting.get()

    async def back(answers: AsyncIterable[bytes]) -> None:
        async for message in answers:
            channels[message[0]].send(message[1:])

    def opened(channel: RTCDataChannel) -> None:
        head = bytes([len(channels)])
        channels.append(channel)
        channel.on("message", lambda message: waiting.put_nowait(head + message))

    async with _child("far", path), grpc.aio.insecure_channel(f"unix:{path}") as stub:
        call = stub.stream_stream(f"/{_SERVICE}/{_METHOD}", None, None)
        returning = asyncio.create_task(back(call(asked())))
        _tell("ready")
        while line := await lines.readline():
            peer = _peer()
            peers.append(peer)
            peer.on("datachannel", opened)
            await peer.setRemoteDescription(RTCSessionDescription(json.loads(line), "offer"))
            await peer.setLocalDescription(await peer.createAnswer())
            _tell(peer.localDescription.sdp)
        returning.cancel()
        await asyncio.gather(returning, *(peer.close() for peer in peers), return_exceptions=True)


async def client(path: str, lines: asyncio.StreamReader) -> None:
    """Measures: a line `[channels, hertz, seconds]` is answered with milliseconds."""
    peers: list[tuple[RTCPeerConnection, RTCDataChannel]] = []
    async with _child("near", path) as ask:
        _tell("ready")
        while line := await lines.readline():
            count, hertz, seconds = json.loads(line)
            while len(peers) < count:
                peers.append(await _connected(ask))
            found: list[float] = []
            tasks = [asyncio.create_task(_measure(each, hertz, found)) for _, each in peers]
            await asyncio.sleep(seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            _tell([round(each, 3) for each in found])
        await asyncio.gather(*(peer.close() for peer, _ in peers))


async def _connected(
    ask: Callable[[object], Awaitable[Any]],
) -> tuple[RTCPeerConnection, RTCDataChannel]:
    peer, opened = _peer(), asyncio.Event()
    channel = peer.createDataChannel("data")
    channel.on("open", opened.set)
    await peer.setLocalDescription(await peer.createOffer())
    answer = await ask(peer.localDescription.sdp)
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await opened.wait()
    return peer, channel


async def _measure(channel: RTCDataChannel, hertz: float, found: list[float]) -> None:
    """Asks at times that no period of the machine can fall in step with."""
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    channel.remove_all_listeners("message")
    channel.on("message", answers.put_nowait)
    for number in itertools.count():
        await asyncio.sleep(random.uniform(0.5, 1.5) / hertz)
        asked = b"%d " % number
        began = time.perf_counter()
        channel.send(asked.ljust(ASKED_BYTES))
        while not (await answers.get()).startswith(asked):
            pass  # of the window before
        found.append((time.perf_counter() - began) * 1e3)


def _peer() -> RTCPeerConnection:
    # Without this aiortc asks a public STUN server.
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


@asynccontextmanager
async def _child(part: str, path: str) -> AsyncIterator[Callable[[object], Awaitable[Any]]]:
    """Runs the next process of the chain; gives a way to ask it."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __spec__.name, part, path, stdin=pipe, stdout=pipe, limit=_LIMIT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    put, lines = process.stdin, process.stdout

    async def ask(said: object) -> Any:
        put.write(json.dumps(said).encode() + b"\n")
        return json.loads(await lines.readline())

    try:
        await lines.readline()
        yield ask
    finally:
        put.close()
        await process.wait()


def _tell(said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


async def main(part: str, path: str) -> None:
    """Runs a part until standard input ends."""
    lines = asyncio.StreamReader(limit=_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    await {"far": far, "near": near, "client": client}[part](path, lines)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
