"""The progress of one run: which windows were dispatched, which chunks were shown.

A run counts; it knows no phases, no clock and no messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from scheduler.core.errors import InvariantError
from scheduler.core.geometry import Geometry, OutwardChunk


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """One window of source frames that the model is to edit."""

    run: int
    index: int
    """Index of the window in the run, from 0."""
    first_frame: int
    """Index of its first source frame in the run."""
    source_frames: int
    """Frames the model is given; a clip that ends earlier is padded with its last frame."""
    frames: int
    """Frames that count; what the model makes beyond them is dropped."""
    chunks: tuple[OutwardChunk, ...]
    """How those frames leave the service."""
    prompt: str
    seed: int
    last: bool
    """Whether it is the last window of a clip. Never in live mode."""


@dataclass(slots=True)
class Run:
    """One run, from `start` to its end."""

    number: int
    geometry: Geometry
    seed: int
    frames: int | None
    """Source frames of the clip; None in live mode, which has no end."""
    windows: int = 0
    """Windows dispatched so far."""
    committed: int = 0
    """Outward chunks shown to their last frame."""
    under_way: WindowPlan | None = None
    """The window that the model is working on."""
    _unshown: deque[tuple[OutwardChunk, str]] = field(default_factory=deque)

    @property
    def exhausted(self) -> bool:
        """Whether every source frame was dispatched."""
        return self.frames is not None and self.windows >= self.geometry.windows(self.frames)

    @property
    def complete(self) -> bool:
        """Whether every source frame was answered and shown."""
        return self.exhausted and not self._unshown

    def plan(self, prompt: str) -> WindowPlan:
        """Returns the next window, as it would be with `prompt`."""
        index = self.windows
        first = self.geometry.window_start(index)
        size = self.geometry.window_size(index)
        frames = size if self.frames is None else min(size, self.frames - first)
        return WindowPlan(
            run=self.number,
            index=index,
            first_frame=first,
            source_frames=size,
            frames=frames,
            chunks=self.geometry.outward(index, frames),
            prompt=prompt,
            seed=self.seed,
            last=self.frames is not None and first + size >= self.frames,
        )

    def dispatch(self, plan: WindowPlan) -> None:
        """Makes the next window the one under way."""
        self.under_way = plan
        self.windows += 1
        self._unshown.extend((chunk, plan.prompt) for chunk in plan.chunks)

    def finish(self, index: int) -> None:
        """Ends the window under way.

        Raises:
            InvariantError: Another window, or none, is under way.
        """
        if self.under_way is None or self.under_way.index != index:
            raise InvariantError(f"window {index} of run {self.number} is not under way")
        self.under_way = None

    def commit(self, chunk: int) -> Iterator[tuple[OutwardChunk, str]]:
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
            yield self._unshown.popleft()
