"""How a session leaves one actor for another while it is being shown. Pure.

The scheduler says where to (`SessionMoves`). The new actor is first given the camera alone,
so that its decoder has begun when it takes over; then the old one is asked to hand the
session over. From its answer on the new actor makes what comes, and the old one shows what
it has made, to its last frame: for a while two actors play one sequence.

Several gateways of one session may ask for the same; the actor hands it over once and tells
all. A gateway may so be told of a hand-over that it did not ask for, even before it has
heard where the session goes to.

What dies on the way: before the hand-over the other of the two is enough. After it the old
actor's loss costs the frames that it had not yet encoded (the picture holds for as long as
they would have been shown), and the new one's is a death like any other.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

ANSWER_S: Final = 0.5
"""How long the new actor may take to say that it is there; then the session is handed over
all the same."""
FEED_S: Final = 1.5
"""How long a new actor is sent the camera, from a keyframe on, before the session is handed
over: longer than a window lasts, and the making of one."""
FOREIGN_S: Final = 3.0
"""The same where another gateway has the camera, or no keyframe comes: that gateway knows
better, and asks sooner."""
CHUNK_S: Final = 1.5
"""How long the hand-over then waits for the old actor's next chunk: with that before it, the
new actor has the most time to make what follows."""
HAND_OVER_S: Final = 30.0
"""How long a hand-over may take. An actor first finishes what it computes."""
LATE_S: Final = 0.25
"""How long the old actor is listened to after its last frame was due."""


class Stage(enum.Enum):
    """How far a move has come."""

    STAYING = "staying"
    """There is one actor, or none."""
    PREPARING = "preparing"
    """The new actor gets the camera, the old one does all."""
    HANDING_OVER = "handing_over"
    """The old actor was asked, and still does all."""
    OVERLAPPING = "overlapping"
    """The new actor, once known, goes on; the old one shows what it has made."""


class Event(enum.Enum):
    """What happens."""

    TOLD = "told"
    """The scheduler has named a new actor."""
    PREPARED = "prepared"
    """The new actor is as ready as it gets."""
    HANDED_OVER = "handed_over"
    KEPT = "kept"
    """The old actor cannot hand the session over, and keeps it."""
    OVERDUE = "overdue"
    """The old actor does not answer."""
    OLD_LOST = "old_lost"
    NEW_LOST = "new_lost"
    """The new actor is gone, or does not take the session."""
    SHOWN = "shown"
    """All that the old actor has made was shown."""


class Act(enum.Enum):
    """What is to be done."""

    STAND_BY = "stand_by"
    """Open the session at the new actor for its camera alone."""
    HAND_OVER = "hand_over"
    """Ask the old actor to hand it over."""
    GO_ON = "go_on"
    """Open it at the new actor with what was handed over; the old one stays."""
    TAKE_OVER = "take_over"
    """Open it at the new actor as after the death of the old one, which is left."""
    SEEK = "seek"
    """Ask where it was handed over to."""
    LEAVE_OLD = "leave_old"
    LEAVE_NEW = "leave_new"
    RESTORE = "restore"
    """No actor is left: have it placed anew."""


_S, _E, _A = Stage, Event, Act
_BEFORE: Final = (_S.PREPARING, _S.HANDING_OVER)

TABLE: Final[dict[tuple[Stage, Event], tuple[Stage, tuple[Act, ...]]]] = {
    (_S.STAYING, _E.TOLD): (_S.PREPARING, (_A.STAND_BY,)),
    (_S.STAYING, _E.HANDED_OVER): (_S.OVERLAPPING, (_A.SEEK,)),
    (_S.STAYING, _E.OLD_LOST): (_S.STAYING, (_A.RESTORE,)),
    (_S.PREPARING, _E.PREPARED): (_S.HANDING_OVER, (_A.HAND_OVER,)),
    (_S.HANDING_OVER, _E.OVERDUE): (_S.STAYING, (_A.TAKE_OVER,)),
    **{
        (stage, event): outcome
        for stage in _BEFORE
        for event, outcome in {
            # Another target instead of the one before, which whoever tells has left.
            _E.TOLD: (_S.PREPARING, (_A.STAND_BY,)),
            _E.HANDED_OVER: (_S.OVERLAPPING, (_A.GO_ON,)),
            _E.KEPT: (_S.STAYING, (_A.LEAVE_NEW,)),
            _E.OLD_LOST: (_S.STAYING, (_A.TAKE_OVER,)),
            # If the old actor was asked already, it is about to hand over to nobody: SEEK.
            _E.NEW_LOST: (_S.STAYING, (_A.LEAVE_NEW,)),
        }.items()
    },
    # It was handed over before this gateway knew where to.
    (_S.OVERLAPPING, _E.TOLD): (_S.OVERLAPPING, (_A.GO_ON,)),
    (_S.OVERLAPPING, _E.OLD_LOST): (_S.OVERLAPPING, ()),
    (_S.OVERLAPPING, _E.NEW_LOST): (_S.STAYING, (_A.LEAVE_OLD, _A.RESTORE)),
    (_S.OVERLAPPING, _E.SHOWN): (_S.STAYING, (_A.LEAVE_OLD,)),
}
"""What is not here changes nothing."""


@dataclass(slots=True)
class Move:
    """The move of one session. `now` is in seconds on any monotonic clock."""

    stage: Stage = Stage.STAYING
    wake_at: float | None = field(default=None, init=False)
    """When `wake` is to be called."""
    _needs_camera: bool = field(default=True, init=False)
    _awaits_chunk: bool = field(default=False, init=False)
    _is_ready: bool = field(default=False, init=False)

    def tell(self, event: Event, now: float) -> tuple[Act, ...]:
        """Takes an event in; returns what is to be done, in order."""
        outcome = TABLE.get((self.stage, event))
        if outcome is None:
            return ()
        before, (self.stage, acts) = self.stage, outcome
        self._is_ready = False
        if self.stage is not before or event is Event.TOLD:
            waits = _WAITS.get(self.stage)
            self.wake_at = None if waits is None else now + waits
        return acts

    def prepare(self, now: float, *, live: bool, running: bool) -> None:
        """The new actor was opened.

        Args:
            now: The time.
            live: Whether it needs the camera before it can take over.
            running: Whether the old one makes chunks.
        """
        self._needs_camera, self._awaits_chunk, self._is_ready = live, running, False
        if self.stage is Stage.PREPARING and not live:
            self.wake_at = now + ANSWER_S

    def answered(self, now: float) -> None:
        """The new actor is there. Where it needs no camera, that is all."""
        if self.stage is Stage.PREPARING and not self._needs_camera and not self._is_ready:
            self.wake_at = now

    def fed(self, now: float) -> None:
        """The new actor was sent its first keyframe of the camera."""
        if self.stage is Stage.PREPARING and self.wake_at is not None and not self._is_ready:
            self.wake_at = min(self.wake_at, now + FEED_S)

    def announced(self, now: float) -> tuple[Act, ...]:
        """The old actor has made a chunk; returns what is to be done."""
        return self.tell(Event.PREPARED, now) if self._is_ready else ()

    def last_shown(self, now: float) -> None:
        """The last frame that the old actor has made was due."""
        if self.stage is Stage.OVERLAPPING:
            self.wake_at = now + LATE_S

    def wake(self, now: float) -> tuple[Act, ...]:
        """Returns what is to be done now that `wake_at` has come."""
        if self.wake_at is None or now < self.wake_at:
            return ()
        self.wake_at = None
        if self.stage is Stage.PREPARING and self._awaits_chunk and not self._is_ready:
            self._is_ready, self.wake_at = True, now + CHUNK_S
            return ()
        event = _DUE.get(self.stage)
        return () if event is None else self.tell(event, now)


_WAITS: Final = {Stage.PREPARING: FOREIGN_S, Stage.HANDING_OVER: HAND_OVER_S}
"""The longest that a stage lasts, if it has an end of its own."""
_DUE: Final = {
    Stage.PREPARING: Event.PREPARED,
    Stage.HANDING_OVER: Event.OVERDUE,
    Stage.OVERLAPPING: Event.SHOWN,
}
"""What the time to wake stands for."""
