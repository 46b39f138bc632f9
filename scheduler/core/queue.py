"""The queue for places: those that existed before first, then new ones by fair turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from scheduler.core.fair_queue import FairQueue
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.lease import Lease, LeaseState
from scheduler.core.pool_events import PoolRules


@dataclass(slots=True, eq=False)
class Ticket:
    """A session that waits for a place, or for the answer of the actor it was given to."""

    lease: Lease
    number: int
    """Order of arrival, which decides between equal times."""
    restore: bool = False
    """The session existed before: it goes ahead of new ones."""
    fork: bool = False
    """The session is new, and a copy of another one."""
    origin: LeaseState = LeaseState.QUEUED
    """State that it goes back to when an actor does not take it."""
    near_host: str = ""
    """Host that keeps its state; preferred."""
    avoid: dict[ActorId, float] = field(default_factory=dict)
    """Actors that refused it, and until when they are not asked again."""
    told: tuple[int, float] | None = None
    """Position and estimate that were last told."""
    left_until: float | None = None
    """When it is dropped, because nobody waits for its place; None while somebody does."""

    @property
    def turn(self) -> tuple[float, int]:
        """What the tickets of a tenant are ordered by."""
        return self.lease.submitted_at, self.number

    @property
    def tenant(self) -> str:
        """Whose session it is."""
        return self.lease.principal.tenant

    def ask_anew(self, now: float) -> None:
        """Forgets the refusals that are long enough ago."""
        if self.avoid:
            self.avoid = {actor: until for actor, until in self.avoid.items() if until > now}


class PlaceQueue:
    """Tickets in their turn.

    Args:
        rules: Limits and tenants.
    """

    def __init__(self, rules: PoolRules) -> None:
        self._restores = FairQueue[Ticket](rules.tenant, rules.ageing)
        self._new = FairQueue[Ticket](rules.tenant, rules.ageing)
        self._tickets: dict[SessionId, Ticket] = {}
        self._models: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        yield from self._restores.order()
        yield from self._new.order()

    def __contains__(self, session: SessionId) -> bool:
        return session in self._tickets

    def restores(self) -> Iterator[Ticket]:
        """Yields the tickets of sessions that existed before, in their turn; the queue must
        not change meanwhile.
        """
        return self._restores.in_turn()

    def new(self) -> Iterator[Ticket]:
        """Yields the tickets of new sessions, as `restores` does."""
        return self._new.in_turn()

    @property
    def new_count(self) -> int:
        """How many new sessions wait."""
        return len(self._new)

    def oldest(self, left: Callable[[str], float]) -> float | None:
        """Returns when the one that waits longest for room first asked; None when nobody does.

        Args:
            left: Returns how many more sessions of a tenant may have a place.
        """
        restores = [tickets[0] for _, tickets in self._restores.lanes()]
        new = [tickets[0] for tenant, tickets in self._new.lanes() if left(tenant) > 0]
        return min((ticket.lease.submitted_at for ticket in restores + new), default=None)

    def demand(self, left: Callable[[str], float]) -> Counter[str]:
        """Returns how many tickets wait for room, by model: without those that their tenants'
        limits hold back, which more actors would not serve.

        Args:
            left: Returns how many more sessions of a tenant may have a place.
        """
        waiting = Counter(self._models)
        for tenant, tickets in self._new.lanes():
            may = left(tenant)
            if may < len(tickets):
                waiting.subtract(ticket.lease.model for ticket in tickets[int(may) :])
        return +waiting

    @property
    def models(self) -> Counter[str]:
        """How many tickets wait for each model."""
        return self._models

    def queued_of(self, tenant: str) -> int:
        """Returns how many new sessions of a tenant wait."""
        return self._new.size(tenant)

    def add(self, ticket: Ticket) -> None:
        """Adds a ticket at its turn."""
        self._tickets[ticket.lease.session] = ticket
        self._models[ticket.lease.model] += 1
        self._line(ticket).add(ticket)

    def remove(self, session: SessionId) -> None:
        """Removes the ticket of a session that gives up, if it has one."""
        ticket = self._take(session)
        if ticket is not None:
            self._line(ticket).remove(ticket)

    def serve(self, ticket: Ticket) -> None:
        """Removes a ticket that got a place, and counts it against its tenant's turn."""
        self._take(ticket.lease.session)
        self._line(ticket).serve(ticket)

    def _take(self, session: SessionId) -> Ticket | None:
        ticket = self._tickets.pop(session, None)
        if ticket is not None:
            self._models[ticket.lease.model] -= 1
            if not self._models[ticket.lease.model]:
                del self._models[ticket.lease.model]
        return ticket

    def _line(self, ticket: Ticket) -> FairQueue[Ticket]:
        return self._restores if ticket.restore else self._new
