"""Which packets of a viewer leave now, and which a little later. Pure.

A frame of the usual size leaves in one piece, at once. A keyframe, or the frames that a
new viewer is given to catch up with, would overrun the buffers on their way: what
exceeds one burst follows in small ones, a few milliseconds apart and in order.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

FIRST_BURST: Final = 32
"""Packets that leave at once after a quiet time."""
BURST: Final = 16
"""Packets of each further burst."""
INTERVAL_S: Final = 0.0025
"""Time between two bursts: together some 60 Mbit/s."""
CAPACITY: Final = 512
"""Packets that may wait, about 80 ms of them. A frame that begins to wait always fits."""


class Piece(NamedTuple):
    """Consecutive payloads of one frame that leave together."""

    timestamp: int
    """RTP timestamp of the frame."""
    payloads: list[bytes]
    ends: bool
    """Whether the frame is complete with them."""


class Bursts:
    """The payloads of one viewer on their way out: in order, in bursts, bounded.

    An encoded frame is never dropped singly, and one that has begun to leave leaves
    whole. What to do on overflow is the caller's: to `clear`, and to go on at a keyframe.
    """

    def __init__(self) -> None:
        self._frames: deque[Piece] = deque()
        self._waiting = 0
        self._begun = False
        self._room = float(FIRST_BURST)
        self._updated = float("-inf")

    @property
    def waiting(self) -> int:
        """Packets that wait."""
        return self._waiting

    def add(self, timestamp: int, payloads: list[bytes]) -> bool:
        """Lines up a frame; returns False, and does not, where it finds no room."""
        if self._waiting and self._waiting + len(payloads) > CAPACITY:
            return False
        self._frames.append(Piece(timestamp, payloads, ends=True))
        self._waiting += len(payloads)
        return True

    def take(self, now: float) -> list[Piece]:
        """Returns what leaves now, at `now` seconds."""
        self._room = min(FIRST_BURST, self._room + (now - self._updated) * BURST / INTERVAL_S)
        self._updated = now
        # Half a packet of tolerance: a timer that fires a hair early has not fired in vain.
        room = int(self._room + 0.5)
        pieces = []
        while room and self._frames:
            piece = self._frames.popleft()
            if len(piece.payloads) > room:
                rest = Piece(piece.timestamp, piece.payloads[room:], ends=True)
                self._frames.appendleft(rest)
                piece = Piece(piece.timestamp, piece.payloads[:room], ends=False)
            room -= len(piece.payloads)
            self._room -= len(piece.payloads)
            self._waiting -= len(piece.payloads)
            self._begun = not piece.ends
            pieces.append(piece)
        return pieces

    def clear(self) -> int:
        """Drops the frames that have not begun to leave; returns how many."""
        kept = [self._frames[0]] if self._begun else []
        dropped = len(self._frames) - len(kept)
        self._frames = deque(kept)
        self._waiting = sum(len(piece.payloads) for piece in kept)
        return dropped
