"""What waits to be written to a client: bounded queues, each with its rule."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Generic, TypeVar

from gateway.ports import EncodedFrame
from sana_gateway.v1 import media_pb2
from scheduler.core.errors import LimitError
from scheduler.process.instruments import QUEUES

OUTBOX_LIMIT: Final = 1024
"""Responses that may wait for a client that does not read."""
FRAME_LIMIT: Final = 48
"""Frames that may wait for a client that does not read: two seconds."""
KEYFRAME_INTERVAL_S: Final = 0.5
"""A viewer that fell behind asks for a keyframe at most this often."""

_RESPONSES: Final = QUEUES.kind("grpc_responses", OUTBOX_LIMIT)
_FRAMES: Final = QUEUES.kind("grpc_frames", FRAME_LIMIT)
Item = TypeVar("Item")


class Outbox(Generic[Item]):
    """Responses in their order, with an end.

    On overflow everything that waits is dropped and the stream fails: messages are
    never dropped singly, and the client can come again and resume by revision.
    """

    def __init__(self, limit: int = OUTBOX_LIMIT) -> None:
        self._limit = limit
        self._items = _RESPONSES.watch(deque[Item]())
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False
        self._error: Exception | None = None
        self.failed = asyncio.Event()
        """Set when the stream must end now, even in the middle of a write."""

    @property
    def closed(self) -> bool:
        """Whether the end is decided."""
        return self._closed

    def put(self, item: Item) -> None:
        """Adds a response; does nothing once closed."""
        if self._closed:
            return
        if len(self._items) >= self._limit:
            _RESPONSES.overflowed()
            self.abort(LimitError("the client does not read its messages", retry_after_s=0.0))
            return
        self._items.append(item)
        self._wake()

    def close(self, error: Exception | None = None) -> None:
        """Ends the stream after what waits. The first end counts.

        Args:
            error: What `take` raises then; without one the stream ends well.
        """
        if not self._closed:
            self._closed, self._error = True, error
            self._wake()

    def abort(self, error: Exception) -> None:
        """Ends the stream at once: what waits is dropped."""
        self._items.clear()
        self._closed, self._error = True, error
        self._wake()
        self.failed.set()

    async def take(self) -> Item | None:
        """Returns the next response, or None at the end.

        Raises:
            Exception: What the stream was closed with.
        """
        while (item := self._next()) is None:
            if self._error is not None:
                raise self._error
            if self._closed:
                return None
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return item

    def _next(self) -> Item | None:
        return self._items.popleft() if self._items else None

    def _wake(self) -> None:
        """Lets `take` look again. A bare future: this is done for every frame."""
        waiting = self._waiting
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


class FrameQueue:
    """Encoded frames for one viewer, and what is known of the newest chunk among them.

    An encoded frame is never dropped singly. On overflow everything that waits goes,
    and so does what comes up to the next keyframe, of whatever rung, which the owner asks
    for: a viewer that fell behind sees a jump and is then current again. A rung begins at
    a keyframe, or not at all.
    """

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._limit = limit
        self._frames = _FRAMES.watch(deque[EncodedFrame]())
        self._skipping = False
        self._rung: int | None = None
        self._asked_at = float("-inf")
        self._stats: media_pb2.ViewerStats | None = None
        self._before_stats = 0
        """Frames that leave before the stats do."""
        self.dropped = 0
        """Frames that were not sent."""

    def put(self, frame: EncodedFrame, now: float) -> bool:
        """Adds a frame, or drops it.

        Args:
            frame: The next one.
            now: Seconds on any monotonic clock.

        Returns:
            Whether to ask for a keyframe.
        """
        if len(self._frames) >= self._limit:
            _FRAMES.overflowed()
            self.dropped += len(self._frames)
            self._frames.clear()
            self._stats = None
            self._skipping = True
        if frame.keyframe:
            self._skipping, self._rung = False, frame.rung
        elif self._skipping or frame.rung != self._rung:
            self._skipping = True
            self.dropped += 1
            return self._may_ask(now)
        self._frames.append(frame)
        return False

    def put_stats(self, stats: media_pb2.ViewerStats) -> None:
        """Adds what is known of the chunk whose first frame was put last.

        At most one waits, and the newest is the one: frames never go for its sake. Of a
        frame that was dropped nothing is told.

        Args:
            stats: Its alone; what only the queue knows is filled in.
        """
        if self._skipping:
            return
        stats.frames_dropped = self.dropped
        self._stats, self._before_stats = stats, len(self._frames)

    def take(self) -> EncodedFrame | media_pb2.ViewerStats | None:
        """Returns what is next, or None when there is nothing."""
        if self._stats is not None:
            if not self._before_stats:
                stats, self._stats = self._stats, None
                return stats
            self._before_stats -= 1
        return self._frames.popleft() if self._frames else None

    def _may_ask(self, now: float) -> bool:
        if now - self._asked_at < KEYFRAME_INTERVAL_S:
            return False
        self._asked_at = now
        return True


class MediaOutbox(Outbox[media_pb2.MediaResponse]):
    """The responses of a Media call: the few words first, then frames.

    Any number of waiting keyframe requests are one.
    """

    def __init__(self, frame_limit: int = FRAME_LIMIT) -> None:
        super().__init__()
        self.frames = FrameQueue(frame_limit)
        self._keyframe_asked = False

    def put_frame(self, frame: EncodedFrame) -> bool:
        """Adds a frame, or drops it; returns whether to ask for a keyframe."""
        if self.closed:
            return False
        wanted = self.frames.put(frame, asyncio.get_running_loop().time())
        self._wake()
        return wanted

    def put_stats(self, stats: media_pb2.ViewerStats) -> None:
        """Adds what is known of the chunk whose first frame was put last."""
        if not self.closed:
            self.frames.put_stats(stats)
            self._wake()

    def ask_keyframe(self) -> None:
        """Asks the publisher for a keyframe of the camera."""
        self._keyframe_asked = True
        self._wake()

    def _next(self) -> media_pb2.MediaResponse | None:
        word = super()._next()
        if word is not None:
            return word
        if self._keyframe_asked:
            self._keyframe_asked = False
            return media_pb2.MediaResponse(keyframe=media_pb2.KeyframeRequest())
        following = self.frames.take()
        if following is None:
            return None
        if isinstance(following, media_pb2.ViewerStats):
            return media_pb2.MediaResponse(stats=following)
        return _video(following)


def _video(frame: EncodedFrame) -> media_pb2.MediaResponse:
    # Filled in place: a frame that is handed to a constructor is copied once more.
    response = media_pb2.MediaResponse()
    video = response.video
    video.data = frame.data
    video.keyframe = frame.keyframe
    video.timestamp_us = frame.timestamp_us
    video.run = frame.run
    video.chunk = frame.chunk
    video.frame = frame.frame
    video.codec = frame.codec
    video.source_us = frame.source_us
    video.held = frame.held
    video.rung = frame.rung
    return response
