"""The frames that wait to be sent to one WebRTC viewer."""

from __future__ import annotations

from collections import deque
from typing import Final

from gateway.ports import EncodedFrame

CAPACITY: Final = 48
"""Frames that may wait: two seconds."""
ASK_INTERVAL_US: Final = 500_000
"""Play-out time between two requests for a keyframe."""


class ViewerQueue:
    """Encoded frames in the order of play-out, from a keyframe on.

    An encoded frame is never dropped singly: on overflow everything that waits goes, and
    so does what comes up to the next keyframe.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._frames: deque[EncodedFrame] = deque()
        self._broken = True
        self._asked_us: int | None = None
        self.overflows = 0
        """Times the viewer fell behind."""
        self.dropped = 0
        """Frames that were not sent for it."""

    def put(self, frame: EncodedFrame) -> bool:
        """Adds a frame, or drops it.

        Returns:
            Whether a keyframe has to be asked for.
        """
        if len(self._frames) >= self._capacity:
            self.overflows += 1
            self.dropped += len(self._frames)
            self.restart()
        if self._broken and not frame.keyframe:
            self.dropped += 1
            return self._ask(frame.timestamp_us)
        self._broken = False
        self._asked_us = None
        self._frames.append(frame)
        return False

    def take(self) -> EncodedFrame | None:
        """Returns the next frame, or None when there is none."""
        return self._frames.popleft() if self._frames else None

    def restart(self) -> None:
        """Forgets what waits; the next frame taken is a keyframe."""
        self._frames.clear()
        self._broken = True

    def _ask(self, now_us: int) -> bool:
        if self._asked_us is not None and now_us - self._asked_us < ASK_INTERVAL_US:
            return False
        self._asked_us = now_us
        return True
