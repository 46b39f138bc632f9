"""What the network of a client carries, each way. Pure.

A camera is told what it may send by REMB. What a viewer is sent is bounded by what its
reports show of the packets on their way (`gateway.webrtc.evidence`). Either way what is
received is no more than what is sent: a quiet spell must not be taken for a narrow network.
"""

from __future__ import annotations

import math
from typing import Final

from gateway.webrtc.evidence import Evidence

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
"""A viewer's own estimate above the rate sent by this share is no limit that was met."""
REPORT_GROWTH: Final = 1.08
"""How the viewer's own estimate recovers with every report that shows no limit."""

QUEUE_S: Final = 0.05
"""A delay above the least by this, and growing, is a queue."""
HEAVY_LOSS: Final = 0.10
"""Share of lost packets above which the network is overloaded."""
LIGHT_LOSS: Final = 0.05
"""Share of lost packets below which it may carry more."""
REACTION_S: Final = 0.2
"""Shortest time between two falls for a queue."""
LOSS_REACTION_S: Final = 0.8
"""Shortest time between two falls for loss without a queue: until it shows what the last did."""
SLOW_GROWTH: Final = 1.08
"""Growth in a second near what the network was seen to carry, ..."""
BLIND_GROWTH: Final = 1.2
"""... where nothing was seen, ..."""
FAST_GROWTH: Final = 1.6
"""... and where frames show that the network is much wider."""
WIDER: Final = 1.3
"""How much wider."""
CONGESTED_S: Final = 1.0
"""A fall makes the network count as congested for this long."""
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
    """What a viewer's network is known to carry.

    It falls at once below what is delivered when a queue grows, or packets are lost: the
    network is full then, and what it delivers is what it carries. It grows while delay and
    loss are low. How far is told by the packets of a frame: they leave together and arrive
    at the rate of the narrowest link, so every frame probes the network, without padding.
    (After the delay- and loss-based controllers of draft-ietf-rmcat-gcc-02, sections 5, 6.)

    Loss that stays as it is when less is sent is not of our making: it is the network's
    own, and only what exceeds it counts.

    The viewer's own estimate (REMB), from those who send it, is an upper bound; it binds
    when it is below what was sent, for then the network was the limit.
    """

    def __init__(self) -> None:
        self._carried = float(NOMINAL_BPS)
        self._by_viewer = float(USEFUL_BPS)
        self._own_loss = 0.0
        self._fall: tuple[float, float] | None = None
        """(when, share lost) of the last fall for loss alone, until it is judged."""
        self._fell_at = self._loss_fell_at = self._viewer_moved_at = float("-inf")
        self._congested_at = float("-inf")
        self._observed_at: float | None = None
        self._sent_bps = 0.0
        self._sent_at: float | None = None
        self._told = self.value

    @property
    def value(self) -> int:
        """The estimate in bits per second."""
        return round(min(self._carried, self._by_viewer))

    @property
    def congested_until(self) -> float:
        """Until when the network counts as congested: more was sent than it carried."""
        return self._congested_at + CONGESTED_S

    def sent(self, octets: int, now: float) -> None:
        """Counts what was sent, at `now` seconds."""
        self._sent_bps = self._rate(now) + octets * 8 / _WINDOW_S
        self._sent_at = now

    def observed(self, seen: Evidence, now: float) -> int | None:
        """Takes what reports show; returns the estimate, or None when it is as before."""
        elapsed = 0.0 if self._observed_at is None else min(1.0, now - self._observed_at)
        self._observed_at = now
        queue = seen.queue_s > QUEUE_S
        loss = self._foreign(seen, queue=queue, now=now)
        if queue and (seen.grows or (seen.timed and loss > HEAVY_LOSS)):
            if now - self._fell_at >= REACTION_S:
                self._fell_at = self._congested_at = now
                self._fall_to(BACK_OFF * self._full(seen))
        elif loss > HEAVY_LOSS:
            # What a queue could not hold is told of after it has drained.
            if now - max(self._fell_at, self._loss_fell_at) >= LOSS_REACTION_S:
                self._loss_fell_at, self._fall = now, (now, seen.loss)
                if seen.timed or self._full(seen) == self._carried:
                    self._fall_to(self._carried * (1 - seen.loss / 2))
                else:
                    self._congested_at = now
                    self._fall_to(BACK_OFF * seen.delivered_bps)
        elif not queue and loss < LIGHT_LOSS:
            self._grow(seen, elapsed)
        return self._news()

    def estimated(self, bits_per_second: int, now: float) -> int | None:
        """Takes the viewer's own estimate; returns ours, or None when it is as before."""
        if bits_per_second < HEADROOM * self._rate(now):
            self._by_viewer = _bounded(bits_per_second)
            self._viewer_moved_at = now
        elif now - self._viewer_moved_at >= LOSS_REACTION_S:
            self._by_viewer = _bounded(max(bits_per_second, self._by_viewer * REPORT_GROWTH))
            self._viewer_moved_at = now
        return self._news()

    def _foreign(self, seen: Evidence, *, queue: bool, now: float) -> float:
        """Returns the share of packets lost beyond what the network loses anyway."""
        self._own_loss = min(self._own_loss, 1.5 * seen.loss)
        if queue:
            self._fall = None
        elif self._fall is not None and now - self._fall[0] >= LOSS_REACTION_S:
            followed = _sent_bps(seen) < HEADROOM * self._carried
            if followed and seen.loss > 0.6 * self._fall[1]:
                self._own_loss = seen.loss
            self._fall = None
        return seen.loss - self._own_loss

    def _full(self, seen: Evidence) -> float:
        """Returns what a network carries that is full."""
        if seen.full_bps is not None:
            return seen.full_bps
        # It may deliver little because it was sent little.
        met = not seen.timed and _sent_bps(seen) > self._carried / HEADROOM
        return min(self._carried, seen.delivered_bps) if met else self._carried

    def _fall_to(self, bits_per_second: float) -> None:
        self._carried = _bounded(min(self._carried, bits_per_second))

    def _grow(self, seen: Evidence, elapsed: float) -> None:
        width = seen.width_bps
        if width is None:
            # What is beyond, the next try of a higher rung will tell.
            growth, ceiling = BLIND_GROWTH, float(NOMINAL_BPS)
        else:
            wide = width > WIDER * self._carried
            growth, ceiling = FAST_GROWTH if wide else SLOW_GROWTH, width
        grown = self._carried * growth**elapsed
        self._carried = _bounded(max(self._carried, min(grown, ceiling)))

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


class Outflow:
    """How much of what a congested viewer was sent its network still has to carry. Pure.

    What exceeds the estimate waits in the network, where it delays all that follows, and
    is lost in the end. So past a bound nothing is sent until what waits has drained.
    """

    def __init__(self) -> None:
        self._bits_per_second = float(NOMINAL_BPS)
        self._bits = 0.0
        self._at: float | None = None

    def limit(self, bits_per_second: int, now: float) -> None:
        """The network carries so much from `now` seconds on."""
        self._flow(now)
        self._bits_per_second = float(bits_per_second)

    def sent(self, octets: int, now: float) -> None:
        """Counts what is sent."""
        self._flow(now)
        self._bits += octets * 8

    def waits_s(self, now: float) -> float:
        """Returns how long what was sent takes to drain."""
        self._flow(now)
        return self._bits / self._bits_per_second

    def _flow(self, now: float) -> None:
        if self._at is not None:
            drained = self._bits_per_second * max(0.0, now - self._at)
            self._bits = max(0.0, self._bits - drained)
        self._at = now


def _sent_bps(seen: Evidence) -> float:
    return seen.delivered_bps / max(0.1, 1 - seen.loss)


def _bounded(bits_per_second: float) -> float:
    return min(USEFUL_BPS, max(LEAST_BPS, bits_per_second))
