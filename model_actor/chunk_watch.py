"""Chunks that were made, for who follows them: counted always, told one by one when asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from model_actor.engine.tracing import WindowTiming
from model_actor.metrics import CHUNKS, LATE_CHUNKS, WAITS
from sana_gateway.v1 import event_pb2
from sana_gateway_internal.v1 import stream_pb2

MOST: Final = 128
"""Chunks that are told with one heartbeat: of sixty sessions, a second's."""


class ChunkWatch:
    """The chunks of an actor.

    Args:
        model: Name of its model.
    """

    def __init__(self, model: str) -> None:
        self._made = CHUNKS.labels(model)
        self._late = LATE_CHUNKS.labels(model)
        self._waits = WAITS.labels(model)
        self._told: list[event_pb2.ChunkEvent] = []
        self.watched = False
        """Whether somebody follows them."""

    def watch(self, *, watched: bool) -> None:
        """Somebody follows them from now on, or nobody does any more."""
        self.watched = watched
        if not watched:
            self._told = []

    def made(
        self,
        chunks: Sequence[stream_pb2.ChunkReady],
        *,
        late: bool,
        timing: WindowTiming,
        slack_s: float | None,
    ) -> None:
        """Chunks of one window were finished.

        Args:
            chunks: Which.
            late: Whether the play-out clock has to wait for them.
            timing: When their window had its turn, and what it took.
            slack_s: Time left until the first of them is due; None where nothing is due.
        """
        self._waits.observe(timing.dispatched_at - timing.ready_at)
        self._made.inc(len(chunks))
        if late:
            self._late.inc(len(chunks))
        if self.watched:
            self._tell(chunks, late=late, timing=timing, slack_s=slack_s)

    def take(self) -> Sequence[event_pb2.ChunkEvent]:
        """Returns what is told since the last call."""
        told, self._told = self._told, []
        return told

    def _tell(
        self,
        chunks: Sequence[stream_pb2.ChunkReady],
        *,
        late: bool,
        timing: WindowTiming,
        slack_s: float | None,
    ) -> None:
        now, began = now_by_the_clock(), Timestamp()
        began.FromMicroseconds(round(timing.dispatched_at * 1e6))
        for chunk in chunks[: MOST - len(self._told)]:
            ahead_s = (chunk.first_frame - chunks[0].first_frame) / chunk.frame_rate
            self._told.append(
                event_pb2.ChunkEvent(
                    session_id=chunk.session_id,
                    run=chunk.run,
                    chunk=chunk.chunk,
                    finish_time=now,
                    slack_us=0 if slack_s is None else round((slack_s + ahead_s) * 1e6),
                    late=late,
                    compute_us=round(timing.compute_s * 1e6),
                    begin_time=began,
                    wait_us=round((timing.dispatched_at - timing.ready_at) * 1e6),
                    batch=timing.batch,
                )
            )


def now_by_the_clock() -> Timestamp:
    """Returns the present by this machine's clock, as the times of chunks are told."""
    now = Timestamp()
    now.FromMicroseconds(round(time.time() * 1e6))
    return now
