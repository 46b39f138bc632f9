"""What the generator and its processes tell each other: pickled, each after its length.

A pickle of our own child over a pipe of our own: nobody else can write there.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from scheduler.scenario.load import Network
from sdk_adapters.harness.generator.source import Reel
from sdk_adapters.harness.generator.target import Target
from sdk_adapters.harness.plan import PlannedVisit
from sdk_adapters.harness.records import SessionRecord

LENGTH: Final = struct.Struct("!I")
"""Comes before every message."""
LONGEST: Final = 1 << 30
"""Bytes of a message; a longer one is a fault."""


@dataclass(frozen=True, slots=True)
class Job:
    """To a process: what it is to do. It answers with `Ready`."""

    process: int
    """Its number, from 0."""
    target: Target
    visits: Sequence[PlannedVisit]
    """Its share, in order of arrival."""
    model: str
    measured_s: tuple[float, float]
    """What counts, since the beginning of the run."""
    clip: bytes
    """What file sessions upload."""
    camera: dict[str, Reel]
    """What live sessions send, by codec."""
    networks: Mapping[str, Network] = field(default_factory=dict)
    """Those that have to be made, by the name that the visits have."""
    measures: bool = True
    """Whether frames are measured; not to do so shows what measuring costs."""


@dataclass(frozen=True, slots=True)
class Ready:
    """From a process: it can begin."""


@dataclass(frozen=True, slots=True)
class Go:
    """To a process: begin."""

    epoch: float
    """When the run begins, on the monotonic clock of this machine."""


@dataclass(frozen=True, slots=True)
class Stop:
    """To a process: end all sessions, and then itself."""


@dataclass(frozen=True, slots=True)
class Ended:
    """From a process: a session is over."""

    record: SessionRecord


@dataclass(frozen=True, slots=True)
class Done:
    """From a process, last: nothing follows."""

    measuring_cpu_s: float
    lag_p99_ms: float
    """How late its event loop ran within the measured time, 99 of 100 looks."""


def packed(message: object) -> bytes:
    """Returns a message as it is written."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def unpacked(data: bytes) -> Any:  # noqa: ANN401 - one of the classes above, or a Second
    """Returns what `packed` packed, less its length."""
    return pickle.loads(data)  # noqa: S301 - from our own child


def read(stream: BinaryIO) -> Any:  # noqa: ANN401 - as above
    """Reads a message, waiting for it.

    Raises:
        EOFError: The other end is gone.
    """
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    return unpacked(_exactly(stream, length))


def _exactly(stream: BinaryIO, size: int) -> bytes:
    """Reads so many bytes, also of a stream that gives fewer at once."""
    data = bytearray()
    while len(data) < size:
        if not (piece := stream.read(size - len(data))):
            raise EOFError
        data += piece
    return bytes(data)
