"""How source frames become windows, and windows become outward chunks.

A model is given a first *window* of 33 source frames and then 24 at a time. What
leaves it is counted in outward *chunks* of at most 24 frames: the first window
goes out as 9 + 24, every later one as 24, the last may be shorter.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutwardChunk:
    """Frames that leave the service as one chunk."""

    index: int
    """Index in the run, from 0."""
    first_frame: int
    """Index of its first frame in the run."""
    frames: int
    """Number of its frames, 1 to 24."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a model takes in and gives out. Frames are counted, never timed."""

    first_window: int = 33
    """Source frames of the first window; also the fewest a clip may have."""
    window: int = 24
    """Source frames of every later window."""
    chunk: int = 24
    """Most frames of an outward chunk."""

    def window_start(self, index: int) -> int:
        """Returns the index of the first source frame of a window."""
        return 0 if index == 0 else self.first_window + (index - 1) * self.window

    def window_size(self, index: int) -> int:
        """Returns the number of source frames that a window takes."""
        return self.first_window if index == 0 else self.window

    def windows(self, frames: int) -> int:
        """Returns the number of windows that answer `frames` source frames."""
        return 1 + max(0, -(-(frames - self.first_window) // self.window))

    def chunks_before(self, index: int) -> int:
        """Returns the number of outward chunks that precede a window."""
        return 0 if index == 0 else self._first_chunks() + (index - 1) * self._later_chunks()

    def outward(self, index: int, frames: int) -> tuple[OutwardChunk, ...]:
        """Splits the `frames` answered by a window into outward chunks.

        A remainder comes first, so that every later chunk of the window is whole:
        33 is 9 + 24. A last window, cut short by the end of the clip, is one chunk.

        Args:
            index: Index of the window in the run.
            frames: Frames it answers, at most its size.
        """
        remainder = frames % self.chunk
        sizes = ([remainder] if remainder else []) + [self.chunk] * (frames // self.chunk)
        chunks = []
        at = self.window_start(index)
        for number, size in enumerate(sizes, self.chunks_before(index)):
            chunks.append(OutwardChunk(index=number, first_frame=at, frames=size))
            at += size
        return tuple(chunks)

    def _first_chunks(self) -> int:
        return -(-self.first_window // self.chunk)

    def _later_chunks(self) -> int:
        return -(-self.window // self.chunk)
