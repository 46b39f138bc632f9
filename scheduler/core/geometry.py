"""How source frames become windows, and windows become outward chunks.

A model is given a first *window* of 33 source frames and then 24 at a time. What
leaves it is counted in outward *chunks* of at most 24 frames: the first window
goes out as 9 + 24, every later one as 24, the last may be shorter.

A model that looks ahead *lags*: a window answers the source up to some frames before its
end, and those it leaves are answered by the next one, or at the end of a clip by the last.
With a lag of 16 the first window of 33 goes out as 17.
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
    lag: int = 0
    """Frames at the end of a window that are answered by the next one, or by the last one of a
    clip itself; fewer than `first_window`."""

    def window_start(self, index: int) -> int:
        """Returns the index of the first source frame of a window."""
        return 0 if index == 0 else self.first_window + (index - 1) * self.window

    def window_size(self, index: int) -> int:
        """Returns the number of source frames that a window takes."""
        return self.first_window if index == 0 else self.window

    def carried(self, index: int) -> int:
        """Returns the frames of the window before that a window answers first."""
        return self.lag if index else 0

    def answers_from(self, index: int) -> int:
        """Returns the index of the first frame that a window answers."""
        return self.window_start(index) - self.carried(index)

    def answered(self, index: int, *, last: bool) -> int:
        """Returns the number of frames that a window answers; the last one of a clip owes none."""
        return self.carried(index) + self.window_size(index) - (0 if last else self.lag)

    def windows(self, frames: int) -> int:
        """Returns the number of windows that answer `frames` source frames."""
        return 1 + max(0, -(-(frames - self.first_window) // self.window))

    def chunks_before(self, index: int) -> int:
        """Returns the number of outward chunks that precede a window."""
        return 0 if index == 0 else self._first_chunks() + (index - 1) * self._later_chunks()

    def outward(self, index: int, frames: int) -> tuple[OutwardChunk, ...]:
        """Splits the `frames` answered by a window into outward chunks.

        A remainder comes first, so that every later chunk of the window is whole:
        33 is 9 + 24. A last window, cut short by the end of the clip, is one chunk. What the
        last one answers beyond what others do, because it owes nothing, comes after that.

        Args:
            index: Index of the window in the run.
            frames: Frames it answers, at most `answered`.
        """
        usual = min(frames, self.answered(index, last=False))
        sizes = [*self._split(usual), *self._split(frames - usual)]
        chunks = []
        at = self.answers_from(index)
        for number, size in enumerate(sizes, self.chunks_before(index)):
            chunks.append(OutwardChunk(index=number, first_frame=at, frames=size))
            at += size
        return tuple(chunks)

    def _split(self, frames: int) -> list[int]:
        remainder = frames % self.chunk
        return ([remainder] if remainder else []) + [self.chunk] * (frames // self.chunk)

    def _first_chunks(self) -> int:
        return -(-(self.first_window - self.lag) // self.chunk)

    def _later_chunks(self) -> int:
        return -(-self.window // self.chunk)
