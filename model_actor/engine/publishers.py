"""Whose camera counts, when gateways publish one each for the same session. Pure.

One connection publishes at a time. A gateway sees to that among its own; between gateways
it is the first to say so whose camera counts. The others are kept in mind: when the first
has left, the next one's packets count, from a keyframe on.
"""

from __future__ import annotations


class Publishers:
    """Gateways at which a camera is published, in the order they said so."""

    def __init__(self) -> None:
        """Nobody publishes."""
        self._gateways: dict[str, None] = {}
        self._last: str | None = None
        """Where the packet came from that passed last."""

    @property
    def first(self) -> str | None:
        """The gateway whose camera counts; None while nobody publishes."""
        return next(iter(self._gateways), None)

    def add(self, gateway_id: str) -> None:
        """A camera is published at a gateway. Repeating it changes nothing."""
        self._gateways.setdefault(gateway_id)

    def remove(self, gateway_id: str) -> None:
        """None is published there any more. Repeating it changes nothing."""
        self._gateways.pop(gateway_id, None)

    def passes(self, gateway_id: str) -> bool:
        """Tells whether a packet from a gateway counts.

        While nobody is said to publish, any does: media may overtake what is told of it.
        """
        return self.first in (None, gateway_id)

    def follows_on(self, gateway_id: str) -> bool:
        """Notes a packet that counts; returns whether the one before came from there too."""
        last, self._last = self._last, gateway_id
        return last in (None, gateway_id)
