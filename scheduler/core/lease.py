"""The lease machine: where a session stands with its place on an actor.

    queued --assign--> assigned --confirm--> active --release--> released
       ^                  |                    |
       +-----refuse-------+                    +--lose--> lost --release--> released

`park`, `move` and `drain` complete the table. A session without a connection is not a
state of its own: it is `active` with a release deadline (operators see it as detached).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from scheduler.core.errors import InvariantError
from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId


class LeaseState(enum.Enum):
    """Where a lease stands."""

    QUEUED = "queued"
    """Waits for a place."""
    ASSIGNED = "assigned"
    """A place is reserved; the actor has not yet answered."""
    ACTIVE = "active"
    """On its actor."""
    PARKED = "parked"
    """In storage, on no actor."""
    MOVING = "moving"
    """Leaves one actor for another."""
    DRAINING = "draining"
    """On an actor that takes no more and will be left at the next chunk boundary."""
    LOST = "lost"
    """Its actor is gone."""
    RELEASED = "released"
    """Over."""


class Step(enum.Enum):
    """What can happen to a lease."""

    ASSIGN = "assign"
    CONFIRM = "confirm"
    REFUSE = "refuse"
    PARK = "park"
    MOVE = "move"
    DRAIN = "drain"
    LOSE = "lose"
    RELEASE = "release"


TRANSITIONS: dict[LeaseState, dict[Step, LeaseState]] = {
    LeaseState.QUEUED: {
        Step.ASSIGN: LeaseState.ASSIGNED,
        Step.RELEASE: LeaseState.RELEASED,
    },
    LeaseState.ASSIGNED: {
        Step.CONFIRM: LeaseState.ACTIVE,
        Step.REFUSE: LeaseState.QUEUED,
        Step.RELEASE: LeaseState.RELEASED,
    },
    LeaseState.ACTIVE: {
        Step.PARK: LeaseState.PARKED,
        Step.MOVE: LeaseState.MOVING,
        Step.DRAIN: LeaseState.DRAINING,
        Step.LOSE: LeaseState.LOST,
        Step.RELEASE: LeaseState.RELEASED,
    },
    LeaseState.PARKED: {
        Step.ASSIGN: LeaseState.ASSIGNED,
        Step.RELEASE: LeaseState.RELEASED,
    },
    LeaseState.MOVING: {
        Step.CONFIRM: LeaseState.ACTIVE,
        Step.LOSE: LeaseState.LOST,
        Step.RELEASE: LeaseState.RELEASED,
    },
    LeaseState.DRAINING: {
        Step.PARK: LeaseState.PARKED,
        Step.MOVE: LeaseState.MOVING,
        Step.LOSE: LeaseState.LOST,
        Step.RELEASE: LeaseState.RELEASED,
    },
    LeaseState.LOST: {
        Step.ASSIGN: LeaseState.ASSIGNED,
        Step.RELEASE: LeaseState.RELEASED,
    },
    LeaseState.RELEASED: {},
}
"""What may follow what; a step that is absent is impossible."""


UNPLACED = Epoch(0)
"""Epoch of a lease that never had a place."""


@dataclass(slots=True)
class Lease:
    """One session's lease. Times are on the scheduler's clock, in seconds."""

    session: SessionId
    model: str
    """Name of the model as the client asked for it."""
    principal: Principal
    gateway: GatewayId
    """The gateway that asked for the place."""
    submitted_at: float
    """When the session first asked, before any resubmission."""
    state: LeaseState = LeaseState.QUEUED
    actor: ActorId | None = None
    epoch: Epoch = UNPLACED
    admit_until: float | None = None
    """While assigned: when the actor's answer is overdue."""
    placed_at: float | None = None
    """When the actor confirmed."""

    def step(self, step: Step) -> None:
        """Moves on.

        Raises:
            InvariantError: The step is not possible here.
        """
        after = TRANSITIONS[self.state].get(step)
        if after is None:
            raise InvariantError(f"a lease that is {self.state.value} cannot {step.value}")
        self.state = after
