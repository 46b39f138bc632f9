"""Who asked: connections of gateways, numbered for the session machine.

The machine knows a connection by one number. Numbers are never used again, so that a late
answer cannot reach somebody else, and outlive a gateway's break, so that it still reaches
who asked when the gateway is back.
"""

from __future__ import annotations

from collections import OrderedDict

KEPT = 1024
"""Connections that are remembered; past it the one that was silent longest is forgotten."""


class Askers:
    """Numbers for (gateway, connection)."""

    def __init__(self) -> None:
        """Knows nobody yet."""
        self._numbers: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._connections: dict[int, tuple[str, int]] = {}
        self._last = 0

    def number(self, gateway_id: str, connection_id: int) -> int:
        """Returns the number of a connection."""
        key = (gateway_id, connection_id)
        number = self._numbers.get(key)
        if number is None:
            self._last += 1
            number = self._numbers[key] = self._last
            self._connections[number] = key
            if len(self._numbers) > KEPT:
                _, oldest = self._numbers.popitem(last=False)
                del self._connections[oldest]
        self._numbers.move_to_end(key)
        return number

    def connection(self, number: int) -> tuple[str, int]:
        """Returns gateway and connection; ("", 0) for one that was forgotten."""
        return self._connections.get(number, ("", 0))
