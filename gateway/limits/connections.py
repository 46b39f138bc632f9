"""Which connections a door takes: so many in all, so many of one address, and how fast. Pure.

A connection that is refused costs a system call; one that is taken costs a hundred times as much
before its first byte is read.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, Literal, Protocol

from gateway.limits.addresses import UNKNOWN, client_address, is_in
from gateway.limits.calls import CallRates

MAX_CONNECTIONS: Final = 4096
"""Connections of a door at once."""
MAX_OF_ADDRESS: Final = 1024
"""Of one address, where addresses are counted."""
LOOK_S: Final = 0.1
"""How often it is looked which have ended, at most: who is refused costs nothing then."""

Refusal = Literal["all", "address", "rate"]
"""Why a connection is refused: too many of all, too many of its address, too fast from there."""


class Connection(Protocol):
    """Something that ends by itself."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""


class Connections:
    """The connections of one door.

    Args:
        rates: How fast one address may connect, and which are proxies that speak for many; None:
            addresses are not told apart.
        most: How many at once.
        most_of_address: How many of them from one address.
    """

    def __init__(
        self,
        rates: CallRates | None = None,
        *,
        most: int = MAX_CONNECTIONS,
        most_of_address: int = MAX_OF_ADDRESS,
    ) -> None:
        self._rates = rates
        self._most = most
        self._most_of_address = most_of_address
        self._of: defaultdict[str, list[Connection]] = defaultdict(list)
        self._count = 0
        """How many are remembered: those that ended since the last look, too."""
        self._looked_at = float("-inf")

    def refusal(self, peer: str, now: float) -> Refusal | None:
        """Returns why a connection is not taken; None: it is.

        Args:
            peer: The address that it comes from.
            now: Any clock that goes forward, in seconds.
        """
        if self._count >= self._most and not self._has_room(now):
            return "all"
        if self._rates is None or (address := self._counted(peer)) == UNKNOWN:
            return None
        if not self._rates.may_connect(address):
            return "rate"
        if len(self._of.get(address, ())) >= self._most_of_address:
            self._look(now)
            if len(self._of.get(address, ())) >= self._most_of_address:
                return "address"
        return None

    def took(self, peer: str, connection: Connection) -> None:
        """Remembers one that was taken.

        Args:
            peer: The address that it comes from.
            connection: It.
        """
        self._of[self._counted(peer)].append(connection)
        self._count += 1

    def _counted(self, peer: str) -> str:
        if self._rates is None or is_in(peer, self._rates.proxies):
            return UNKNOWN
        return client_address(peer, (), ())

    def _has_room(self, now: float) -> bool:
        self._look(now)
        return self._count < self._most

    def _look(self, now: float) -> None:
        """Forgets those that have ended, unless it has only just done so."""
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        for address, connections in list(self._of.items()):
            left = [each for each in connections if not each.is_over]
            if left:
                self._of[address] = left
            else:
                del self._of[address]
        self._count = sum(map(len, self._of.values()))
