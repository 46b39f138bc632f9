"""What the packets of a viewer went through on their way. Pure.

Two sources say so. Transport-wide feedback tells when each single packet came (`Flight`).
Receiver reports tell how many came at all, and how long the way there and back takes
(`Reports`); of one report nothing is believed, as browsers send one with every NACK and
its share of lost packets then is 0 or nearly 1: only differences over a window count.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from gateway.webrtc.feedback import Feedback

CAPACITY: Final = 4096
"""Packets whose numbers are remembered."""
WINDOW_S: Final = 0.35
"""How far back arrivals count: eight frames, and what a full link carries in that time."""
LOSS_WINDOW_S: Final = 0.5
"""How far back losses count, ..."""
LOSS_PACKETS: Final = 20
"""... unless there were fewer packets."""
WIDTH_WINDOW_S: Final = 1.0
"""How far back packets count that had to queue, ..."""
WIDTH_PACKETS: Final = 6
"""... and the least of them to say how wide the network is."""
TOGETHER_S: Final = 0.01
"""Packets that left within this time of each other left together."""
GROWTH_S: Final = 0.015
"""A delay that grew by this ..."""
GROWTH_WINDOW_S: Final = 1.0
"""... within this time grows."""
BASE_S: Final = 3.0
"""The least delay is that of the last one to two spans of this length."""
OVERHEAD: Final = 44
"""Bytes of a packet below RTP: SRTP's tag, UDP, IPv4."""
REPORTS: Final = 256
"""Receiver reports that are remembered."""
REPORT_WINDOW_S: Final = 0.5
"""Least time between two receiver reports that are compared."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """How the network carries what is sent over it."""

    delivered_bps: float
    """What arrived of late, in bits per second: no more than what was sent."""
    queue_s: float
    """By how much the way takes longer than it did at best."""
    grows: bool
    """Whether it takes longer than it did a moment ago."""
    loss: float
    """Share of the packets that were lost of late, 0 to 1."""
    full_bps: float | None = None
    """The rate at which packets arrived of late that had to wait for those before them, for
    they left together or met a queue: what the network carries when it is full. None:
    there were too few."""
    width_bps: float | None = None
    """The same over a longer time."""
    timed: bool = True
    """Whether the delay of every packet is known, so that no queue escapes notice."""


class LeastDelay:
    """The least of the delays of late: what the way takes without queues.

    It is forgotten in time, for ways change.
    """

    def __init__(self) -> None:
        self._now = self._before = float("inf")
        self._since = float("-inf")

    def take(self, delay_s: float, now: float) -> None:
        """Takes a delay."""
        if now - self._since >= BASE_S:
            self._before, self._now, self._since = self._now, float("inf"), now
        self._now = min(self._now, delay_s)

    @property
    def value(self) -> float:
        """The least delay."""
        return min(self._now, self._before)


class Flight:
    """The packets that were sent, by their transport-wide numbers, until they are told of."""

    def __init__(self) -> None:
        self._next = 0
        self._sent: list[tuple[int, float, int, bool] | None] = [None] * CAPACITY
        """(number, when, bytes, whether it is the first of a burst) of each packet."""
        self._last_sent_at = float("-inf")
        self._told = -1
        """Highest number that was told of."""
        self._arrived: deque[tuple[float, int]] = deque()
        """(when, bytes) of what came."""
        self._heads: deque[tuple[float, float]] = deque()
        """(when, delay) of the first packet of each burst: the others wait for it."""
        self._least = LeastDelay()
        self._queue_s = 0.0
        self._followed: deque[tuple[float, int, float]] = deque()
        """(when, bytes, time after the one before) of packets that had to wait for it."""
        self._before: tuple[int, float] = (-1, 0.0)
        """Number and arrival of the packet that was told of last."""
        self._counts: deque[tuple[float, int, int]] = deque()
        """(when, packets that came, packets lost) of each message."""

    def sent(self, packets: list[bytes], now: float) -> None:
        """Notes packets that leave at `now` seconds, in the order of their numbers."""
        head = now - self._last_sent_at > TOGETHER_S
        number, ring = self._next, self._sent
        for packet in packets:
            ring[number % CAPACITY] = (number, now, len(packet) + OVERHEAD, head)
            number += 1
            head = False
        self._next, self._last_sent_at = number, now

    def told(self, feedback: Feedback, now: float) -> Evidence | None:
        """Takes a message that came at `now` seconds.

        Returns:
            What it shows; None if it tells of nothing that was sent of late.
        """
        number = self._next - 1 - (self._next - 1 - feedback.first & 0xFFFF)
        came = lost = 0
        for offset, arrival_us in enumerate(feedback.arrivals, number):
            slot = offset % CAPACITY
            sent = self._sent[slot]
            if sent is None or sent[0] != offset:
                continue
            if arrival_us is None:
                lost += offset > self._told
            else:
                # Each counts once, however often it is told of.
                self._sent[slot] = None
                came += 1
                self._arrival(sent, arrival_us / 1e6)
        self._told = max(self._told, min(self._next, number + len(feedback.arrivals)) - 1)
        if came + lost:
            self._counts.append((now, came, lost))
        return self._evidence(now) if came else None

    def _arrival(self, sent: tuple[int, float, int, bool], at: float) -> None:
        number, sent_at, size, head = sent
        self._arrived.append((at, size))
        before, before_at = self._before
        waited = not head
        if head:
            delay = at - sent_at
            last = self._heads[-1][1] if self._heads else delay
            # Without the packet before it would have taken as long as the last one that led.
            waited = sent_at + last < before_at
            self._heads.append((at, delay))
            # The lesser of two: a single one may have waited for the receiver's own reasons.
            self._least.take(delay, sent_at)
            self._queue_s = min(delay, last) - self._least.value
        if waited and before == number - 1:
            self._followed.append((at, size, max(0.0, at - before_at)))
        self._before = (number, at)

    def _evidence(self, now: float) -> Evidence:
        newest = self._before[1]
        for entries, span in (
            (self._arrived, WINDOW_S),
            (self._heads, GROWTH_WINDOW_S),
            (self._followed, WIDTH_WINDOW_S),
        ):
            # Also what came "later": the far end's clock has wrapped around.
            while entries and not newest - span < entries[0][0] <= newest + span:
                entries.popleft()
        while len(self._counts) > 1 and now - self._counts[0][0] > LOSS_WINDOW_S:
            self._counts.popleft()
        came = sum(each[1] for each in self._counts)
        lost = sum(each[2] for each in self._counts)
        delays = [delay for _, delay in self._heads]
        return Evidence(
            delivered_bps=sum(size for _, size in self._arrived) * 8 / WINDOW_S,
            queue_s=self._queue_s,
            grows=bool(delays) and min(delays[-2:]) - min(delays) > GROWTH_S,
            loss=lost / max(LOSS_PACKETS, came + lost),
            full_bps=self._width_bps(newest - WINDOW_S),
            width_bps=self._width_bps(newest - WIDTH_WINDOW_S),
        )

    def _width_bps(self, since: float) -> float | None:
        waited = [(size, after) for at, size, after in self._followed if at > since]
        if len(waited) < WIDTH_PACKETS:
            return None
        return sum(size for size, _ in waited) * 8 / max(1e-4, sum(after for _, after in waited))


class Reports:
    """What the receiver reports of one stream show."""

    def __init__(self) -> None:
        self.loss = 0.0
        """Share of the packets that were lost of late, 0 to 1."""
        self._octets = 0
        self._totals: list[tuple[int, int]] = [(-1, 0)] * CAPACITY
        """(sequence number, bytes of the stream up to it) of each packet."""
        self._known: deque[tuple[float, int, int]] = deque(maxlen=REPORTS)
        """(when, highest number, lost so far) of the reports of late."""
        self._least = LeastDelay()
        self._queue_s = 0.0

    def sent(self, packets: list[bytes], sequence: int) -> None:
        """Notes packets that leave; `sequence` is the number of the first."""
        total, ring = self._octets, self._totals
        for packet in packets:
            total += len(packet) + OVERHEAD
            ring[sequence % CAPACITY] = (sequence & 0xFFFF, total)
            sequence += 1
        self._octets = total

    def told(
        self, highest: int, lost: int, round_trip_s: float | None, now: float
    ) -> Evidence | None:
        """Takes a report that came at `now` seconds.

        Args:
            highest: Extended highest sequence number received.
            lost: Packets lost since the beginning.
            round_trip_s: To the viewer and back, as this report measures it.
            now: The time.

        Returns:
            What the reports show since the window began; None: too little.
        """
        known = self._known
        known.append((now, highest, lost))
        while len(known) > 2 and now - known[1][0] >= REPORT_WINDOW_S:
            known.popleft()
        since, first, lost_before = known[0]
        packets = (highest - first) & 0xFFFF
        if now - since < REPORT_WINDOW_S or not packets:
            return None
        self.loss = min(1.0, max(0, lost - lost_before) / packets)
        before, after = (self._totals[each % CAPACITY] for each in (first, highest))
        if before[0] != first & 0xFFFF or after[0] != highest & 0xFFFF:
            return None
        queue_before = self._queue_s
        if round_trip_s is not None:
            self._least.take(round_trip_s, now)
            self._queue_s = round_trip_s - self._least.value
        octets = max(0, after[1] - before[1]) * (1 - self.loss)
        return Evidence(
            delivered_bps=octets * 8 / (now - since),
            queue_s=self._queue_s,
            grows=self._queue_s - queue_before > GROWTH_S,
            loss=self.loss if packets >= LOSS_PACKETS else 0.0,
            timed=False,
        )
