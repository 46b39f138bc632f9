"""The packets sent of late, for those the far end misses. Pure.

A client tells what it missed by NACK. Nothing obliges it to tell the truth: a packet is
sent again at most once a round trip, and all repetitions together stay a share of what
was sent, so that nobody can make this host send much more than the video itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.webrtc.rtp import sequence_of

CAPACITY: Final = 512
"""Packets kept: twice the largest keyframe and what follows it in a round trip."""
MIN_INTERVAL_S: Final = 0.01
"""Shortest time between two repetitions of a packet, however near the far end is."""
SHARE: Final = 0.25
"""Octets that may be sent again for each octet sent."""
BURST: Final = 160 * 1200
"""Octets that may be sent again at once: more than the 128 packets that a client built on
aiortc waits for before it goes on."""


class SentPackets:
    """The last packets of one stream, and how many of them may be sent again."""

    def __init__(self) -> None:
        self._ring: list[bytes] = [b""] * CAPACITY
        self._again_at: dict[int, tuple[int, float]] = {}
        self._allowance = float(BURST)
        self._oldest: int | None = None
        self._next = 0
        self.repeated = 0
        """Packets handed out to be sent again."""
        self.refused = 0
        """Packets not sent again, for the bounds."""
        self.unknown = 0
        """Packets asked for that are not kept any more, or were never sent."""

    def add(self, packets: list[bytes], sequence: int) -> None:
        """Keeps packets that were sent, in order; `sequence` is the number of the first."""
        ring = self._ring
        for packet in packets:
            ring[sequence % CAPACITY] = packet
            sequence += 1
        self._next = sequence & 0xFFFF
        self._allowance = min(BURST, self._allowance + SHARE * sum(map(len, packets)))

    def forget(self) -> None:
        """What was sent so far is of no use any more: it is not sent again."""
        self._ring = [b""] * CAPACITY
        self._oldest = self._next

    def again(self, lost: Iterable[int], now: float, round_trip_s: float) -> list[bytes]:
        """Returns what may be sent again of the packets that the far end misses.

        Args:
            lost: Their sequence numbers, as told.
            now: Time in seconds.
            round_trip_s: A repetition cannot have been missed before it had this time.
        """
        interval = max(MIN_INTERVAL_S, round_trip_s)
        packets = []
        for number in lost:
            sequence = number & 0xFFFF
            slot = sequence % CAPACITY
            packet = self._ring[slot]
            if not packet or sequence_of(packet) != sequence:
                if self._oldest is not None and 0 < self._oldest - sequence & 0xFFFF <= CAPACITY:
                    self.refused += 1
                else:
                    self.unknown += 1
                continue
            before = self._again_at.get(slot)
            recent = before is not None and before[0] == sequence and now - before[1] < interval
            if recent or self._allowance < len(packet):
                self.refused += 1
                continue
            self._allowance -= len(packet)
            self._again_at[slot] = (sequence, now)
            self.repeated += 1
            packets.append(packet)
        return packets
