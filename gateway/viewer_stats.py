"""The server's shares of glass to glass and of prompt to pixels, chunk by chunk.

Pure. A duration begins and ends at this gateway, so that no two clocks are compared:
camera frames and announcements go in as they arrive, and at the first frame of a chunk a
`ViewerStats` comes out, which the viewer completes with what only it knows.
"""

from __future__ import annotations

from collections import deque

from gateway.ports import EncodedFrame
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2

CAMERA_FRAMES = 512
"""Camera frames whose arrival is remembered: about ten seconds; the oldest go first."""
CHUNKS = 64
"""Chunks that answer a command and are remembered; the oldest go first."""
NEAR_US = 250_000
"""A source time further than this from every camera frame is not this camera's."""


class ViewerClock:
    """What has arrived and is to be measured against its hand-out.

    `now` is in seconds on any monotonic clock, the same in all calls.
    """

    def __init__(self) -> None:
        """Has seen nothing."""
        self._camera: deque[tuple[int, float]] = deque(maxlen=CAMERA_FRAMES)
        self._asked_at: dict[tuple[int, int], float] = {}

    def camera_frame(self, timestamp_us: int, now: float) -> None:
        """A frame of the camera arrived here, complete.

        To be told of only while the session is in live mode: a clip has source times too.
        A time that falls is another publisher's: what came before is forgotten.

        Args:
            timestamp_us: Its capture time on the publisher's clock.
            now: The time.
        """
        if self._camera and timestamp_us < self._camera[-1][0]:
            self._camera.clear()
        self._camera.append((timestamp_us, now))

    def publisher_changed(self) -> None:
        """Another publisher's clock follows, or none."""
        self._camera.clear()

    def chunk(self, ready: stream_pb2.ChunkReady, now: float) -> None:
        """A chunk was announced. One that is announced again keeps its times."""
        if not ready.answers_command:
            return
        self._asked_at.setdefault((ready.run, ready.chunk), now - ready.command_age_us / 1e6)
        while len(self._asked_at) > CHUNKS:
            del self._asked_at[next(iter(self._asked_at))]

    def abandon(self) -> None:
        """The run was abandoned: what was announced is not shown."""
        self._asked_at.clear()

    def first_frame(
        self, frame: EncodedFrame, due_at: float, now: float, buffered: int, underruns: int
    ) -> media_pb2.ViewerStats:
        """Returns what is known when the first frame of a chunk is handed out.

        Args:
            frame: That frame. Another rung or codec of the same frame may follow.
            due_at: When it was due.
            now: The time.
            buffered: Frames announced and not yet handed out.
            underruns: Times the play-out clock had to wait in this run.
        """
        stats = media_pb2.ViewerStats(
            run=frame.run,
            chunk=frame.chunk,
            frame=frame.frame,
            timestamp_us=frame.timestamp_us,
            source_us=frame.source_us,
            late_us=max(0, round((now - due_at) * 1e6)),
            buffered=buffered,
            underruns=underruns,
            rung=frame.rung,
        )
        arrived_at = self._arrival(frame.source_us)
        if arrived_at is not None:
            stats.source_to_emit_us = _duration_us(arrived_at, now)
        asked_at = self._asked_at.get((frame.run, frame.chunk))
        if asked_at is not None:
            stats.command_to_emit_us = _duration_us(asked_at, now)
        return stats

    def _arrival(self, source_us: int) -> float | None:
        """Returns when the camera frame nearest to a source time arrived.

        Source times are slots of the model's frame rate, which a frame taken shortly before
        or after the slot may fill; and clocks of cameras round.
        """
        nearest: tuple[int, float] | None = None
        for timestamp_us, arrived_at in reversed(self._camera):
            distance = abs(timestamp_us - source_us)
            if nearest is not None and distance > nearest[0]:
                break
            nearest = (distance, arrived_at)
        if nearest is None or nearest[0] > NEAR_US:
            return None
        return nearest[1]


def _duration_us(begin: float, end: float) -> int:
    """Returns microseconds, at least 1: 0 says that nothing was measured."""
    return max(1, round((end - begin) * 1e6))
