"""The rate to ask of a publisher: aiortc's delay-based detector, fed once a frame.

Sources: draft-ietf-rmcat-gcc-02 section 5 (the detector); abs-send-time as in
http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from aiortc import rate
from aiortc.rate import (
    INTER_ARRIVAL_SHIFT,
    TIMESTAMP_GROUP_LENGTH_MS,
    TIMESTAMP_TO_MS,
    BandwidthUsage,
    InterArrival,
    OveruseDetector,
    OveruseEstimator,
)

from gateway.webrtc.aiortc_adapter.guard import uses
from gateway.webrtc.assembly import CLOCK_RATE
from gateway.webrtc.rates import UplinkRate

_WINDOW_MS: Final = 1000

uses(rate, "INTER_ARRIVAL_SHIFT", "TIMESTAMP_GROUP_LENGTH_MS", "TIMESTAMP_TO_MS")
uses(InterArrival, compute_deltas="self timestamp arrival_time packet_size")
uses(
    OveruseEstimator,
    update="self time_delta_ms timestamp_delta_ms size_delta current_hypothesis now_ms",
)
uses(OveruseDetector, detect="self offset timestamp_delta_ms num_of_deltas now_ms")


def send_time_of(extension: bytes | None, timestamp: int) -> int:
    """Returns when a packet was sent: 32 bits, 2^26 a second.

    Args:
        extension: Its header extension abs-send-time, if it has one.
        timestamp: Its RTP timestamp, which tells the time of capture instead.
    """
    if extension is not None and len(extension) == 3:
        return int.from_bytes(extension, "big") << 8
    return (timestamp << INTER_ARRIVAL_SHIFT) // CLOCK_RATE & 0xFFFFFFFF


class UplinkEstimator:
    """Estimates one stream. A frame is what the detector calls a group: packets that were
    sent together.
    """

    def __init__(self) -> None:
        group = (TIMESTAMP_GROUP_LENGTH_MS << INTER_ARRIVAL_SHIFT) // 1000
        self._arrivals = InterArrival(group, TIMESTAMP_TO_MS)
        self._estimator = OveruseEstimator()
        self._detector = OveruseDetector()
        self._control = UplinkRate()
        self._updated_ms: int | None = None
        self._window: deque[tuple[int, int]] = deque()
        self._octets = 0

    def frame(self, send_time: int, now_ms: int, octets: int) -> int | None:
        """Takes note of a frame.

        Args:
            send_time: When its last packet was sent, as in the header extension: 32 bits,
                2^26 a second.
            now_ms: When that packet arrived.
            octets: Size of all its packets.

        Returns:
            The rate to report now, in bits per second; None: nothing to report.
        """
        received = self._received(now_ms, octets)
        deltas = self._arrivals.compute_deltas(send_time, now_ms, octets)
        if deltas is not None:
            step_ms = deltas.timestamp * TIMESTAMP_TO_MS
            self._estimator.update(
                deltas.arrival_time, step_ms, deltas.size, self._detector.state(), now_ms
            )
            self._detector.detect(
                self._estimator.offset(), step_ms, self._estimator.num_of_deltas(), now_ms
            )
        overused = self._detector.state() is BandwidthUsage.OVERUSING
        due = (
            self._updated_ms is None
            or now_ms - self._updated_ms > self._control.feedback_interval()
        )
        if not (overused or due):
            return None
        rate = self._control.update(queue_grows=overused, received_bps=received, now_ms=now_ms)
        if rate is not None:
            self._updated_ms = now_ms
        return rate

    def _received(self, now_ms: int, octets: int) -> int | None:
        """Returns the rate of the last second, in bits per second; None: not known yet."""
        self._window.append((now_ms, octets))
        self._octets += octets
        while now_ms - self._window[0][0] > _WINDOW_MS:
            self._octets -= self._window.popleft()[1]
        span_ms = now_ms - self._window[0][0]
        return self._octets * 8000 // span_ms if span_ms > 0 else None
