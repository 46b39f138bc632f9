"""The head role as a child process of `serve`: scheduler and model actors.

A process of its own keeps Ray, and whatever a model does, out of the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.child_process import ChildProcess


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """What `serve` passes on to `serve head`."""

    told: Mapping[str, Any]
    """Options as they were parsed, by their names in Python; None for those not given."""
    storage: str
    """The storage plugin."""
    storage_options: Mapping[str, str]
    otlp_endpoint: str
    log_level: str

    def arguments(self) -> list[str]:
        """Returns the command line of the head."""
        own = {
            "storage": self.storage,
            "storage_option": [f"{key}={value}" for key, value in self.storage_options.items()],
            "otlp_endpoint": self.otlp_endpoint or None,
            "log_level": self.log_level,
            "placement_port": 0,
        }
        told = {**self.told, **own}
        words = [word for name, value in told.items() for word in _words(name, value)]
        return [*words, "--end-with-stdin"]


def _words(name: str, value: Any) -> list[str]:  # noqa: ANN401 - of any option
    """Returns an option as the command line has it; nothing for one that was not given."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [option if value else f"--no-{option.removeprefix('--')}"]
    if isinstance(value, (list, tuple)):
        return [word for each in value for word in (option, str(each))]
    return [] if value in (None, "") else [option, str(value)]


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
