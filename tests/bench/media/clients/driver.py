"""Starts null clients in their own process, and talks to them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.bench.media import packets
from tests.stack import ROOT

ANSWER_S = 120.0
"""Longest wait for an answer; 64 sessions take some time to join."""


class ClientError(Exception):
    """The clients could not do what they were told."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one session sent in a stretch of time."""

    session_id: str
    stream: packets.Stream
    acks_ms: tuple[float, ...]
    """Round trips of commands."""
    unanswered: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was decoded and compared with the clip."""

    timestamp: int
    number: int
    """Index in the loop."""
    psnr: float
    """Of luma, in dB."""


class NullClients:
    """The process of the null clients."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def process(self) -> psutil.Process:
        """For its CPU time."""
        return psutil.Process(self._process.pid)

    async def join(
        self,
        url: str,
        codec: str,
        count: int = 1,
        *,
        model: str = "sana-streaming",
        local: bool = False,
        clip: Path | None = None,
        camera_bitrate: int = 0,
        stage: bool = False,
    ) -> list[dict[str, Any]]:
        """Joins sessions; with `stage` also brings ours to where `start` begins them."""
        said = await self._ask(
            "join",
            url=url,
            codec=codec,
            count=count,
            model=model,
            local=local,
            clip=str(clip) if clip else None,
            camera_bitrate=camera_bitrate,
            stage=stage,
        )
        return list(said["joined"])

    async def start(self) -> list[int]:
        """Starts the streams that do not run; returns when, in ns, once packets come."""
        return list((await self._ask("start"))["started_ns"])

    async def begin(self, *, whole: bool = False, commands_hz: float = 0.0) -> int:
        """Begins to note packets, of every session."""
        return int((await self._ask("begin", whole=whole, commands_hz=commands_hz))["at_ns"])

    async def end(self) -> list[Seen]:
        """Returns what came since `begin`."""
        return [_seen(each) for each in (await self._ask("end"))["sessions"]]

    async def compare(self, codec: str, clip: Path, matrix: str) -> list[Picture]:
        """Decodes what the first session kept whole and compares it with the clip."""
        said = await self._ask("compare", codec=codec, clip=str(clip), matrix=matrix)
        return [Picture(**each) for each in said["pictures"]]

    async def leave(self) -> None:
        """Ends all sessions."""
        await self._ask("leave")

    def kill(self) -> None:
        """Ends the process at once, as a crash would."""
        self._process.kill()

    async def close(self) -> None:
        """Ends all sessions and the process."""
        if self._process.returncode is not None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _ask(self, name: str, **words: object) -> dict[str, Any]:
        """Tells the process to do something.

        Raises:
            ClientError: It could not, or has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": name, **words}).encode() + b"\n")
        async with asyncio.timeout(ANSWER_S):
            line = await self._process.stdout.readline()
        if not line:
            raise ClientError(f"the null clients ended instead of {name}")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise ClientError(f"{name}: {said['error']}")
        return said


@asynccontextmanager
async def null_clients() -> AsyncIterator[NullClients]:
    """Runs the process of the null clients."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.media.clients.null_client",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ},
        limit=1 << 26,
    )
    clients = NullClients(process)
    try:
        yield clients
    finally:
        await clients.close()


def _seen(plain: dict[str, Any]) -> Seen:
    frames = tuple(packets.Frame(*each) for each in plain["frames"])
    stream = packets.Stream(frames, plain["lost"], plain["bytes"])
    return Seen(plain["session_id"], stream, tuple(plain["acks_ms"]), plain["unanswered"])
