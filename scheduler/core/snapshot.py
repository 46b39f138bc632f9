"""What an editing session is between two chunks, as values, and how it goes on elsewhere.

A session is a snapshot plus a lease: `Session.snapshot` says all that another actor needs,
`Session.restored` goes on from it. A `Resumption` tells what only the outside knows: how far
clients have seen it, and what model state is at hand.

**A snapshot is to be as new as what clients were told**: whatever tells them something changes
the revision, and is followed by a snapshot in one write with it. What happens in silence (a
window is dispatched or finished) may be missing: it is inferred from the frames shown.

How a run goes on, where its old actor does not go on showing what it has made:

* *File, with a model state to go on from* (`Continuity.EXACT`). The model goes back to that
  state and makes the windows since once more, each with the prompt it was made with, so the
  frames are the same. `WindowPlan.skip` says how many of a window were shown before. A state
  can serve only when every frame before it was shown, for the model cannot go back from it:
  **keep a state until a later one is shown to its end**, not until a later one exists. The
  seed is a state too, that of no windows: a run of which no state was kept is made again
  from its first window while no more than `REMADE_WINDOWS` prompts have to be remembered.
* *Live, with a model state* (`LIVE_EDGE`). Nothing is made again; the model counts on from
  its state, the next window begins at the first frame not shown. A chunk that was partly
  shown is complete with the frames that were; one of which nothing was shown does not exist.
* *No model state* (`RESTARTED`). As live, but the model begins anew, from its window 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scheduler.core.commands import Command, FileRef, Mode
from scheduler.core.effects import Asker
from scheduler.core.geometry import OutwardChunk
from scheduler.core.messages import Phase
from scheduler.core.prompts import Blend, Course
from scheduler.core.staging import Clip

REMADE_WINDOWS = 16
"""Most windows of a clip that are made again, and so the most prompts that are remembered."""


@dataclass(frozen=True, slots=True)
class KeptModel:
    """Where windows can be made again from."""

    windows: int
    """Windows of the run that the model had finished; 0: it begins anew from the seed."""
    prompts: tuple[Blend, ...]
    """The prompts of the windows dispatched since, in order. Of use for a clip only."""


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """The progress of a run; see `scheduler.core.run.Run` for what its counts mean."""

    number: int
    seed: int
    frames: int | None
    windows: int
    frame_offset: int
    chunk_offset: int
    committed: int
    shown: int
    started: bool
    unshown: tuple[tuple[OutwardChunk, str], ...]
    """Chunks dispatched and not shown to their end, oldest first, with their prompts."""
    kept: KeptModel | None
    """None: too many windows were made since any state."""
    course: Course = field(default_factory=Course)
    """Where its prompt stands: the next window goes on with a transition under way."""


@dataclass(frozen=True, slots=True)
class Handled:
    """A command that was handled."""

    asker: Asker
    """Who asked last."""
    accepted: bool


@dataclass(frozen=True, slots=True)
class DueAnswer:
    """A command that was accepted and whose answer is still due."""

    command: type[Command]
    asker: Asker


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """A session at one moment. Who holds it, and under which lease, is not part of it."""

    revision: int
    """Revision of the last message to all."""
    phase: Phase
    waiting: type[Command] | None
    """The command for whose sake it is in a wait; None: none, or no client waits."""
    mode: Mode
    seed: int
    """Seed of the next start."""
    prompt: str | None
    clip: Clip | None
    probe: FileRef | None
    """A clip that is being examined."""
    run_number: int
    """Number of the present run, or of the last one."""
    run_seed: int
    """Seed of the present run, or of the next one while `start` waits for a source."""
    run: RunSnapshot | None
    """The present run, or the one that was played through last."""
    streaming: bool
    """Whether windows are being dispatched since compute was booked."""
    handled: tuple[Handled, ...]
    """Commands that can be repeated, oldest first."""
    due: tuple[DueAnswer, ...]


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a session goes on from, beside its snapshot."""

    run: int
    """The run that plays at the gateway; 0 where nobody knows."""
    next_frame: int
    """First frame of it that was not handed out; 0 where nobody knows: then what the
    snapshot says was shown counts."""
    revision: int
    """Revision of the last message that clients have seen."""
    handed_over: bool
    """The old actor goes on showing what it has made, and has no window under way."""
    kept_windows: int | None
    """Windows of the snapshot's present run that the model state at hand has finished, as
    the model counts them; None: there is no usable state. Of a session that was handed over
    nothing is asked: the model goes on from the state that was handed over with it."""
    computing: bool
    """Compute is booked for it already."""
    reason: str
    """Why it moved, for people."""
    fork: bool = False
    """It is a copy: a session of its own, with revisions of its own, that begins after what
    its original has made. Nothing else of the gateway's knowledge counts."""
