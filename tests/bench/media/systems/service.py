"""What the rows ask of a system under test, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from tests.bench.media.clients.driver import NullClients


@dataclass(frozen=True, slots=True)
class Ready:
    """A chunk or window was ready, or was emitted."""

    session_id: str
    """Empty where the process has one session at a time."""
    first_frame: int
    """Index of its first frame in the run."""
    at_ns: int
    """On the monotonic clock, which all processes share."""


class Service(Protocol):
    """A running system. Its sessions show the clip, each from its own start."""

    name: str
    """As the results call it."""

    def matrix(self, codec: str) -> str:
        """Returns the matrix of its luma in a codec: `bt709` or `bt601`."""

    @property
    def roles(self) -> dict[str, list[psutil.Process]]:
        """All its processes, by what they do."""

    async def join(self, clients: NullClients, codec: str, count: int = 1) -> None:
        """Joins further sessions, ready to be started."""

    async def leave(self, clients: NullClients) -> None:
        """Ends all sessions; afterwards `join` works again."""

    def ready(self) -> list[Ready]:
        """Returns what was ready so far, in order."""


@dataclass(slots=True)
class ReadyLog:
    """The file that a model tells when a chunk is ready: `SESSION RUN FRAME NANOSECONDS`."""

    path: Path
    _seen: int = field(default=0)

    def read(self) -> list[Ready]:
        """Returns what came since the last call."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().splitlines()
        fresh, self._seen = lines[self._seen :], len(lines)
        found = []
        for line in fresh:
            session_id, _, first_frame, at_ns = line.split()
            found.append(Ready(session_id.strip("-"), int(first_frame), int(at_ns)))
        return found
