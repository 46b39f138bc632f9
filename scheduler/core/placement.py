"""Placement policies: which of the actors with room gets a session.

A policy sees plain frozen data and decides nothing else: that the candidates have a
free slot and compute to book is settled before, and booked right after, in one step.

A policy that can say how good one actor is without looking at the others has `rank`: the
pool then keeps the actors in that order and looks at the first only. One that has only
`choose` is shown all candidates each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from scheduler.core.ids import ActorId

Rank = tuple[float, ...]


class ActorLoad(NamedTuple):
    """What is reserved on one actor."""

    actor_id: ActorId
    sessions: int
    """Sessions that hold one of its slots."""
    resident_slots: int
    """Slots it has."""
    booked_ms_per_s: float
    """Chunk-milliseconds per second that are booked."""
    ceiling_ms_per_s: float
    """Chunk-milliseconds per second that may be booked."""

    @property
    def resident_share(self) -> float:
        """Share of its slots that is taken, 0 to 1."""
        return self.sessions / self.resident_slots

    @property
    def booked_share(self) -> float:
        """Share of its compute that is booked; over 1 when one session exceeds it."""
        return self.booked_ms_per_s / self.ceiling_ms_per_s


class PlacementPolicy(Protocol):
    """Chooses an actor."""

    def choose(self, candidates: Sequence[ActorLoad]) -> ActorId:
        """Returns the actor to place a session on.

        Args:
            candidates: Actors with room for it, at least one, in order of their ids.
        """


@runtime_checkable
class RankedPolicy(Protocol):
    """Ranks each actor by itself."""

    balances: bool
    """Whether it wants actors equally loaded, so that sessions may be moved for it."""

    def rank(self, load: ActorLoad) -> Rank:
        """Returns the place of an actor: the lowest gets the session, of equals the first in
        order of their ids. The same load must always give the same rank.
        """


class _Ranked:
    """Chooses by rank."""

    balances = True

    def rank(self, load: ActorLoad) -> Rank:
        """Returns the place of an actor, the lowest being chosen."""
        raise NotImplementedError

    def choose(self, candidates: Sequence[ActorLoad]) -> ActorId:
        """Returns the actor with the lowest rank."""
        return min(candidates, key=self.rank).actor_id


class Pack(_Ranked):
    """The fullest actor, so that others stay empty and can be given back."""

    balances = False

    def rank(self, load: ActorLoad) -> Rank:
        """Returns the free share of its slots, then of its compute."""
        return -load.resident_share, -load.booked_share


class Spread(_Ranked):
    """The emptiest actor, so that the loss of one touches the fewest sessions."""

    def rank(self, load: ActorLoad) -> Rank:
        """Returns the taken share of its slots, then of its compute."""
        return load.resident_share, load.booked_share


class LeastLoaded(_Ranked):
    """The actor with the most compute left, so that starts wait the least."""

    def rank(self, load: ActorLoad) -> Rank:
        """Returns the taken share of its compute, then of its slots."""
        return load.booked_share, load.resident_share
