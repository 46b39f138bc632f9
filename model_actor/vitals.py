"""What an actor measures of itself, for the ledgers of the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from model_actor.engine.encoder_pool import EncoderPool
from sana_gateway_internal.v1 import placement_pb2

ENOUGH_S = 5.0
"""Seconds of pictures that must have been encoded before their cost says something."""
FORGET = 0.98
"""What weight remains, from one heartbeat to the next, to what was measured before."""
DECLARED_ENCODE_MS = 200.0
"""CPU-milliseconds of encoding a second of 1280x704 at 24 fps, until it was measured: about
8 ms a frame for VP8 and 5 ms for H.264 (docs/performance.md)."""
DECLARED_PIXELS = 1280 * 704 * 24


class Measured(Protocol):
    """A session, as far as it is measured."""

    def take_chunks(self) -> tuple[int, int]:
        """Returns chunks finished since the last call, and the late ones of them."""

    def take_encoded(self) -> float:
        """Returns the seconds of its picture that were encoded since the last call."""

    @property
    def kept_size(self) -> int:
        """Bytes of its model's state when it was last kept."""


class Vitals:
    """Sums up what sessions and encoders did between heartbeats."""

    def __init__(self, encoders: EncoderPool) -> None:
        """Begins to measure."""
        self._encoders = encoders
        self._busy_s = encoders.busy_s
        self._cpu_s = 0.0
        self._encoded_s = 0.0
        self._kept_size = 0
        self._computed = (0, 0)

    def heartbeat(
        self,
        sessions: Sequence[Measured],
        *,
        chunk_ms: float,
        computed: tuple[int, int],
        ends_in_s: float | None,
    ) -> placement_pb2.Heartbeat:
        """Returns what is told now.

        Args:
            sessions: The sessions of the actor.
            chunk_ms: Measured compute of a steady window; 0 while unknown.
            computed: Windows so far, and calls of the model that they took.
            ends_in_s: When the process ends; None: nobody has told it to.
        """
        finished = [each.take_chunks() for each in sessions]
        busy_s = self._encoders.busy_s
        self._cpu_s = self._cpu_s * FORGET + busy_s - self._busy_s
        self._busy_s = busy_s
        self._encoded_s = self._encoded_s * FORGET + sum(each.take_encoded() for each in sessions)
        self._kept_size = max([self._kept_size, *(each.kept_size for each in sessions)])
        before, self._computed = self._computed, computed
        return placement_pb2.Heartbeat(
            chunk_ms=chunk_ms,
            encode_ms=self._cpu_s / self._encoded_s * 1e3 if self._encoded_s > ENOUGH_S else 0.0,
            chunks=sum(chunks for chunks, _ in finished),
            late_chunks=sum(late for _, late in finished),
            windows=computed[0] - before[0],
            batches=computed[1] - before[1],
            ends_in_us=0 if ends_in_s is None else max(1, round(ends_in_s * 1e6)),
        )

    @property
    def kept_size(self) -> int:
        """Bytes of the largest state of a session that was kept."""
        return self._kept_size
