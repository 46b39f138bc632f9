"""Placement policies: which of the actors with room gets a session.

A policy sees plain frozen data and decides nothing else: that the candidates have a
free slot and compute to book is settled before, and booked right after, in one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scheduler.core.ids import ActorId


@dataclass(frozen=True, slots=True)
class ActorLoad:
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


class Pack:
    """The fullest actor, so that others stay empty and can be given back."""

    def choose(self, candidates: Sequence[ActorLoad]) -> ActorId:
        """Returns the actor with the largest share of its slots taken."""
        return max(candidates, key=lambda load: (load.resident_share, load.booked_share)).actor_id


class Spread:
    """The emptiest actor, so that the loss of one touches the fewest sessions."""

    def choose(self, candidates: Sequence[ActorLoad]) -> ActorId:
        """Returns the actor with the smallest share of its slots taken."""
        return min(candidates, key=lambda load: (load.resident_share, load.booked_share)).actor_id


class LeastLoaded:
    """The actor with the most compute left, so that starts wait the least."""

    def choose(self, candidates: Sequence[ActorLoad]) -> ActorId:
        """Returns the actor with the smallest share of its compute booked."""
        return min(candidates, key=lambda load: (load.booked_share, load.resident_share)).actor_id
