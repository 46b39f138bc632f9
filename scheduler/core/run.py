"""The progress of one run: which windows were dispatched, which chunks were shown.

A run counts; it knows no phases, no clock and no messages. Windows are counted as the
model counts them, frames and chunks as clients do. The two fit by two offsets, which are 0
until the model begins anew in the middle of a run or leaves frames out (`snapshot.py`).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from scheduler.core.errors import InvariantError
from scheduler.core.geometry import Geometry, OutwardChunk
from scheduler.core.messages import Continuity
from scheduler.core.prompts import Blend, Course, Share
from scheduler.core.retrace import Retrace
from scheduler.core.snapshot import KeptModel, RunSnapshot

MadeChunk = tuple[OutwardChunk, str]
"""A chunk, and the prompt it was made with."""


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """One window of source frames that the model is to edit."""

    run: int
    index: int
    """Index of the window as the model counts; with 0 it begins anew, from the seed."""
    first_frame: int
    """Index of its first source frame in the run."""
    source_frames: int
    """Frames the model is given; a clip that ends earlier is padded with its last frame."""
    frames: int
    """Frames of what it answers that count; what the model makes beyond them is dropped."""
    chunks: tuple[OutwardChunk, ...]
    """How those frames leave the service."""
    prompt: str
    seed: int
    last: bool
    """Whether it is the last window of a clip. Never in live mode."""
    skip: int = 0
    """Frames at its beginning that were shown before, by another actor: they are made again
    for the model's sake, and neither announced nor shown again."""
    earlier: tuple[Share, ...] = ()
    """What is still seen of prompts before `prompt`, in a transition."""
    carried: int = 0
    """Frames before `first_frame` that it answers first: a model that looks ahead owes them."""
    owed: int = 0
    """Frames at its end that the next window answers."""

    @property
    def answers_from(self) -> int:
        """Index in the run of the first frame that it answers."""
        return self.first_frame - self.carried

    @property
    def made(self) -> int:
        """Frames that the model makes of it."""
        return self.carried + self.source_frames - self.owed


@dataclass(slots=True)
class Run:
    """One run, from `start` to its end."""

    number: int
    geometry: Geometry
    seed: int
    frames: int | None
    """Source frames of the clip; None in live mode, which has no end."""
    windows: int = 0
    """Windows dispatched so far, as the model counts them."""
    frame_offset: int = 0
    """Index in the run of the first frame of the model's window 0. Below 0 where a live
    model had made more than was shown."""
    chunk_offset: int = 0
    """Index in the run of the first chunk of the model's window 0; likewise."""
    committed: int = 0
    """Outward chunks shown to their last frame."""
    shown: int = 0
    """Frames known to have been shown: all of those chunks, and what a move told of more."""
    started: bool = False
    """Whether its first window was ever dispatched."""
    under_way: WindowPlan | None = None
    """The window that the model is working on."""
    _unshown: deque[MadeChunk] = field(default_factory=deque)
    _retrace: Retrace = field(default_factory=lambda: Retrace(KeptModel(0, ()), 0))
    _course: Course = field(default_factory=Course)
    _course_before: Course | None = None
    """Before the window under way, while that can be made with another prompt."""

    @classmethod
    def restored(cls, geometry: Geometry, snapshot: RunSnapshot) -> Run:
        """Returns the run that a snapshot shows. No window of it is under way."""
        return cls(
            number=snapshot.number,
            geometry=geometry,
            seed=snapshot.seed,
            frames=snapshot.frames,
            windows=snapshot.windows,
            frame_offset=snapshot.frame_offset,
            chunk_offset=snapshot.chunk_offset,
            committed=snapshot.committed,
            shown=snapshot.shown,
            started=snapshot.started,
            _unshown=deque(snapshot.unshown),
            _retrace=Retrace(snapshot.kept, snapshot.windows),
            _course=snapshot.course,
        )

    def snapshot(self) -> RunSnapshot:
        """Returns all there is to know of it but the window under way."""
        return RunSnapshot(
            number=self.number,
            seed=self.seed,
            frames=self.frames,
            windows=self.windows,
            frame_offset=self.frame_offset,
            chunk_offset=self.chunk_offset,
            committed=self.committed,
            shown=self.shown,
            started=self.started,
            unshown=tuple(self._unshown),
            kept=self._retrace.kept,
            course=self._course,
        )

    @property
    def position(self) -> int:
        """Index of the first source frame that the next window takes."""
        return self._start(self.windows)

    @property
    def answered(self) -> int:
        """Index of the first frame that no window dispatched so far answers."""
        return self.position if self.exhausted else self._answers_from(self.windows)

    @property
    def exhausted(self) -> bool:
        """Whether every source frame was dispatched."""
        return self.frames is not None and self.position >= self.frames

    @property
    def complete(self) -> bool:
        """Whether every source frame was answered and shown."""
        return self.exhausted and not self._unshown

    def plan(self, prompt: str) -> WindowPlan:
        """Returns the next window, as it would be with `prompt`.

        A window that is made again has the prompt that it was made with.
        """
        index, first, geometry = self.windows, self.position, self.geometry
        size, carried = geometry.window_size(index), geometry.carried(index)
        last = self.frames is not None and first + size >= self.frames
        made, begin = geometry.answered(index, last=last), first - carried
        frames = made if self.frames is None else min(made, self.frames - begin)
        blend = self._retrace.prompt(index) or self._course.next(prompt)
        return WindowPlan(
            run=self.number,
            index=index,
            first_frame=first,
            source_frames=size,
            frames=frames,
            chunks=tuple(self._outward(index, frames)),
            prompt=blend.prompt,
            seed=self.seed,
            last=last,
            skip=min(max(0, self.shown - begin), frames),
            earlier=blend.earlier,
            carried=carried,
            owed=0 if last else geometry.lag,
        )

    def aim(self, transition: int) -> None:
        """A prompt was set, and is to be reached over so many windows."""
        self._course = self._course.aim(transition)
        if self._course_before is not None:
            self._course_before = self._course_before.aim(transition)

    def dispatch(self, plan: WindowPlan) -> None:
        """Makes the next window the one under way."""
        self.under_way = plan
        self.windows += 1
        self.started = True
        blend = Blend(plan.prompt, plan.earlier)
        self._course_before = None
        if self._retrace.prompt(plan.index) is None:
            self._course_before, self._course = self._course, self._course.after(blend)
        self._retrace.latch(plan.index, blend)
        known = self.committed + len(self._unshown)
        self._unshown.extend((each, plan.prompt) for each in plan.chunks if each.index >= known)

    def relatch(self, prompt: str) -> WindowPlan | None:
        """Makes the window under way with the present prompt, where the model has not begun to.

        Returns:
            The window as it is now; None where it stays as it was.
        """
        plan, before = self.under_way, self._course_before
        if plan is None or before is None:
            return None
        blend = before.next(prompt)
        self._course = before.after(blend)
        if blend == Blend(plan.prompt, plan.earlier):
            return None
        self._retrace.amend(blend)
        self.under_way = plan = replace(plan, prompt=blend.prompt, earlier=blend.earlier)
        known = {chunk.index for chunk in plan.chunks}
        self._unshown = deque(
            (chunk, blend.prompt if chunk.index in known else before_it)
            for chunk, before_it in self._unshown
        )
        return plan

    def latched(self) -> None:
        """The model begins to make the window under way with its prompt."""
        self._course_before = None

    def finish(self, index: int) -> None:
        """Ends the window under way.

        Raises:
            InvariantError: Another window, or none, is under way.
        """
        if self.under_way is None or self.under_way.index != index:
            raise InvariantError(f"window {index} of run {self.number} is not under way")
        self.under_way = self._course_before = None

    def commit(self, chunk: int) -> Iterator[MadeChunk]:
        """Counts every chunk up to `chunk` as shown.

        Acknowledgements come in order, so one that was lost is implied by the next, and
        one that is repeated yields nothing.

        Yields:
            Each chunk as it is counted, with the prompt it was made with.

        Raises:
            InvariantError: The chunk was never dispatched.
        """
        if chunk >= self.committed + len(self._unshown):
            raise InvariantError(f"chunk {chunk} of run {self.number} was never dispatched")
        while self.committed <= chunk:
            self.committed += 1
            made = self._unshown.popleft()
            self._saw(_end(made))
            yield made

    # The model's state, and going on elsewhere

    def keep(self, windows: int) -> None:
        """The state of the model after so many windows is kept.

        Raises:
            InvariantError: So many were never dispatched.
        """
        if windows > self.windows:
            raise InvariantError(f"window {windows} of run {self.number} was never dispatched")
        self._retrace.keep(windows)
        self._retrace.forget(self._is_shown)

    @property
    def reachable(self) -> range:
        """Windows before the states of the model that it can go back to: it knows the prompts
        since, and would leave out nothing that was not shown.
        """
        reach = self._retrace.reach
        return range(reach.start, reach.start + sum(map(self._is_shown, reach)))

    def see(self, next_frame: int) -> list[MadeChunk]:
        """Counts what comes before a frame as shown.

        Returns:
            The chunks that are thereby shown to their end.
        """
        self._saw(next_frame if self.frames is None else min(next_frame, self.frames))
        ended = sum(1 for made in self._unshown if _end(made) <= self.shown)
        return list(self.commit(self.committed + ended - 1))

    def go_on(
        self, next_frame: int, prompt: str, state: int | None
    ) -> tuple[Continuity, list[MadeChunk]]:
        """Goes on where all that was made and not shown is lost; see `snapshot.py`.

        Frames that were shown are known to have been made, even if this run never heard of it.

        Args:
            next_frame: First frame that was not shown.
            prompt: The present prompt. It counts as that of windows not heard of.
            state: Windows that the model state at hand has finished; None: there is none.

        Returns:
            How, and the chunks that are thereby shown to their end, or as far as ever.
        """
        while self.answered < next_frame and not self.exhausted:
            self.dispatch(self.plan(prompt))
        self.under_way = self._course_before = None
        shown = self.see(next_frame)
        if self.complete:
            return Continuity.EXACT, shown
        if self.frames is not None:
            for back in (state, 0):
                if back is not None and back in self.reachable:
                    self.windows, self._retrace = back, self._retrace.since(back)
                    return Continuity.EXACT, shown
            state = 0
        before = self.windows, self.position
        shown += self._cut()
        self._count_on(state or 0)
        if (self.windows, self.position) == before:
            return Continuity.EXACT, shown
        return Continuity.LIVE_EDGE if self.windows else Continuity.RESTARTED, shown

    def _cut(self) -> list[MadeChunk]:
        """Drops what was not shown; returns the chunk that ends in the middle by that, if any."""
        cut = [
            (replace(chunk, frames=self.shown - chunk.first_frame), prompt)
            for chunk, prompt in self._unshown
            if chunk.first_frame < self.shown
        ]
        self._unshown.clear()
        self.committed += len(cut)
        return cut

    def _count_on(self, windows: int) -> None:
        """Lets the model's window of that index be the next, at the first frame not shown."""
        self.windows = windows
        self.frame_offset = self.shown - self.geometry.answers_from(windows)
        self.chunk_offset = self.committed - self.geometry.chunks_before(windows)
        self._retrace = Retrace(KeptModel(windows, ()), windows)

    def _start(self, windows: int) -> int:
        return self.frame_offset + self.geometry.window_start(windows)

    def _answers_from(self, windows: int) -> int:
        return self.frame_offset + self.geometry.answers_from(windows)

    def _is_shown(self, windows: int) -> bool:
        return self._answers_from(windows) <= self.shown

    def _saw(self, frames: int) -> None:
        self.shown = max(self.shown, frames)
        self._retrace.forget(self._is_shown)

    def _outward(self, index: int, frames: int) -> Iterator[OutwardChunk]:
        """Returns the chunks of a window as clients count."""
        for chunk in self.geometry.outward(index, frames):
            first = chunk.first_frame + self.frame_offset
            yield OutwardChunk(chunk.index + self.chunk_offset, first, chunk.frames)


def usable_states(geometry: Geometry, newest: RunSnapshot, next_frame: int) -> range:
    """Returns from which model states a run can go on, by the windows they had finished.

    The later one is the better. States of the same run from before the model began anew
    (those of another `frame_offset`) are of no use for a clip.

    Args:
        geometry: How the model counts frames.
        newest: The run as it was last known.
        next_frame: First frame of it that was not handed out.
    """
    if newest.frames is None:
        return range(1, sys.maxsize)
    run = Run.restored(geometry, newest)
    run.shown = max(run.shown, next_frame)
    return run.reachable


def _end(made: MadeChunk) -> int:
    chunk, _ = made
    return chunk.first_frame + chunk.frames
