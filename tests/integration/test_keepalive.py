"""Standing lines to a peer that is cut off without a word: both ends notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import grpc.aio
import pytest

from scheduler.process.keepalive import ACCEPTED_PINGS, KEEPALIVE

pytestmark = pytest.mark.integration

PATIENCE_S = 40.0
"""Less than the minute after which gRPC would notice by itself."""


class Wire:
    """Passes bytes on between two sockets until it is cut: then nothing, not even an end."""

    def __init__(self, listen: str, target: str) -> None:
        self._listen = listen
        self._target = target
        self._cut = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self._listen)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        self._cut = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._target)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass_on(source, sink))
            self._tasks.add(task)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if not self._cut:
                    sink.write(data)
        finally:
            if not self._cut:
                sink.close()


class Silent(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Takes one standing call, says once that it has it, and tells when it ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def service(self, _: grpc.HandlerCallDetails) -> Any:
        return grpc.stream_stream_rpc_method_handler(self._stand)

    async def _stand(
        self, _: AsyncIterator[bytes], __: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        try:
            yield b"there"
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def test_both_ends_of_a_silent_line_notice_that_it_was_cut(tmp_path: Path) -> None:
    server = grpc.aio.server(options=[*KEEPALIVE, ACCEPTED_PINGS])
    silent = Silent()
    server.add_generic_rpc_handlers((silent,))
    server.add_insecure_port(f"unix:{tmp_path}/server")
    await server.start()
    never = asyncio.Event()

    async def nothing() -> AsyncIterator[bytes]:
        await never.wait()
        yield b""

    async with (
        Wire(f"{tmp_path}/wire", f"{tmp_path}/server") as wire,
        grpc.aio.insecure_channel(f"unix:{tmp_path}/wire", options=KEEPALIVE) as channel,
        asyncio.timeout(PATIENCE_S),
    ):
        dialled: Any = channel
        call = dialled.stream_stream("/silent/Stand")(nothing())
        assert await call.read() == b"there"
        wire.cut()
        with pytest.raises(grpc.aio.AioRpcError) as lost:
            await call.read()
        assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
        await silent.ended.wait()
    await server.stop(None)
