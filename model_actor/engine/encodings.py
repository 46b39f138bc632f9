"""How the frames of an output become packets: by an encoder, or fetched where they exist."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Protocol

from model_actor.engine.encoder_pool import EncoderPool
from model_actor.engine.store import FinishedFrame
from model_actor.media.encoder import Encoded, EncoderSettings, VideoEncoder
from model_actor.plugin import PacketSource

WHENEVER = float("inf")
"""Due time of work that anything else goes before."""


class Encoding(Protocol):
    """How frames become packets. Calls of one output never overlap."""

    @property
    def builds_up(self) -> bool:
        """Whether a frame can mend what the one before it left coarse."""

    async def encode(
        self, frame: FinishedFrame, bitrate: int, *, due_at: float, keyframe: bool
    ) -> Encoded:
        """Returns the packet of a frame; a keyframe where that is asked for."""

    def renew(self) -> None:
        """The next frame begins a new stream."""

    def prepare(self) -> None:
        """There is time: makes ready what the next new stream needs."""

    def close(self) -> None:
        """Releases what is held."""


class Encoder:
    """Encodes on the threads of the actor.

    Opening an encoder takes as long as encoding a frame, so the one of the next stream is
    opened ahead.
    """

    builds_up = True

    def __init__(self, settings: EncoderSettings, pool: EncoderPool) -> None:
        """Opens nothing yet."""
        self._settings = settings
        self._pool = pool
        self._encoder: VideoEncoder | None = None
        self._spare: Future[VideoEncoder] | None = None

    async def encode(
        self, frame: FinishedFrame, bitrate: int, *, due_at: float, keyframe: bool
    ) -> Encoded:
        """Returns the packet of a frame; a keyframe where that is asked for."""
        if self._encoder is None:
            self._encoder = await asyncio.wrap_future(self._opened(due_at))
        encoding = self._pool.submit(due_at, _encode, self._encoder, frame, bitrate, keyframe)
        return await asyncio.wrap_future(encoding)

    def renew(self) -> None:
        """The next frame begins a new stream."""
        self._encoder = None

    def prepare(self) -> None:
        """Opens the next stream's encoder, unless it is or its opening failed."""
        if self._spare is None:
            self._spare = self._open(WHENEVER)

    def close(self) -> None:
        """Releases both encoders; what a thread is at ends first."""
        self._encoder = None
        if self._spare is not None:
            self._spare.cancel()
            self._spare = None

    def _opened(self, due_at: float) -> Future[VideoEncoder]:
        """Returns the spare; a new one where it has not even been begun."""
        spare, self._spare = self._spare, None
        if spare is None or spare.cancel() or (spare.done() and spare.exception() is not None):
            return self._open(due_at)
        return spare

    def _open(self, due_at: float) -> Future[VideoEncoder]:
        return self._pool.submit(due_at, VideoEncoder, self._settings, self._pool.libraries)


def _encode(encoder: VideoEncoder, frame: FinishedFrame, bitrate: int, keyframe: bool) -> Encoded:
    encoder.set_bitrate(bitrate)
    return encoder.encode(frame.image, keyframe=keyframe)


class Fetcher:
    """Takes packets from where they are. A thread would cost more than the packet does."""

    builds_up = False

    def __init__(self, settings: EncoderSettings, source: PacketSource) -> None:
        """Fetches from `source`, for an output with `settings`."""
        self._settings = settings
        self._source = source

    async def encode(
        self, frame: FinishedFrame, bitrate: int, *, due_at: float, keyframe: bool
    ) -> Encoded:
        """Returns the packet of a frame, which is a keyframe always."""
        del due_at, keyframe
        size = round(bitrate / 8 / self._settings.frame_rate)
        data = self._source.packet(self._settings.codec, frame.frame, size)
        return Encoded(data, keyframe=True)

    def renew(self) -> None:
        """Packets do not build on each other."""

    def prepare(self) -> None:
        """There is nothing to make ready."""

    def close(self) -> None:
        """There is nothing to release."""


def encoding_of(settings: EncoderSettings, state: object, pool: EncoderPool) -> Encoding:
    """Returns how the frames of a session become packets, by what the model keeps of it."""
    if isinstance(state, PacketSource):
        return Fetcher(settings, state)
    return Encoder(settings, pool)
