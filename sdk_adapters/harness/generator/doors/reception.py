"""From RTP packets to whole frames, without looking inside them. Pure.

A viewer that decodes nothing needs of a packet its header alone, which SRTP leaves in the
clear. Packets are taken in their order; behind a missing one they wait, as in any player,
until it came again or was given up. So a frame is there when all before it are there or lost.

Source: RFC 3550 (header, reports), RFC 4585 (what is asked for again).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

CAPACITY: Final = 1024
"""Packets that may wait behind a missing one; then it is given up."""
PATIENCE_S: Final = 0.5
"""How long a missing packet is waited for."""
ASK_S: Final = 0.08
"""Shortest time between two requests for one packet."""
ASKS: Final = 4
"""Times that one packet is asked for."""
_HALF: Final = 0x8000
_MASK: Final = 0xFFFF


class Part(NamedTuple):
    """One packet."""

    data: bytes
    """All of it, header included; empty where it is not kept."""
    clear: bool
    """Whether it is decrypted already."""


class Packet(NamedTuple):
    """What is known of a packet."""

    sequence: int
    """16 bits."""
    timestamp: int
    """32 bits."""
    marker: bool
    """Whether it is the last of its frame."""
    size: int
    part: Part


class Frame(NamedTuple):
    """A whole frame."""

    timestamp: int
    """32 bits, in ticks of 1/90000 s."""
    size: int
    """Bytes of its packets."""
    parts: Sequence[Part]
    """Its packets; the last one alone, unless all are kept."""


class Report(NamedTuple):
    """What a receiver report says (RFC 3550 section 6.4.1)."""

    fraction_lost: int
    """In 1/256."""
    lost: int
    highest: int
    """32 bits, wraps counted."""
    jitter: int
    """In ticks."""


class Reception:
    """One stream."""

    def __init__(self, *, keep: bool) -> None:
        """Waits for the first packet.

        Args:
            keep: Whether frames bring all their packets.
        """
        self.expected: int | None = None
        """Sequence number of the packet that is next; None before the first."""
        self.keyframe_wanted = False
        """Whether a frame was given up, so that a decoder would have lost its picture."""
        self.received = 0
        """Packets that came, without those that were sent again."""
        self._keep = keep
        self._parts: list[Part] = []
        self._size = 0
        self._timestamp = 0
        self._broken = False
        self._waiting: dict[int, Packet] = {}
        self._missing: dict[int, tuple[float, int]] = {}
        self._hole_at = 0.0
        self._taken = 0
        self._told = (0, 0)
        self._jitter = 0.0
        self._transit: float | None = None

    @property
    def in_order(self) -> bool:
        """Whether nothing is missing."""
        return not self._waiting

    def burst(self, sequence: int, count: int, timestamp: int, size: int) -> bool:
        """Takes packets that follow one another, none of them the last of a frame.

        Returns:
            Whether they were taken: they are if nothing is missing and nothing is kept.
            Else each is to be given to `packet`.
        """
        if sequence != self.expected or self._waiting or self._keep:
            return False
        if timestamp != self._timestamp:
            self._next_frame(timestamp)
        self.expected = (sequence + count) & _MASK
        self.received += count
        self._taken += count
        self._size += size
        return True

    def packet(self, packet: Packet, now: float, *, again: bool = False) -> list[Frame]:
        """Takes a packet; returns the frames that are whole now.

        Args:
            packet: The packet.
            now: The time.
            again: Whether it was sent again: reports count it as lost all the same.
        """
        if self.expected is None:
            self.expected = packet.sequence
        ahead = (packet.sequence - self.expected) & _MASK
        if ahead >= _HALF or packet.sequence in self._waiting:
            return []
        self.received += not again
        if ahead == 0:
            frames: list[Frame] = []
            self._take(packet, frames)
            if self._waiting:
                self._drain(frames, now)
            return frames
        if not self._waiting:
            self._hole_at = now
        self._waiting[packet.sequence] = packet
        if packet.sequence in self._missing:
            del self._missing[packet.sequence]
        elif len(self._missing) < CAPACITY:
            for step in range(ahead):
                number = (self.expected + step) & _MASK
                if number not in self._waiting:
                    self._missing.setdefault(number, (0.0, 0))
        if len(self._waiting) > CAPACITY:
            return self._skip(now)
        return []

    def overdue(self, now: float) -> list[Frame]:
        """Gives up what was waited for too long; returns the frames that are whole then."""
        frames: list[Frame] = []
        while self._waiting and now - self._hole_at > PATIENCE_S:
            frames += self._skip(now)
        return frames

    def to_ask(self, now: float) -> list[int]:
        """Returns the sequence numbers to ask for again now."""
        asked = []
        for sequence, (at, asks) in self._missing.items():
            if asks < ASKS and now - at >= ASK_S:
                asked.append(sequence)
                self._missing[sequence] = (now, asks + 1)
        return asked

    def arrived(self, timestamp: int, at: float) -> None:
        """Notes when a frame came, for the jitter."""
        transit = at * 90_000 - timestamp
        if self._transit is not None:
            # Taken once a frame; a wrapped timestamp is no jitter.
            difference = abs(transit - self._transit)
            if difference < 90_000 * 60:
                self._jitter += (difference - self._jitter) / 16
        self._transit = transit

    def report(self) -> Report | None:
        """Returns what a receiver report is to say; None before the first packet."""
        if self.expected is None:
            return None
        due = self._taken + len(self._waiting) + len(self._missing)
        lost = max(0, due - self.received)
        new_due, new_lost = due - self._told[0], lost - self._told[1]
        self._told = (due, lost)
        share = 0 if new_due <= 0 else min(255, max(0, new_lost) * 256 // new_due)
        highest = (self.expected - 1 + len(self._waiting) + len(self._missing)) & _MASK
        wraps = max(0, due - 1) >> 16
        return Report(share, min(lost, 0x7FFFFF), wraps << 16 | highest, int(self._jitter))

    def _take(self, packet: Packet, frames: list[Frame]) -> None:
        """Takes the packet that is next."""
        if packet.timestamp != self._timestamp:
            self._next_frame(packet.timestamp)
        self.expected = (packet.sequence + 1) & _MASK
        self._taken += 1
        self._size += packet.size
        if self._keep or packet.marker:
            self._parts.append(packet.part)
        if packet.marker:
            if not self._broken:
                frames.append(Frame(packet.timestamp, self._size, self._parts))
            self._parts, self._size, self._broken = [], 0, False

    def _next_frame(self, timestamp: int) -> None:
        """Begins a frame; the one before ended by its marker, or its end was lost."""
        if self._size:
            self._parts, self._size, self._broken = [], 0, False
        self._timestamp = timestamp

    def _drain(self, frames: list[Frame], now: float) -> None:
        """Takes what waited for the packet that came last."""
        while self.expected is not None and (packet := self._waiting.pop(self.expected, None)):
            self._take(packet, frames)
        taken = self.expected or 0
        for sequence in [each for each in self._missing if (each - taken) & _MASK >= _HALF]:
            del self._missing[sequence]
        self._hole_at = now

    def _skip(self, now: float) -> list[Frame]:
        """Gives up what is missing before the first packet that waits."""
        expected = self.expected or 0
        ahead = min((sequence - expected) & _MASK for sequence in self._waiting)
        self._taken += ahead
        self.expected = (expected + ahead) & _MASK
        self._broken = self.keyframe_wanted = True
        frames: list[Frame] = []
        first = self._waiting[self.expected]
        if first.timestamp != self._timestamp:
            # One of those lost ended the frame that was begun. With more of them, the
            # beginning of this one may be among them: RTP does not say.
            self._broken = ahead > 1 or not self._size
            self._parts, self._size, self._timestamp = [], 0, first.timestamp
        self._drain(frames, now)
        return frames
