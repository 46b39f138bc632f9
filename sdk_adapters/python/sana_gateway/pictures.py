"""Decoded pictures of main_video, as arrays. Needs the extra `video` (PyAV, numpy)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import av
import numpy as np
import numpy.typing as npt

from sana_gateway.errors import CallError
from sana_gateway.media import Watch
from sana_gateway.retry import RetryPolicy
from sana_gateway.v1 import media_pb2

_DECODERS: Final = {media_pb2.CODEC_H264: "h264", media_pb2.CODEC_VP8: "vp8"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of main_video."""

    rgb: npt.NDArray[np.uint8]
    """(height, width, 3). A viewer on a weak network is given smaller ones for a while."""
    timestamp_us: int
    """When it is due: microseconds on the session's play-out clock (over WebRTC: on the
    connection's own clock)."""
    run: int | None
    """Number of its run; None over WebRTC, whose stock receiver does not tell."""
    chunk: int | None
    """Index of its chunk in the run."""
    frame: int | None
    """Index of the frame in the run."""


class Decoder:
    """Decodes the frames of one output, one picture a frame. Not thread-safe."""

    def __init__(self) -> None:
        """Prepares for a stream that begins at a keyframe."""
        self._codec = media_pb2.CODEC_UNSPECIFIED
        self._context: Any = None

    def decode(self, frame: media_pb2.VideoFrame) -> npt.NDArray[np.uint8] | None:
        """Returns the picture of a frame as RGB, (height, width, 3).

        None says that a keyframe has to come first: the stream was joined amid a picture, or
        what came does not decode.
        """
        if self._context is None or frame.codec != self._codec:
            if not frame.keyframe:
                return None
            self._codec = frame.codec
            self._context = av.CodecContext.create(_DECODERS[frame.codec], "r")
            self._context.thread_count = 1
            self._context.flags |= av.codec.context.Flags.low_delay
        try:
            pictures = self._context.decode(av.Packet(frame.data))
        except av.error.FFmpegError:
            pictures = []
        if not pictures:
            self._context = None
            return None
        return np.asarray(pictures[-1].to_ndarray(format="rgb24"), dtype=np.uint8)


class Pictures:
    """The pictures of main_video, each when it is due: an asynchronous iterator.

    Decodes on a thread of its own. Pictures that are sent again while the picture holds are
    left out. A lost connection is taken up again, for as long as the client's `RetryPolicy`
    says; a reader that falls behind loses pictures, and goes on with current ones.
    """

    def __init__(self, watch: Callable[[], Watch], policy: RetryPolicy) -> None:
        """Watches when the first picture is asked for.

        Args:
            watch: Opens a call.
            policy: How long to try again when it breaks.
        """
        self._open = watch
        self._policy = policy
        self._watch: Watch | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sana-gateway decoding")
        self._decoder = Decoder()
        self._broken_at: float | None = None
        self._attempt = 0

    @property
    def stats(self) -> media_pb2.ViewerStats | None:
        """What the picture has been through, as of the newest chunk; None until one began."""
        return self._watch.stats if self._watch is not None else None

    async def aclose(self) -> None:
        """Stops watching."""
        if self._watch is not None:
            await self._watch.aclose()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Picture:
        """Returns the next picture.

        Raises:
            CallError: The call failed, and cannot be taken up again.
        """
        while True:
            frame = await self._next()
            rgb = await asyncio.wrap_future(self._thread.submit(self._decoder.decode, frame))
            if rgb is None:
                if self._watch is not None:
                    await self._watch.request_keyframe()
            elif not frame.held:
                return Picture(rgb, frame.timestamp_us, frame.run, frame.chunk, frame.frame)

    async def _next(self) -> media_pb2.VideoFrame:
        while True:
            if self._watch is None:
                self._watch, self._decoder = self._open(), Decoder()
            try:
                frame = await anext(self._watch)
            except CallError as error:
                await self._watch.aclose()
                self._watch = None
                await self._pause(error)
            else:
                self._broken_at, self._attempt = None, 0
                return frame

    async def _pause(self, error: CallError) -> None:
        """Waits before the next try; raises the error when there is none."""
        now = asyncio.get_running_loop().time()
        self._broken_at = self._broken_at or now
        self._attempt += 1
        pause = self._policy.wait(self._attempt, error.retry_after)
        if not error.passing or now + pause > self._broken_at + self._policy.window:
            raise error
        await asyncio.sleep(pause)
