"""When chunks began to be shown, which prompts they answer, and what a move cost. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

RECENT: Final = 128
"""Frames whose arrival is remembered until their chunk is announced."""
KEPT: Final = 32
"""Chunks whose first frame is remembered until it is told which prompt they were made with."""
PROMPTS: Final = 64
"""Prompts that may wait for their picture; the oldest are given up."""
CENSORED_S: Final = 5.0
"""A prompt that is unanswered for longer when its session ends counts with what it waited."""
MOVE_S: Final = 5.0
"""Time before and after a move in which a gap belongs to it."""
NOTABLE_S: Final = 0.06
"""A shorter time between two frames is no gap of a move: at 24 frames a second it is 42 ms."""

Add = Callable[[str, float, float], None]
"""Takes a metric, a value and the moment it belongs to; drops it if the moment does not count."""


class _Begun(NamedTuple):
    """A chunk whose first frame came."""

    run: int
    chunk: int
    first_frame: int
    at: float


class Chunks:
    """The chunks of one session."""

    def __init__(self, add: Add) -> None:
        """Has seen nothing.

        Args:
            add: Takes `chunk_interval` and `chunk_jitter`.
        """
        self.recent: deque[tuple[int, int, float]] = deque(maxlen=RECENT)
        """Run, index and arrival of the newest frames: whoever takes frames appends to it."""
        self._add = add
        self._began: dict[tuple[int, int], float] = {}
        self._newest: _Begun | None = None

    def interrupted(self) -> None:
        """The picture stood: the next chunk follows none."""
        self._newest = None

    def begun(self, run: int, chunk: int, first_frame: int, frame_rate: float) -> None:
        """A chunk has begun to be shown.

        Args:
            run: Its run.
            chunk: Its index in the run.
            first_frame: Index of its first frame in the run.
            frame_rate: Frames a second that are due.
        """
        at = next(
            (at for of, index, at in reversed(self.recent) if (of, index) == (run, first_frame)),
            None,
        )
        before, self._newest = self._newest, None
        if at is None:
            return
        self._newest = _Begun(run, chunk, first_frame, at)
        self._began[run, chunk] = at
        if len(self._began) > KEPT:
            del self._began[next(iter(self._began))]
        if before is None or (before.run, before.chunk + 1) != (run, chunk):
            return
        interval_s = at - before.at
        due_s = (first_frame - before.first_frame) / frame_rate
        self._add("chunk_interval", interval_s * 1e3, at)
        self._add("chunk_jitter", abs(interval_s - due_s) * 1e3, at)

    def began_at(self, run: int, chunk: int) -> float | None:
        """Returns when the first frame of a chunk came, if that is known."""
        return self._began.get((run, chunk))


class _Prompt(NamedTuple):
    """A prompt whose picture has not come."""

    text: str
    tag: int
    sent_at: float


class Prompts:
    """The prompts of one session that wait for their pictures, no two of them alike."""

    def __init__(self, add: Add) -> None:
        """Has none.

        Args:
            add: Takes `prompt_to_pixels`.
        """
        self._add = add
        self._waiting: deque[_Prompt] = deque(maxlen=PROMPTS)

    def sent(self, text: str, tag: int, at: float) -> None:
        """A prompt is sent; pictures made with it show the tag."""
        self._waiting.append(_Prompt(text, tag, at))

    def told(self, text: str, at: float) -> None:
        """What was made with a prompt came at a moment."""
        self._answered(lambda each: each.text == text and each.sent_at <= at, at)

    def shown(self, tag: int, at: float) -> None:
        """A picture that came at a moment shows a tag."""
        if self._waiting:
            self._answered(lambda each: each.tag == tag and each.sent_at <= at, at)

    def close(self, now: float, *, due: bool) -> None:
        """Nothing comes any more.

        Args:
            now: The time.
            due: Whether pictures were due: prompts then count as far as they waited.
        """
        for each in self._waiting:
            if due and now - each.sent_at > CENSORED_S:
                self._add("prompt_to_pixels", (now - each.sent_at) * 1e3, now)
        self._waiting.clear()

    def _answered(self, fits: Callable[[_Prompt], bool], at: float) -> None:
        """Takes off a prompt whose picture came, and those before it, which it made void."""
        found = next((index for index, each in enumerate(self._waiting) if fits(each)), None)
        if found is None:
            return
        for _ in range(found):
            self._waiting.popleft()
        self._add("prompt_to_pixels", (at - self._waiting.popleft().sent_at) * 1e3, at)


class Moves:
    """The longest time without a frame around each move of one session."""

    def __init__(self, add: Add) -> None:
        """Has seen none.

        Args:
            add: Takes `migration_gap`.
        """
        self._add = add
        self._gaps: deque[tuple[float, float]] = deque(maxlen=256)
        self._moved: deque[float] = deque(maxlen=16)

    def gap(self, at: float, seconds: float) -> None:
        """So long no frame came until a moment; only what is longer than `NOTABLE_S` matters."""
        self._gaps.append((at, seconds))

    def moved(self, at: float) -> None:
        """The session goes on at another actor."""
        self._moved.append(at)

    def settle(self, now: float, *, lasting_s: float, usual_s: float, ends: bool = False) -> None:
        """Judges the moves whose time is over.

        Args:
            now: The time.
            lasting_s: For how long frames that are due do not come just now.
            usual_s: Time between two frames.
            ends: Whether nothing follows, so that all are judged.
        """
        while self._moved and (ends or now - self._moved[0] >= MOVE_S):
            moved_at = self._moved.popleft()
            near = [
                seconds
                for at, seconds in self._gaps
                if at - seconds - MOVE_S <= moved_at <= at + MOVE_S
            ]
            self._add("migration_gap", max(*near, lasting_s, usual_s) * 1e3, moved_at)
