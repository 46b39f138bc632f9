"""The bare way of a command through the same libraries: started, asked and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.media.systems import echo_chain
from tests.bench.media.systems.naive import ended
from tests.stack import ROOT

START_S = 60.0
"""Longest wait for its processes, and beyond a measurement for its end."""


class Echo:
    """A running chain of processes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def round_trips_ms(self, channels: int, hertz: float, seconds: float) -> list[float]:
        """Asks on so many data channels, on each so often, for so long."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([channels, hertz, seconds]).encode() + b"\n")
        async with asyncio.timeout(START_S + seconds):
            return list(json.loads(await self._process.stdout.readline()))


@asynccontextmanager
async def echo(folder: Path) -> AsyncIterator[Echo]:
    """Runs the chain; its socket lies in the folder."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", echo_chain.__name__, "client", str(folder / "echo.sock")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        # Or it tells of every end of a connection.
        env={**os.environ, "GRPC_VERBOSITY": "ERROR"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            await process.stdout.readline()
        yield Echo(process)
    finally:
        process.stdin.close()
        await ended(process)
