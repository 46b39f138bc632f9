"""How a part of the service is, for whoever watches over its machine.

Schedulers and model actors come and go as processes of Ray: no port of theirs is known to a
probe or a scraper. So each tells how it is on a unix socket in a folder of the machine, and one
listener (`scheduler.health_listener`) answers for all of them. Without such a folder nobody is
told.

A question is one line, `condition` or `metrics`; the answer is all that comes until the end: a
JSON object, or OpenMetrics.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.registry import REGISTRY

from scheduler.process.exposition import exposition
from scheduler.process.footprint import process_name

FOLDER: Final = "SANA_VITALS"
"""Variable by which the processes of a machine know the folder."""
ASK_S: Final = 2.0
"""How long a question, and its answer, may take."""
LONGEST_NAME: Final = 24
"""Characters of a name that stand in the socket's path, which is short."""
MOST_BYTES: Final = 8 * 1024 * 1024
"""Longest answer."""
_OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0"
_LINE: Final = 32

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Condition:
    """How a part is."""

    role: str
    """`scheduler` or `actor`."""
    name: str
    """Tells it from others of its role."""
    why_not_ready: str
    """Why it does not serve, for people; empty when it does."""
    process: str
    """Its process: several parts may share one."""


class VitalSigns:
    """Tells how one part is.

    Args:
        role: `scheduler` or `actor`.
        name: Tells it from others of its role.
        folder: Where to tell; None: where the environment says, if it does.
        registry: What is told as metrics.
    """

    def __init__(
        self,
        role: str,
        name: str,
        *,
        folder: Path | None = None,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        said = os.environ.get(FOLDER, "")
        self._folder = folder or (Path(said) if said else None)
        self._role, self._name, self._registry = role, name, registry
        self._server: asyncio.Server | None = None
        self._path = Path()
        self.why_not_ready = "it starts"
        """Why it does not serve, for people; empty when it does."""

    async def start(self) -> None:
        """Begins to tell. A folder that cannot be used is no hindrance to the part itself."""
        if self._folder is None:
            return
        self._path = self._folder / f"{self._role}-{self._name[:LONGEST_NAME]}-{os.getpid()}"
        try:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._answer, self._path, limit=_LINE)
        except OSError as error:
            _log.warning("vital_signs.untold", error=type(error).__name__)

    async def close(self) -> None:
        """Tells no more. Repeating it is no error."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            with suppress(OSError):
                self._path.unlink()

    @property
    def condition(self) -> Condition:
        """How it is now."""
        return Condition(self._role, self._name, self.why_not_ready, process_name())

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ASK_S):
                question = (await reader.readline()).strip()
                if question == b"metrics":
                    writer.write((await exposition(self._registry, _OPEN_METRICS))[0])
                else:
                    writer.write(json.dumps(asdict(self.condition)).encode())
                await writer.drain()
        except (TimeoutError, ValueError, ConnectionError):
            # Whoever asks has gone, or asks nothing that is known.
            return
        finally:
            writer.close()


async def ask(path: Path, question: str) -> bytes:
    """Asks a part of this machine; returns nothing where it is gone, or hangs.

    Args:
        path: Its socket. That of a process which is gone is removed.
        question: `condition` or `metrics`.
    """
    try:
        async with asyncio.timeout(ASK_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(question.encode() + b"\n")
                return await _all(reader)
            finally:
                writer.close()
    except ConnectionRefusedError:
        await asyncio.to_thread(path.unlink, missing_ok=True)
    except (OSError, TimeoutError):
        return b""
    return b""


async def _all(reader: asyncio.StreamReader) -> bytes:
    answer = bytearray()
    while block := await reader.read(65_536):
        answer += block
        if len(answer) > MOST_BYTES:
            return b""
    return bytes(answer)


def read(answer: bytes) -> Condition | None:
    """Returns the condition that a part has answered; None for what is none."""
    try:
        return Condition(**json.loads(answer))
    except (ValueError, TypeError):
        return None
