"""What the network of a client carries, each way. Pure.

Both ways the receiver estimates and tells the sender by REMB, and by how much it lost.
Such an estimate follows what is received, so it says little while the sender has little
to send; both classes here keep a quiet spell from being taken for a narrow network.
"""

from __future__ import annotations

import math
from typing import Final

LIMIT_BPS: Final = 4_000_000
"""Most that a camera of the model's size has use for."""
FLOOR_BPS: Final = 250_000
"""Least that is asked of a camera."""
BACK_OFF: Final = 0.85
"""Share of the received rate that is asked for when a queue grows."""
GROWTH_PER_S: Final = 1.25
"""How the rate recovers."""
REPORT_INTERVAL_MS: Final = 500
"""Time between two reports."""
FALL_INTERVAL_MS: Final = 200
"""Shortest time between two falls: about a round trip, for the publisher to react."""

NOMINAL_BPS: Final = 2_500_000
"""What a viewer's network is taken to carry until it has shown otherwise."""
USEFUL_BPS: Final = 4_000_000
"""Most that a viewer of the model's size has use for."""
LEAST_BPS: Final = 150_000
"""No network is taken for narrower."""
HEADROOM: Final = 1.1
"""A report above the rate sent by this share is no limit that was met."""
HEAVY_LOSS: Final = 0.10
"""Share of lost packets above which the network is overloaded."""
LIGHT_LOSS: Final = 0.02
"""Share of lost packets below which it is not."""
REPORT_GROWTH: Final = 1.08
"""How an estimate recovers with every report that shows no limit."""
REACTION_S: Final = 0.5
"""Shortest time between two moves: until a report shows what the last one did."""
_WINDOW_S: Final = 1.0


class UplinkRate:
    """The rate that a publisher is told.

    The delay-based detector stays aiortc's, whose own rate control follows the received
    rate upwards and so keeps a camera below 0.7 Mbit/s for a quarter of a minute on an
    idle network. This one starts at the limit and falls when the detector sees a queue
    growing: a camera is sharp from its first second.
    """

    def __init__(self) -> None:
        self._rate = float(LIMIT_BPS)
        self._updated_ms: int | None = None

    def feedback_interval(self) -> int:
        """Returns the milliseconds between two calls of `update` while all is well."""
        return REPORT_INTERVAL_MS

    def update(self, *, queue_grows: bool, received_bps: int | None, now_ms: int) -> int | None:
        """Returns the rate to report now, in bits per second; None: nothing to report.

        Args:
            queue_grows: Whether the detector finds the path overused.
            received_bps: What arrives, if known.
            now_ms: The time.
        """
        elapsed_ms = REPORT_INTERVAL_MS if self._updated_ms is None else now_ms - self._updated_ms
        if queue_grows:
            if elapsed_ms < FALL_INTERVAL_MS or received_bps is None:
                return None
            self._rate = max(FLOOR_BPS, min(self._rate, BACK_OFF * received_bps))
        else:
            self._rate = min(LIMIT_BPS, self._rate * GROWTH_PER_S ** (elapsed_ms / 1000))
        self._updated_ms = now_ms
        return round(self._rate)


class DownlinkEstimate:
    """What a viewer's network is known to carry, out of what the viewer reports.

    Two bounds, of which the lower counts. The viewer's own estimate (REMB) knows of
    growing queues; it binds when it is below what was sent, for then the network was the
    limit. Lost packets speak of networks that drop before they queue, and of viewers who
    send no estimate: above a tenth they lower their bound by half their share, below a
    fiftieth it grows (the loss-based half of Google's congestion control,
    draft-ietf-rmcat-gcc-02 section 6).
    """

    def __init__(self) -> None:
        self._by_queue: float = USEFUL_BPS
        self._by_loss: float = NOMINAL_BPS
        self._queue_moved_at = float("-inf")
        self._loss_moved_at = float("-inf")
        self._sent_bps = 0.0
        self._sent_at: float | None = None
        self._told = self.value

    @property
    def value(self) -> int:
        """The estimate in bits per second."""
        return round(min(self._by_queue, self._by_loss))

    def sent(self, octets: int, now: float) -> None:
        """Counts what was sent, at `now` seconds."""
        self._sent_bps = self._rate(now) + octets * 8 / _WINDOW_S
        self._sent_at = now

    def estimated(self, bits_per_second: int, now: float) -> int | None:
        """Takes the viewer's estimate and returns ours, or None when it is as before."""
        if bits_per_second < HEADROOM * self._rate(now):
            self._by_queue = _bounded(bits_per_second)
            self._queue_moved_at = now
        elif now - self._queue_moved_at >= REACTION_S:
            self._by_queue = _bounded(max(bits_per_second, self._by_queue * REPORT_GROWTH))
            self._queue_moved_at = now
        return self._news()

    def lost(self, fraction: float, now: float) -> int | None:
        """Takes the share of packets that were lost of late and returns our estimate,
        or None when it is as before.
        """
        if now - self._loss_moved_at >= REACTION_S:
            if fraction > HEAVY_LOSS:
                self._by_loss = _bounded(self._by_loss * (1 - fraction / 2))
                self._loss_moved_at = now
            elif fraction < LIGHT_LOSS:
                self._by_loss = _bounded(self._by_loss * REPORT_GROWTH)
                self._loss_moved_at = now
        return self._news()

    def _news(self) -> int | None:
        value = self.value
        if value == self._told:
            return None
        self._told = value
        return value

    def _rate(self, now: float) -> float:
        """The rate sent of late: an average that forgets in `_WINDOW_S`."""
        if self._sent_at is None:
            return 0.0
        return self._sent_bps * math.exp(-max(0.0, now - self._sent_at) / _WINDOW_S)


def _bounded(bits_per_second: float) -> float:
    return min(USEFUL_BPS, max(LEAST_BPS, bits_per_second))
