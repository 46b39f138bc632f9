"""The targets by name, and where their inputs lie."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CORPUS: Final = Path(__file__).with_name("corpus")
"""A folder for each target."""
INSTRUMENTED: Final = ("gateway", "scheduler", "sdk_adapters", "model_actor")
"""Packages whose branches lead the search."""


@dataclass(frozen=True)
class Target:
    """Something that reads bytes of strangers."""

    about: str
    """What is read."""
    max_bytes: int = 4096
    """Longest input of a search."""
    cpu_s: float = 1.0
    """What one input may cost; whatever takes longer on one of our event loops is a fault."""
    memory_mb: int = 1536
    """What the process may grow to in a search."""
    runs_a_process: int = 1 << 30
    """After so many inputs another process goes on: FFmpeg keeps memory of some broken clips,
    which decode workers, one for each clip, take with them."""
    address_space_mb: int = 0
    """What it may ask for at all, as the process that this runs in for real; 0: anything."""


TARGETS: Final = {
    "commands_json": Target("commands as JSON: data channels, HTTP"),
    "commands_protobuf": Target("commands and requests as protobuf: data channels, gRPC, internal"),
    "sdp": Target("offers, candidates and fragments in SDP, and HTTP headers about them", 8192),
    "rtp": Target("packets of a camera, up to whole frames"),
    "rtcp": Target("what viewers tell of what they got"),
    "uploads": Target("uploads: announcements, pieces, offsets, names, keys of the storage"),
    "media_probe": Target(
        "clips and camera frames, up to decoded pictures",
        max_bytes=64 * 1024,
        cpu_s=30.0,
        runs_a_process=100_000,
        address_space_mb=2048,
    ),
    "tokens": Target("API keys, tokens, their details, the file of keys"),
}
"""All targets; each is the module of its name."""


class SlowError(Exception):
    """An input takes longer than anything may."""


def load(name: str) -> tuple[Callable[[bytes], None], Callable[[], list[bytes]]]:
    """Returns `fuzz_one` and `seeds` of a target."""
    module = importlib.import_module(f"tests.fuzz.{name}")
    return module.fuzz_one, module.seeds


def kept(name: str) -> list[bytes]:
    """Returns the inputs that the repository keeps of a target."""
    folder = CORPUS / name
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


def within(cpu_s: float) -> AbstractContextManager[None]:
    """Ends a block that computes for longer.

    Raises:
        SlowError: It does.
    """
    return _within(cpu_s)


@contextmanager
def _within(cpu_s: float) -> Iterator[None]:
    def over(_number: int, _frame: FrameType | None) -> None:
        raise SlowError(f"an input takes more than {cpu_s:g} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)
