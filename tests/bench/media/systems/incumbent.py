"""`reactor-runtime` with the equivalent model: one process a session, as it is built."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import psutil

from tests.bench.media.clients.driver import NullClients
from tests.bench.media.results import INCUMBENT
from tests.bench.media.systems.naive import ended
from tests.bench.media.systems.service import Ready, ReadyLog
from tests.bench.media.systems.stun import stun
from tests.stack import ROOT

PYTHON: Final = ROOT / ".venvs/reactor-runtime/bin/python"
RUNTIME = "runtime"
START_S = 30.0
_MODEL = "incumbent_model"


def version() -> str | None:
    """Returns the version that is installed; None where there is none."""
    if not PYTHON.exists():
        return None
    code = "from importlib.metadata import version; print(version('reactor-runtime'))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


class Incumbent:
    """Running runtimes, as many as there are sessions."""

    name = INCUMBENT

    def __init__(
        self, folder: Path, clip: Path, bitrate: int, model: str, stun_server: str
    ) -> None:
        self._folder, self._clip = folder, clip
        self._bitrate, self._model, self._stun = bitrate, model, stun_server
        self._running: list[tuple[asyncio.subprocess.Process, str]] = []
        self._taken = 0
        self._log = ReadyLog(folder / "incumbent.log")
        self._log.path.unlink(missing_ok=True)

    def matrix(self, codec: str) -> str:
        """Libwebrtc converts RGB by BT.601."""
        del codec
        return "bt601"

    @property
    def roles(self) -> dict[str, list[psutil.Process]]:
        """Its processes; those that wait for a session as well."""
        return {RUNTIME: [psutil.Process(process.pid) for process, _ in self._running]}

    @property
    def urls(self) -> list[str]:
        """Of the processes."""
        return [url for _, url in self._running]

    async def provide(self, count: int) -> None:
        """Starts processes until there are so many."""
        missing = count - len(self._running)
        for _ in range(missing):
            self._running.append(await self._start())

    async def join(self, clients: NullClients, codec: str, count: int = 1) -> None:
        """Joins sessions, each in a process of its own."""
        await self.provide(self._taken + count)
        for _ in range(count):
            await clients.join(self.urls[self._taken], codec, local=True)
            self._taken += 1

    async def leave(self, clients: NullClients) -> None:
        """Ends all sessions, and their processes with them: each begins as a new one does."""
        await clients.leave()
        await self.close()

    def ready(self) -> list[Ready]:
        """Returns the chunks that were emitted since the last call."""
        return self._log.read()

    async def close(self) -> None:
        """Ends the processes."""
        running, self._running = self._running, []
        self._taken = 0
        for process, _ in running:
            process.terminate()
        for process, _ in running:
            await ended(process)

    async def _start(self) -> tuple[asyncio.subprocess.Process, str]:
        home = Path(tempfile.mkdtemp(prefix="runtime-", dir=self._folder))
        (home / "reactor.yaml").write_text(
            f"model:\n  name: bench\nruntime:\n  import: {_MODEL}:{self._model}\n"
        )
        (home / f"{_MODEL}.py").write_text((Path(__file__).parent / f"{_MODEL}.py").read_text())
        port, kbps = free_port(), str(self._bitrate // 1000)
        environment = {
            **dict.fromkeys(PINNED, kbps),
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "STUN_SERVERS": self._stun,
            "WEBRTC_VIDEO_CODECS": "VP8",
            "BENCH_CLIP": str(self._clip / "rgb"),
            "BENCH_LOG": str(self._log.path),
            "REACTOR_LOG_LEVEL": "WARNING",
            "PATH": os.environ["PATH"],
            "HOME": str(home),
        }
        with (home / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                str(PYTHON),
                *("-m", "reactor_runtime.serve"),
                cwd=home,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            await _healthy(process, url)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        return process, url


PINNED: Final = (
    "WEBRTC_BWE_MIN_KBPS",
    "WEBRTC_BWE_MAX_KBPS",
    "WEBRTC_BWE_INITIAL_KBPS",
    "WEBRTC_SENDER_MIN_KBPS",
    "WEBRTC_SENDER_MAX_KBPS",
)
"""The variables that pin its bitrate, all to the same value."""


@asynccontextmanager
async def incumbent(
    folder: Path, clip: Path, bitrate: int, *, blocking: bool = False, stun_server: str = ""
) -> AsyncIterator[Incumbent]:
    """Runs the incumbent.

    Args:
        folder: For files of this run.
        clip: The folder of the clip.
        bitrate: Bits per second, pinned.
        blocking: Whether its model blocks the loop like a GPU call (`ClipBlock`).
        stun_server: Its STUN server; by default one of ours that answers at once, since it
            has no setting for none.
    """
    with stun() as answering:
        model = "ClipBlock" if blocking else "Clip"
        running = Incumbent(folder, clip, bitrate, model, stun_server or answering)
        try:
            yield running
        finally:
            await running.close()


def free_port() -> int:
    """Returns a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _healthy(process: asyncio.subprocess.Process, url: str) -> None:
    """Waits until a runtime has loaded its model.

    Raises:
        RuntimeError: It ended instead.
    """
    async with asyncio.timeout(START_S), aiohttp.ClientSession() as http:
        while process.returncode is None:
            try:
                async with http.get(f"{url}/health") as response:
                    text = await response.text()
                    loading = re.search(r'"(state|status)":\s*"(created|loading)"', text)
                    if response.ok and not loading:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
    raise RuntimeError("reactor-runtime did not start")
