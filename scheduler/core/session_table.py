"""The rules of the editing session, as one table.

Two kinds of trigger move a session: commands of clients, keyed by their type, and
what happens in the world, keyed by `World`. The table says for each phase which
triggers mean something there and where they may lead. What is absent is refused
(commands) or changes no phase (world). House rules:

* Every change of phase is in this table; `session.py` checks each against it.
* The table does not act and knows no session. Where one trigger leads to several
  phases, the edge says when, for people; the session decides.
* Whether an argument is acceptable is no matter of phases and is not in here.

`diagram.py` draws this table, so that picture and code cannot drift apart.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from scheduler.core.commands import (
    Command,
    Pause,
    Reset,
    Resume,
    SetMode,
    SetPrompt,
    SetSeed,
    SetVideo,
    Start,
)
from scheduler.core.messages import Phase


class World(enum.Enum):
    """What happens around a session and may change its phase by itself."""

    SOURCE_READY = "source ready"
    """The first packet of the camera, or the accepted clip that `start` waits for."""
    SOURCE_MISSING = "no source"
    """No packet within `source_wait`, or the clip was refused."""
    SOURCE_BACK = "packets return"
    """The camera sends again after compute was released."""
    COMPUTE_BOOKED = "compute booked"
    COMPUTE_REFUSED = "no capacity"
    """The scheduler said no, or nothing within `start_wait`."""
    WINDOW_FINISHED = "window finished"
    MODEL_FAILED = "model failed"
    CLIP_SHOWN = "clip shown to its end"
    MOVED = "moved"
    """It goes on at another actor (`session_moves.py`)."""


class SwitchMode(SetMode):
    """A `SetMode` that names the other mode. `SetMode` itself stands for the same one."""

    __slots__ = ()


Trigger = type[Command] | World


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a trigger may lead."""

    to: Phase
    when: str = ""
    """The condition, for people, where there are several edges."""


EVERYWHERE: tuple[type[Command], ...] = (SetMode, SetPrompt, SetSeed)
"""Commands that are accepted in every phase and change none."""

TABLE: dict[tuple[Phase, Trigger], tuple[Edge, ...]] = {
    **{(phase, command): (Edge(phase),) for phase in Phase for command in EVERYWHERE},
    **{(phase, Reset): (Edge(Phase.IDLE),) for phase in Phase},
    (Phase.IDLE, SwitchMode): (Edge(Phase.IDLE),),
    (Phase.IDLE, SetVideo): (Edge(Phase.IDLE),),
    (Phase.IDLE, Start): (
        Edge(Phase.AWAITING_COMPUTE, "source there"),
        Edge(Phase.AWAITING_SOURCE, "source expected"),
    ),
    (Phase.AWAITING_SOURCE, SwitchMode): (Edge(Phase.IDLE),),
    (Phase.AWAITING_SOURCE, SetVideo): (Edge(Phase.AWAITING_SOURCE),),
    (Phase.AWAITING_SOURCE, World.SOURCE_READY): (Edge(Phase.AWAITING_COMPUTE),),
    (Phase.AWAITING_SOURCE, World.SOURCE_MISSING): (Edge(Phase.IDLE),),
    (Phase.AWAITING_COMPUTE, Pause): (Edge(Phase.PAUSED),),
    (Phase.AWAITING_COMPUTE, World.COMPUTE_BOOKED): (Edge(Phase.RUNNING),),
    (Phase.AWAITING_COMPUTE, World.COMPUTE_REFUSED): (
        Edge(Phase.IDLE, "start asked"),
        Edge(Phase.PAUSED, "resume asked"),
    ),
    (Phase.RUNNING, Pause): (
        Edge(Phase.PAUSING, "a window is under way"),
        Edge(Phase.PAUSED, "none is"),
    ),
    (Phase.RUNNING, World.SOURCE_BACK): (Edge(Phase.AWAITING_COMPUTE),),
    (Phase.RUNNING, World.MODEL_FAILED): (Edge(Phase.IDLE),),
    (Phase.RUNNING, World.CLIP_SHOWN): (Edge(Phase.IDLE),),
    (Phase.PAUSING, Resume): (Edge(Phase.RUNNING),),
    (Phase.PAUSING, World.WINDOW_FINISHED): (Edge(Phase.PAUSED),),
    (Phase.PAUSING, World.MODEL_FAILED): (Edge(Phase.IDLE),),
    (Phase.PAUSING, World.CLIP_SHOWN): (Edge(Phase.IDLE),),
    (Phase.PAUSED, Resume): (
        Edge(Phase.AWAITING_COMPUTE, "something to compute"),
        Edge(Phase.RUNNING, "clip exhausted or camera silent"),
    ),
    # A model may also fail after it has given a window's frames (stage `commit`).
    (Phase.PAUSED, World.MODEL_FAILED): (Edge(Phase.IDLE),),
    (Phase.AWAITING_COMPUTE, World.MODEL_FAILED): (Edge(Phase.IDLE),),
    (Phase.PAUSED, World.CLIP_SHOWN): (Edge(Phase.IDLE),),
    (Phase.AWAITING_SOURCE, World.MOVED): (Edge(Phase.IDLE, "its run is lost"),),
    (Phase.AWAITING_COMPUTE, World.MOVED): (
        Edge(Phase.RUNNING, "compute is booked there"),
        Edge(Phase.IDLE, "its run is lost or over"),
    ),
    (Phase.RUNNING, World.MOVED): (
        Edge(Phase.AWAITING_COMPUTE, "none is booked there"),
        Edge(Phase.IDLE, "its run is lost or over"),
    ),
    (Phase.PAUSING, World.MOVED): (
        Edge(Phase.PAUSED, "the window under way is lost"),
        Edge(Phase.IDLE, "its run is lost or over"),
    ),
    (Phase.PAUSED, World.MOVED): (Edge(Phase.IDLE, "its run is lost or over"),),
}

STARTED = frozenset({Phase.AWAITING_COMPUTE, Phase.RUNNING, Phase.PAUSING, Phase.PAUSED})
"""Phases in which a run exists."""


def targets(phase: Phase, trigger: Trigger) -> tuple[Phase, ...]:
    """Returns the phases a trigger may lead to; none where it means nothing."""
    return tuple(edge.to for edge in TABLE.get((phase, trigger), ()))


def allowed_phases(trigger: Trigger) -> tuple[Phase, ...]:
    """Returns the phases in which a trigger means something, in their order."""
    return tuple(phase for phase in Phase if (phase, trigger) in TABLE)
