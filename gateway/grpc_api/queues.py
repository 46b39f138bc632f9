"""What waits to be written to a client: bounded queues, each with its rule."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Generic, TypeVar

from gateway.ports import EncodedFrame
from sana_gateway.v1 import media_pb2
from scheduler.core.errors import LimitError

OUTBOX_LIMIT: Final = 1024
"""Responses that may wait for a client that does not read."""
FRAME_LIMIT: Final = 48
"""Frames that may wait for a client that does not read: two seconds."""

Item = TypeVar("Item")


class Outbox(Generic[Item]):
    """Responses in their order, with an end.

    On overflow everything that waits is dropped and the stream fails: messages are
    never dropped singly, and the client can come again and resume by revision.
    """

    def __init__(self, limit: int = OUTBOX_LIMIT) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        self._more = asyncio.Event()
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
            self.abort(LimitError("the client does not read its messages", retry_after_s=0.0))
            return
        self._items.append(item)
        self._more.set()

    def close(self, error: Exception | None = None) -> None:
        """Ends the stream after what waits. The first end counts.

        Args:
            error: What `take` raises then; without one the stream ends well.
        """
        if not self._closed:
            self._closed, self._error = True, error
            self._more.set()

    def abort(self, error: Exception) -> None:
        """Ends the stream at once: what waits is dropped."""
        self._items.clear()
        self._closed, self._error = True, error
        self._more.set()
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
            self._more.clear()
            await self._more.wait()
        return item

    def _next(self) -> Item | None:
        return self._items.popleft() if self._items else None


class FrameQueue:
    """Encoded frames for one viewer.

    An encoded frame is never dropped singly. On overflow everything that waits goes,
    and so does what comes up to the next keyframe, which the owner asks for: a viewer
    that fell behind sees a jump and is then current again.
    """

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._limit = limit
        self._frames: deque[EncodedFrame] = deque()
        self._skipping = False
        self.dropped = 0
        """Frames that were not sent."""

    def put(self, frame: EncodedFrame) -> bool:
        """Adds a frame, or drops it.

        Returns:
            Whether to ask for a keyframe.
        """
        if len(self._frames) >= self._limit:
            self.dropped += len(self._frames)
            self._frames.clear()
            self._skipping = True
        if self._skipping and not frame.keyframe:
            self.dropped += 1
            return True
        self._skipping = False
        self._frames.append(frame)
        return False

    def take(self) -> EncodedFrame | None:
        """Returns the next frame, or None when there is none."""
        return self._frames.popleft() if self._frames else None


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
        wanted = self.frames.put(frame)
        self._more.set()
        return wanted

    def ask_keyframe(self) -> None:
        """Asks the publisher for a keyframe of the camera."""
        self._keyframe_asked = True
        self._more.set()

    def _next(self) -> media_pb2.MediaResponse | None:
        word = super()._next()
        if word is not None:
            return word
        if self._keyframe_asked:
            self._keyframe_asked = False
            return media_pb2.MediaResponse(keyframe=media_pb2.KeyframeRequest())
        frame = self.frames.take()
        return None if frame is None else media_pb2.MediaResponse(video=_video(frame))


def _video(frame: EncodedFrame) -> media_pb2.VideoFrame:
    return media_pb2.VideoFrame(
        data=frame.data,
        keyframe=frame.keyframe,
        timestamp_us=frame.timestamp_us,
        run=frame.run,
        chunk=frame.chunk,
        frame=frame.frame,
        codec=frame.codec,
    )
