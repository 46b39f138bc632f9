"""The queue for places: in the order of first submission, whatever came in between."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

from scheduler.core.ids import ActorId, SessionId
from scheduler.core.lease import Lease


@dataclass(slots=True)
class Ticket:
    """A session that waits."""

    lease: Lease
    number: int
    """Order of arrival, which decides between equal times."""
    avoid: dict[ActorId, float] = field(default_factory=dict)
    """Actors that refused it, and until when they are not asked again."""
    told: tuple[int, float] | None = None
    """Position and estimate that were last told."""
    left_until: float | None = None
    """When it is dropped, because nobody waits for its place; None while somebody does."""

    @property
    def turn(self) -> tuple[float, int]:
        """What the queue is ordered by."""
        return self.lease.submitted_at, self.number

    def ask_anew(self, now: float) -> None:
        """Forgets the refusals that are long enough ago."""
        if self.avoid:
            self.avoid = {actor: until for actor, until in self.avoid.items() if until > now}


class PlaceQueue:
    """Tickets in their turn."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self._tickets)

    def add(self, ticket: Ticket) -> None:
        """Adds a ticket at its turn."""
        bisect.insort(self._tickets, ticket, key=lambda other: other.turn)

    def remove(self, session: SessionId) -> None:
        """Removes the ticket of a session, if it has one."""
        self._tickets = [t for t in self._tickets if t.lease.session != session]
