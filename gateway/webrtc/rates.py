"""What the network of a client carries, each way. Pure.

Both ways the receiver estimates and tells the sender by REMB. Such an estimate follows
what is received, so it says little while the sender has little to send; both classes here
keep a quiet spell from being taken for a narrow network.
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
HEADROOM: Final = 1.1
"""An estimate above the rate sent by this share is no limit that was met."""
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
    """What a viewer's network is known to carry, out of what it reports.

    A report binds when it is below what was sent, for then the network was the limit;
    otherwise it only ever raises the estimate.
    """

    def __init__(self) -> None:
        self._estimate = NOMINAL_BPS
        self._sent_bps = 0.0
        self._sent_at: float | None = None

    def sent(self, octets: int, now: float) -> None:
        """Counts what was sent, at `now` seconds."""
        self._sent_bps = self._rate(now) + octets * 8 / _WINDOW_S
        self._sent_at = now

    def reported(self, bits_per_second: int, now: float) -> int | None:
        """Takes a report and returns the new estimate, or None when it says nothing new."""
        limited = bits_per_second < HEADROOM * self._rate(now)
        if not limited and bits_per_second <= self._estimate:
            return None
        self._estimate = bits_per_second
        return bits_per_second

    def _rate(self, now: float) -> float:
        """The rate sent of late: an average that forgets in `_WINDOW_S`."""
        if self._sent_at is None:
            return 0.0
        return self._sent_bps * math.exp(-max(0.0, now - self._sent_at) / _WINDOW_S)
