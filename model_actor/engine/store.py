"""Finished frames of one session, waiting to be encoded just before they are due."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model_actor.plugin import Frames
from scheduler.core.errors import InvariantError


@dataclass(frozen=True, slots=True)
class FinishedFrame:
    """One frame ready to be encoded."""

    run: int
    chunk: int
    frame: int
    image: npt.NDArray[np.uint8]
    source_us: int


@dataclass(frozen=True, slots=True)
class FinishedWindow:
    """The frames one window gave."""

    run: int
    first_frame: int
    """Index of the first frame in the run."""
    frames: Frames
    """I420, shape `(frames, height * 3 // 2, width)`."""
    source_us: tuple[int, ...]
    """Time of each source frame."""
    chunk_starts: tuple[tuple[int, int], ...]
    """(chunk index, first frame) of each outward chunk, in order."""

    @property
    def end(self) -> int:
        """Index after the last frame."""
        return self.first_frame + len(self.frames)

    def frame(self, frame: int) -> FinishedFrame:
        """Returns a frame of the window, by its index in the run."""
        offset = frame - self.first_frame
        chunk = max(index for index, first in self.chunk_starts if first <= frame)
        return FinishedFrame(self.run, chunk, frame, self.frames[offset], self.source_us[offset])


class FrameStore:
    """Keeps finished windows until they are shown and encoded, and the last shown frame for
    ever.

    Bounded by the engine, which lets a session be at most one chunk ahead of what plays, and
    by the outputs, which leave out frames that they come to half a second late: in practice
    two windows and the held frame.
    """

    def __init__(self) -> None:
        self._windows: deque[FinishedWindow] = deque()
        self._held: FinishedFrame | None = None
        self._holds = True
        self._shown = (0, 0)
        """(run, frame) after the last one that was shown."""

    @property
    def held(self) -> FinishedFrame | None:
        """The last frame that was shown: the picture while nothing plays."""
        return self._held if self._holds else None

    @property
    def end(self) -> int:
        """Index after the last finished frame of the newest run; 0 when there is none."""
        return self._windows[-1].end if self._windows else 0

    @property
    def all_shown(self) -> bool:
        """Whether every finished frame was shown."""
        return all((window.run, window.end) <= self._shown for window in self._windows)

    def begin(self, run: int) -> int:
        """Index of the first frame of a run that is still there; 0 when none is."""
        return next((w.first_frame for w in self._windows if w.run == run), 0)

    def add(self, window: FinishedWindow) -> None:
        """Adds the next window of a run.

        Raises:
            InvariantError: It does not follow the last one.
        """
        last = self._windows[-1] if self._windows else None
        if last is not None and last.run == window.run and last.end != window.first_frame:
            msg = f"window at frame {window.first_frame} does not follow frame {last.end}"
            raise InvariantError(msg)
        self._windows.append(window)

    def hold(self, picture: FinishedFrame) -> None:
        """Takes in the picture that viewers were shown last, by another actor."""
        if self._held is None:
            self._held = picture

    def hold_no_more(self) -> None:
        """Others show what follows: no picture holds here any more."""
        self._holds = False

    def holds(self, run: int, frame: int) -> bool:
        """Tells whether a frame is there."""
        return self._holding(run, frame) is not None

    def get(self, run: int, frame: int) -> FinishedFrame | None:
        """Returns a frame, or None when it is not there (yet, or any more)."""
        window = self._holding(run, frame)
        return None if window is None else window.frame(frame)

    def shown(self, run: int, frame: int) -> None:
        """Notes that all frames up to one were shown, which becomes the held one."""
        window = self._holding(run, frame)
        if window is None:
            return
        self._shown = (run, frame + 1)
        held = window.frame(frame)
        # A copy, so that the held picture does not keep its window alive; a window whose
        # frames are all one picture has nothing more to keep.
        if window.frames.strides[0]:
            held = replace(held, image=held.image.copy())
        self._held = held

    def release(self, run: int, frame: int) -> None:
        """Frees the windows that were shown to their end and that no output needs any more.

        Args:
            run: The run that the outputs are at.
            frame: The first frame that some output has still to encode.
        """
        until = min(self._shown, (run, frame))
        while self._windows and (self._windows[0].run, self._windows[0].end) <= until:
            self._windows.popleft()

    def abandon(self, next_run: int) -> None:
        """Drops the frames of runs below `next_run`; the held picture stays."""
        while self._windows and self._windows[0].run < next_run:
            self._windows.popleft()

    def _holding(self, run: int, frame: int) -> FinishedWindow | None:
        for window in self._windows:
            if window.run == run and window.first_frame <= frame < window.end:
                return window
        return None
