"""How the frames of an output become packets: by an encoder, or fetched where they exist."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from model_actor.engine.encoder_pool import EncoderPool
from model_actor.engine.store import FinishedFrame
from model_actor.media.encoder import Encoded, EncoderSettings, VideoEncoder
from model_actor.plugin import PacketSource

WHENEVER = float("inf")
"""Due time of work that anything else goes before."""

Done = Callable[[Encoded | Exception], None]
"""Told on the event loop, in a later turn of it, what became of a frame."""


class Encoding(Protocol):
    """How frames become packets. `renew`, `prepare` and the next `encode` come after `done`."""

    @property
    def builds_up(self) -> bool:
        """Whether a frame can mend what the one before it left coarse."""

    def encode(
        self, frame: FinishedFrame, bitrate: int, *, due_at: float, keyframe: bool, done: Done
    ) -> None:
        """Makes the packet of a frame; a keyframe where that is asked for."""

    def renew(self) -> None:
        """The next frame begins a new stream."""

    def prepare(self) -> None:
        """There is time: makes ready what the next new stream needs."""

    def close(self) -> None:
        """Nothing more is wanted: gives up what no thread is at."""


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

    def encode(
        self, frame: FinishedFrame, bitrate: int, *, due_at: float, keyframe: bool, done: Done
    ) -> None:
        """Makes the packet of a frame; a keyframe where that is asked for."""

        def encode() -> Encoded:
            encoder = self._opened()
            encoder.set_bitrate(bitrate)
            return encoder.encode(frame.image, keyframe=keyframe)

        loop = asyncio.get_running_loop()
        self._pool.submit(due_at, encode, lambda made: loop.call_soon_threadsafe(done, made))

    def renew(self) -> None:
        """The next frame begins a new stream."""
        self._encoder = None

    def prepare(self) -> None:
        """Opens the next stream's encoder, unless it is or its opening failed."""
        if self._spare is None:
            spare = self._spare = Future()

            def open_spare() -> None:
                if spare.set_running_or_notify_cancel():
                    try:
                        spare.set_result(self._open())
                    except Exception as error:
                        spare.set_exception(error)

            self._pool.submit(WHENEVER, open_spare, lambda _: None)

    def close(self) -> None:
        """Gives up the spare that is not open yet."""
        if self._spare is not None:
            self._spare.cancel()

    def _opened(self) -> VideoEncoder:
        """Returns the stream's encoder, on a thread: the spare when the stream is new, or a
        new one where the spare's opening has not even begun.
        """
        if self._encoder is None:
            spare, self._spare = self._spare, None
            usable = spare is not None and not spare.cancel() and spare.exception() is None
            self._encoder = spare.result() if spare is not None and usable else self._open()
        return self._encoder

    def _open(self) -> VideoEncoder:
        return VideoEncoder(self._settings, self._pool.libraries)


class Fetcher:
    """Takes packets from where they are. A thread would cost more than the packet does."""

    builds_up = False

    def __init__(self, settings: EncoderSettings, source: PacketSource) -> None:
        """Fetches from `source`, for an output with `settings`."""
        self._settings = settings
        self._source = source

    def encode(
        self, frame: FinishedFrame, bitrate: int, *, due_at: float, keyframe: bool, done: Done
    ) -> None:
        """Fetches the packet of a frame, which is a keyframe always."""
        del due_at, keyframe
        size = round(bitrate / 8 / self._settings.frame_rate)
        try:
            data = self._source.packet(self._settings.codec, frame.frame, size)
            made: Encoded | Exception = Encoded(data, keyframe=True)
        except Exception as error:
            made = error
        asyncio.get_running_loop().call_soon(done, made)

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
