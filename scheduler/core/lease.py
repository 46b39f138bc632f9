"""The lease machine: where a session stands with its place on an actor.

    queued --assign--> assigned --confirm--> active --release--> released
       ^                |  ^  |                |
       +----refuse------+  |  +--lose--> lost <+--lose
                           +---assign-----+

`park`, `move` and `drain` complete the table. A session that existed before goes back to
where it came from when an actor does not take it: `lost` or `parked`, never `queued`. A
session without a connection is not a state of its own: it is `active` with a deadline
(operators see it as detached).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from scheduler.core.errors import InvariantError
from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId
from scheduler.core.quality import FULL, Quality


class LeaseState(enum.Enum):
    """Where a lease stands."""

    QUEUED = "queued"
    """Waits for a place."""
    ASSIGNED = "assigned"
    """A place is reserved; the actor has not yet answered."""
    ACTIVE = "active"
    """On its actor."""
    PARKED = "parked"
    """Kept on no actor until somebody needs it."""
    MOVING = "moving"
    """Leaves one actor for another, and is on the first one until the other goes on."""
    DRAINING = "draining"
    """On an actor that is being emptied."""
    LOST = "lost"
    """Its actor is gone; it waits for another."""
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
        Step.PARK: LeaseState.PARKED,
        Step.LOSE: LeaseState.LOST,
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
        Step.CONFIRM: LeaseState.ACTIVE,
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
    placed_at: float | None = None
    """When an actor first confirmed it."""
    quality: Quality = FULL
    """How it runs."""
    target: ActorId | None = None
    """While it moves: where to."""
    target_epoch: Epoch = UNPLACED
    target_admitted: bool = False
    """While it moves: whether the target has it and gateways were told."""
    wants_compute: bool = False
    """While on no actor: whether it computed, or waited to, when it left the last one."""
    kept_on: str = ""
    """Host that keeps its state, as far as is known."""
    idle_since: float | None = None
    """While on an actor: since when it has no compute and asks for none."""
    parking: bool = False
    """Whether its actor was told to park it and has not answered."""
    pressed: bool = False
    """Whether it is to be parked because its actor ends, not for want of anything to do."""
    park_pause: float = 0.0
    """Pause before the next try, after one that failed; 0 when none has."""
    park_not_before: float = 0.0
    awaits_room: bool = False
    """Whether its actor was told that there is no room elsewhere."""
    unsure: bool = False
    """Whether it may have been handed over to a target that did not go on with it."""
    asked_again: tuple[GatewayId, Epoch, float] | None = None
    """Gateway that asked for its place while it had it, at which epoch and when."""

    @property
    def on_actor(self) -> bool:
        """Whether it has its place: confirmed, and not given up."""
        state = self.state
        return (
            state is LeaseState.ACTIVE or state is LeaseState.MOVING or state is LeaseState.DRAINING
        )

    def step(self, step: Step) -> None:
        """Moves on.

        Raises:
            InvariantError: The step is not possible here.
        """
        after = TRANSITIONS[self.state].get(step)
        if after is None:
            raise InvariantError(f"a lease that is {self.state.value} cannot {step.value}")
        self.state = after
