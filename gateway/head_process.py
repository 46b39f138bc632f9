"""The head role as a child process of `serve`: scheduler and model actors.

A process of its own keeps Ray, and whatever a model does, out of the gateway.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from scheduler.core.errors import SanaGatewayError

STOP_S = 30.0
"""How long the head may take to end its actors before it is killed."""


class HeadError(SanaGatewayError):
    """The head process did not come up, or ended by itself."""


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """What `serve` passes on to `serve head`."""

    model: str
    model_options: tuple[str, ...]
    actors: int
    backend: str
    ray_address: str | None
    storage_root: Path
    reconnect_window: float
    otlp_endpoint: str
    log_level: str
    policy: str
    gpus_per_actor: float
    bitrate: int
    encoder_threads: int
    spare_decoders: int
    decode_limits: tuple[str, ...]

    def arguments(self) -> list[str]:
        """Returns the command line of the head."""
        pairs = {
            "--model": self.model,
            "--actors": str(self.actors),
            "--backend": self.backend,
            "--ray-address": self.ray_address or "",
            "--storage-root": str(self.storage_root),
            "--reconnect-window": str(self.reconnect_window),
            "--otlp-endpoint": self.otlp_endpoint,
            "--log-level": self.log_level,
            "--policy": self.policy,
            "--gpus-per-actor": str(self.gpus_per_actor),
            "--bitrate": str(self.bitrate),
            "--encoder-threads": str(self.encoder_threads),
            "--spare-decoders": str(self.spare_decoders),
            "--placement-port": "0",
        }
        arguments = [word for name, value in pairs.items() if value for word in (name, value)]
        for option in self.model_options:
            arguments += ["--model-option", option]
        for limit in self.decode_limits:
            arguments += ["--decode-limit", limit]
        return [*arguments, "--end-with-stdin"]


class HeadProcess:
    """A running head."""

    def __init__(self, process: asyncio.subprocess.Process, placement_address: str) -> None:
        """Wraps a head that serves; see `start`."""
        self._process = process
        self.placement_address = placement_address

    @classmethod
    async def start(cls, options: HeadOptions) -> HeadProcess:
        """Starts the head and waits until its scheduler serves.

        Raises:
            HeadError: It ended instead; its own words are on standard error.
        """
        # A pipe of its own: Ray and the libraries of a model print what they like.
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway.cli",
                "serve",
                "head",
                *options.arguments(),
                "--announce-fd",
                str(writing),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(writing,),
                # Ctrl-C is for the gateway, which then ends the head in its own order.
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        head = cls(process, "")
        try:
            head.placement_address = await head.announced(reading)
        except BaseException:
            await head.stop()
            raise
        return head

    async def announced(self, descriptor: int) -> str:
        """Reads the scheduler's address from the pipe that the head announces it on.

        Raises:
            HeadError: The head ended instead.
        """
        line = await asyncio.to_thread(_read_line, descriptor)
        if not line:
            code = await self._process.wait()
            raise HeadError(f"scheduler and actors did not start (exit status {code})")
        return str(json.loads(line)["placement"])

    async def wait(self) -> None:
        """Returns never, unless the head ends by itself.

        Raises:
            HeadError: It has.
        """
        code = await self._process.wait()
        raise HeadError(f"scheduler and actors ended by themselves (exit status {code})")

    async def stop(self) -> None:
        """Ends the head and all that it started."""
        if self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


def _read_line(descriptor: int) -> str:
    with os.fdopen(descriptor) as pipe:
        return pipe.readline()
