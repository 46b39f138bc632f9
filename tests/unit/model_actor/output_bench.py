"""An output on virtual time, for tests of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from model_actor.engine.clock import PlayoutClock
from model_actor.engine.encoder_pool import EncoderPool
from model_actor.engine.outputs import (
    LEAD_S,
    EncodedOutput,
    Output,
)
from model_actor.engine.store import FinishedWindow, FrameStore
from model_actor.media.codec import Codec
from model_actor.media.encoder import EncoderSettings
from model_actor.media.encoding.choice import SOFTWARE
from model_actor.media.encoding.library import Library
from tests.unit.model_actor.virtual import now

SIZE = 64
RATE = 24.0
BITRATE = 240_000
CODECS = list(Codec)


class Inline(EncoderPool):
    """Runs everything at once, on the caller; encoding fails as often as it is told to."""

    def __init__(self) -> None:
        super().__init__(0, {codec: (self._noted(codec),) for codec in CODECS})
        self.jobs: list[str] = []
        self.failures = 0

    @property
    def encoded(self) -> int:
        """Frames that were given to an encoder."""
        return self.jobs.count("encode")

    def submit(
        self, due_at: float, function: Callable[[], Any], deliver: Callable[[Any], object]
    ) -> None:
        self.jobs.append(function.__name__)
        if self.failures and function.__name__ == "encode":
            self.failures -= 1
            deliver(ValueError("private words"))
        else:
            deliver(function())

    def _noted(self, codec: Codec) -> Library:
        """A library that says when it opens an encoder."""
        (library,) = SOFTWARE[codec]
        options = library.options

        def noted(settings: EncoderSettings, rate: int) -> Mapping[str, str]:
            self.jobs.append("open")
            return options(settings, rate)

        return replace(library, options=noted)


class Packets:
    """A session that brings packets of the size it is granted."""

    def __init__(self) -> None:
        self.asked: list[tuple[Codec, int, int]] = []

    def packet(self, codec: Codec, frame: int, size: int) -> bytes:
        self.asked.append((codec, frame, size))
        return bytes(size)


@dataclass
class Session:
    """What an output shows."""

    store: FrameStore = field(default_factory=FrameStore)
    clock: PlayoutClock | None = None
    state: object = "opaque"

    def add(self, count: int, run: int = 1, first: int = 0) -> None:
        numbers = np.arange(first, first + count).astype(np.uint8)
        frames = np.broadcast_to(numbers[:, None, None], (count, SIZE * 3 // 2, SIZE)).copy()
        self.store.add(
            FinishedWindow(run, first, frames, tuple(range(first, first + count)), ((0, first),))
        )

    def plays(
        self,
        frame: int = 0,
        *,
        at: float = LEAD_S,
        run: int = 1,
        rate: float = RATE,
        end: int | None = None,
    ) -> None:
        """The gateway reports that a frame is due so many seconds from now, and where its clock
        stands until it hears of more.
        """
        self.clock = PlayoutClock(run, frame, now() + at, rate, end=end)


@dataclass
class Bench:
    """An output of a session, and what it has made."""

    session: Session
    output: Output
    threads: Inline
    made: list[EncodedOutput] = field(default_factory=list)

    @property
    def frames(self) -> list[int]:
        return [each.frame.frame for each in self.made]

    @property
    def keyframes(self) -> list[int]:
        return [each.frame.frame for each in self.made if each.encoded.keyframe]


@contextmanager
def running(session: Session, codec: Codec = Codec.VP8, *, rate: float = RATE) -> Iterator[Bench]:
    made: list[EncodedOutput] = []
    threads = Inline()
    settings = EncoderSettings(codec, SIZE, SIZE, rate, BITRATE)
    output = Output(settings, session, threads, lambda _, each: made.append(each))
    output.wake()
    try:
        yield Bench(session, output, threads, made)
    finally:
        output.close()
