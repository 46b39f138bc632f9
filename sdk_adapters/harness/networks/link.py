"""One direction of a network: when what goes in comes out, and what is lost. Pure.

Packets keep their order. Over the rate they wait, and those that would wait longer than
`QUEUE_S` are lost, as in the buffer of a router. A byte stream loses nothing: there a lost
segment is one that TCP sends again, and all behind it waits for that, a round trip or more.
"""

from __future__ import annotations

import math
from random import Random
from typing import Final

from scheduler.scenario.load import Network

QUEUE_S: Final = 0.3
"""What a narrow link holds back at most."""
SEGMENT: Final = 1448
"""Bytes of a stream in one packet, on Ethernet (RFC 879, less timestamps)."""
STREAM_HEADERS: Final = 52
"""Of IPv4, TCP and its timestamps: they take of the rate, too."""
PACKET_HEADERS: Final = 28
"""Of IPv4 and UDP."""
NOTICED_S: Final = 0.01
"""TCP takes at least so long, beside the round trip, until it sends a lost segment again."""
LONGEST_S: Final = 60.0
"""No delay is longer, whatever is drawn."""


class Link:
    """One direction of one user's network: all that the user sends, or receives, shares it."""

    def __init__(self, network: Network, random: Random) -> None:
        """Has carried nothing.

        Args:
            network: What it does to what it carries.
            random: Draws losses and jitter.
        """
        self._random = random
        self._loss = network.loss
        self._delay_s = network.delay_ms / 1e3
        self._jitter_s = network.jitter_ms / 1e3
        self._bytes_per_s = (network.rate_kbit or 0.0) * 125.0
        self._free_at = 0.0
        self._last = 0.0
        self.lost = 0
        """Packets and segments that were lost so far."""

    def packet(self, now: float, size: int) -> float | None:
        """Returns when a datagram comes out; None: never.

        Args:
            now: When it goes in; never earlier than the one before.
            size: Its bytes.
        """
        if self._random.random() < self._loss:
            self.lost += 1
            return None
        left = self._sent(now, size + PACKET_HEADERS, bounded=True)
        if left is None:
            self.lost += 1
            return None
        self._last = max(self._last, left + self._delay())
        return self._last

    def stream(self, now: float, size: int, after: float = 0.0) -> float:
        """Returns when some bytes of a stream come out.

        Args:
            now: When they go in.
            size: How many.
            after: When those before them on the same stream came out: none overtake others.
        """
        segments = math.ceil(size / SEGMENT)
        left = self._sent(now, size + segments * STREAM_HEADERS, bounded=False) or now
        return max(after, left + self._delay() + self._again_s(segments))

    def room(self, now: float) -> float:
        """Returns for how many seconds what was sent so far keeps the link: below 0, it is free."""
        return self._free_at - now

    def _sent(self, now: float, size: int, *, bounded: bool) -> float | None:
        """Returns when the last bit has left; None: there is no room to wait."""
        if not self._bytes_per_s:
            return now
        begin = max(now, self._free_at)
        if bounded and begin - now > QUEUE_S:
            return None
        self._free_at = begin + size / self._bytes_per_s
        return self._free_at

    def _delay(self) -> float:
        if not self._jitter_s:
            return self._delay_s
        drawn = self._random.gauss(self._delay_s, self._jitter_s)
        return min(LONGEST_S, max(0.0, drawn))

    def _again_s(self, segments: int) -> float:
        """Returns for how long a stream stands because segments are sent again."""
        if not self._loss:
            return 0.0
        seconds, tried = 0.0, segments
        while lost := sum(self._random.random() < self._loss for _ in range(tried)):
            # Those of one flight are noticed together, those lost again one round later.
            self.lost += lost
            seconds += 2 * self._delay_s + NOTICED_S
            tried = lost
            if seconds > LONGEST_S:
                break
        return seconds
