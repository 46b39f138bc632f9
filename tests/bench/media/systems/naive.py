"""The naive server, and stock aiortc that is given packets: started and stopped."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from tests.bench.media.clients.driver import NullClients
from tests.bench.media.results import NAIVE, STOCK
from tests.bench.media.systems.service import Ready, ReadyLog
from tests.stack import ROOT

SERVER = "server"


class Naive:
    """A running naive server."""

    def __init__(self, name: str, port: int, pid: int, log: ReadyLog) -> None:
        self.name = name
        self._url = f"http://127.0.0.1:{port}"
        self._pid = pid
        self._log = log

    def matrix(self, codec: str) -> str:
        """It is given BT.709 and converts nothing."""
        del codec
        return "bt709"

    @property
    def roles(self) -> dict[str, list[psutil.Process]]:
        """Its one process."""
        return {SERVER: [psutil.Process(self._pid)]}

    async def join(self, clients: NullClients, codec: str, count: int = 1) -> None:
        """Joins sessions."""
        await clients.join(self._url, codec, count)

    async def leave(self, clients: NullClients) -> None:
        """Ends all sessions."""
        await clients.leave()

    def ready(self) -> list[Ready]:
        """Returns the chunks that were due since the last call."""
        return self._log.read()


@asynccontextmanager
async def naive(
    folder: Path, clip: Path, bitrate: int, *, packets: bool = False
) -> AsyncIterator[Naive]:
    """Runs the naive server; with `packets`, encoding nothing."""
    log = ReadyLog(folder / "naive.log")
    log.path.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.bench.media.systems.naive_server"),
        *("--mode", "packets" if packets else "encode", "--clip", str(clip)),
        *("--log", str(log.path), "--bitrate", str(bitrate)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            port = int(await process.stdout.readline())
        yield Naive(STOCK if packets else NAIVE, port, process.pid, log)
    finally:
        process.stdin.close()
        await ended(process)


async def ended(process: asyncio.subprocess.Process, seconds: float = 10.0) -> None:
    """Waits for the end of a process that was told to end; kills one that takes too long."""
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
