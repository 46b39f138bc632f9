"""The head role as a child process of `serve`: scheduler and model actors.

A process of its own keeps Ray, and whatever a model does, out of the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.child_process import ChildProcess


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
    encoder: str
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
            "--encoder": self.encoder,
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

    def __init__(self, child: ChildProcess, placement_address: str) -> None:
        """Wraps a head that serves; see `start`."""
        self._child = child
        self.placement_address = placement_address

    @classmethod
    async def start(cls, options: HeadOptions) -> HeadProcess:
        """Starts the head and waits until its scheduler serves.

        Raises:
            ChildError: It ended instead; its own words are on standard error.
        """
        words = ("-m", "gateway.cli", "serve", "head", *options.arguments())
        child = await ChildProcess.start("scheduler and actors", words)
        try:
            announced = await child.announced()
        except BaseException:
            await child.stop()
            raise
        return cls(child, str(announced["placement"]))

    async def wait(self) -> None:
        """Returns never, unless the head ends by itself.

        Raises:
            ChildError: It has.
        """
        await self._child.wait()

    async def stop(self) -> None:
        """Ends the head and all that it started."""
        await self._child.stop()
