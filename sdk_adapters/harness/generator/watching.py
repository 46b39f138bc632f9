"""What a viewer sees, turned into metrics while it happens. Pure: frames and times go in.

Times are seconds of one clock that never falls; what lies outside the measured time is
followed but not counted.

Written for speed: whoever reads frames only notes them in `arrivals`. They are looked at
together, once a second and whenever something else happens in the session: code and data
that are used twenty times in a row cost a quarter of what they cost between other things.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from sdk_adapters.harness.generator.chunks import (
    CENSORED_S,
    NOTABLE_S,
    Add,
    Chunks,
    Moves,
    Prompts,
)
from sdk_adapters.harness.generator.numbers import Numbers
from sdk_adapters.harness.records import FREEZES, SessionRecord

FREEZE_S: Final = 0.15
"""Time without a new frame from which a playing picture is frozen."""
HOLD_S: Final = 0.1
"""The newest picture that comes again so much later, by the stream's clock, is held on purpose:
the service does so 0.18 s after it at the earliest. A repeat comes sooner."""
ANCHOR_S: Final = 60.0
"""How long the earliest frame is what others are late against, at least; at most twice as long:
the clocks of two machines drift apart."""
LEAST_PLAYING_S: Final = 1.0
"""A session that played less has no frame rate and no bitrate."""
TOLD: Final = 256
"""What is told of chunks and was not looked at yet; the oldest go first."""
_Began = tuple[int, int, int, int, float]
_Ended = tuple[int, str, float]
_NEVER: Final = float("-inf")
_UNKNOWN: Final = float("inf")


class Window(NamedTuple):
    """The time that counts."""

    begin: float
    end: float


class Arrival(NamedTuple):
    """One frame. In the hot path a plain tuple of these values stands for it."""

    at: float
    """When its last byte came."""
    run: int
    frame: int
    """Its index in the run."""
    due_s: float
    """When it was due, by the stream's own clock."""
    size: int
    """Its bytes."""
    captured_at: float = 0.0
    """When the camera frame that it was made of was captured; 0 where that is not known."""


class Meter:
    """How much CPU goes into measuring: what is done `with` it, within one another once."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        """Has measured nothing.

        Args:
            clock: Tells the CPU seconds of the thread; by default nothing is measured.
        """
        self.spent_s = 0.0
        """CPU seconds so far, but for noting that a frame has come."""
        self._clock = clock
        self._began = 0.0
        self._depth = 0

    def __enter__(self) -> None:
        if not self._depth:
            self._began = self._clock()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.spent_s += self._clock() - self._began


class Watching:
    """Follows one session."""

    def __init__(
        self,
        record: SessionRecord,
        window: Window,
        add: Add,
        late: Callable[[float], None],
        *,
        meter: Meter | None = None,
        frame_rate: float = 24.0,
    ) -> None:
        """Has seen nothing.

        Args:
            record: Where counts are kept.
            window: What counts.
            add: Where values go.
            late: Where `frame_lateness` goes, of frames that count: there are many of them.
            meter: Is told what looking at the frames costs.
            frame_rate: Frames a second that the session plays at.
        """
        self.arrivals: list[Arrival | tuple[float, int, int, float, int, float]] = []
        """Frames that came and were not looked at yet, in order. Bounded by `settle`, which
        is called every second."""
        self._told: deque[_Began | _Ended] = deque(maxlen=TOLD)
        self.frame_rate = frame_rate
        self.playing = False
        """Whether frames are due, as of the last `settle`."""
        self.frames = 0
        """Different frames that came, counted or not, as of the last `settle`."""
        self.freezes = 0
        """Freezes so far, of those that count."""
        self.last_at = 0.0
        """When the newest frame came; 0 before the first."""
        self.by_pixels = False
        """Whether prompts are known by the pictures, so that numbers are not asked."""
        self.glass_by_pixels = False
        """The same of the camera's frames."""
        self.numbers = Numbers()
        """Which frames came."""
        self._record = record
        self._meter = meter or Meter()
        self._begin, self._end = window
        self._add = add
        self._late = late
        self._chunks = Chunks(add)
        self._recently = self._chunks.recent.append
        self._prompts = Prompts(add)
        self._moves = Moves(add)
        self._last_due = _NEVER
        self._anchor = self._newer_anchor = _UNKNOWN
        self._anchored_at = 0.0
        self._shown = 0
        self._played = self._bytes = 0
        self._playing_s = 0.0
        self._frozen_s = 0.0
        self._started_at: float | None = None
        self._started_run = 0
        self._resumed_at: float | None = None
        self._joined = False
        self._lost_at: float | None = None
        self._underruns = (0, 0)
        self._noted: dict[str, float] = {}

    # -- every frame -----------------------------------------------------------------------

    def frame(self, at: float, run: int, frame: int, due_s: float, size: int) -> bool:
        """Takes a frame and looks at it; returns whether it is new. See `Arrival`."""
        known = self.frames
        self.arrivals.append((at, run, frame, due_s, size, 0.0))
        self.settle()
        return self.frames > known

    def settle(self) -> None:
        """Looks at the frames that came, and at what was told of their chunks."""
        if not (self.arrivals or self._told):
            return
        with self._meter:
            self._look()
            self.arrivals.clear()
            for told in self._told:
                if len(told) == 3:
                    self._ended(*told)
                else:
                    self._began(*told)
            self._told.clear()

    def _look(self) -> None:
        """Everything in the loop is paid for with every frame: hence the local names."""
        begin, end, numbers, late = self._begin, self._end, self.numbers, self._late
        anchor, newer_anchor, last_at, last_due = (
            self._anchor, self._newer_anchor, self.last_at, self._last_due
        )  # fmt: skip
        recently, playing_s, shown, played, octets = self._recently, 0.0, 0, 0, 0
        for at, run, frame, due_s, size, captured_at in self.arrivals:
            counts = begin <= at < end
            if run == numbers.run and frame == numbers.next:
                numbers.next = frame + 1
            elif not numbers.unusual(run, frame, held=due_s - last_due >= HOLD_S, counts=counts):
                continue
            offset = at - due_s
            if offset < newer_anchor:
                newer_anchor, anchor = offset, min(anchor, offset)
            self.frames += 1
            if self.playing:
                gap = at - last_at
                if gap > NOTABLE_S:
                    self._gap(at, gap, counts=counts)
                if counts:
                    playing_s += gap
                    played += 1
                    octets += size
            else:
                self._begins(at)
            if counts:
                shown += 1
                late((offset - anchor) * 1e3)
            last_at, last_due = at, due_s
            recently((run, frame, at))
            if captured_at:
                self.glass(captured_at, at)
            if self._lost_at is not None:
                self._back(at)
        self._anchor, self._newer_anchor, self.last_at, self._last_due = (
            anchor, newer_anchor, last_at, last_due
        )  # fmt: skip
        self._playing_s += playing_s
        self._shown += shown
        self._played += played
        self._bytes += octets

    def _back(self, at: float) -> None:
        """Frames come again, after the connection was lost."""
        if self._lost_at is not None:
            self._add("reconnect", (at - self._lost_at) * 1e3, at)
        self._lost_at = None

    def _gap(self, at: float, gap: float, *, counts: bool) -> None:
        self._moves.gap(at, gap)
        if gap > FREEZE_S and counts:
            self.freezes += 1
            self._frozen_s += gap
            if self.freezes <= FREEZES:
                self._record.freezes.append((at - gap, at))

    def _begins(self, at: float) -> None:
        """The picture begins to move: a run, or what comes after a pause."""
        if self._started_at is not None and self.numbers.run > self._started_run:
            self._add("start_to_first_frame", (at - self._started_at) * 1e3, at)
        elif self._resumed_at is not None and at >= self._resumed_at:
            self._add("pause_to_resume", (at - self._resumed_at) * 1e3, at)
        elif not self._joined:
            return
        self._started_at = self._resumed_at = None
        self._joined = False
        self.playing = True
        self._chunks.interrupted()

    # -- what the user does ----------------------------------------------------------------

    def starts(self, at: float) -> None:
        """`start` is sent; sent again, the first time counts."""
        self.settle()
        if self._started_at is None:
            self._started_at, self._started_run = at, self.numbers.run
        self.playing = False

    @property
    def due(self) -> bool:
        """Whether frames are due, or the first one of a run or after a pause is waited for."""
        waits = self._started_at is not None or self._resumed_at is not None
        return self.playing or waits or self._joined

    def resumes(self, at: float, *, paused: bool) -> None:
        """`resume` is sent, or the user wants to see what the session never stopped to play.

        Args:
            at: When; sent again, the first time counts.
            paused: Whether the session has paused; else it goes on as if nothing had been.
        """
        self.settle()
        if paused:
            self._resumed_at = self._resumed_at or at
            self.playing = False
        elif self.frames:
            self.playing, self.last_at = True, at
        else:
            self._joined = True

    def joins(self) -> None:
        """Somebody else plays the session: frames are due from the next one on that comes."""
        self.settle()
        self._joined = not self.playing
        self.numbers.amid = not self.frames

    def stops(self, at: float | None = None) -> None:
        """No frame is due from now on: a pause was sent, the clip is over, or the user leaves.

        Args:
            at: When; a picture that stood until then was frozen so long, and a wait for a first
                frame that was given up counts with what it lasted. None: nothing was due.
        """
        self.settle()
        if at is not None:
            self._stands(at)
            self._give_up_waiting(at)
        self.playing = False
        self._started_at = self._resumed_at = None
        self._joined = False

    def prompted(self, text: str, tag: int, at: float) -> None:
        """A prompt is sent, unlike all before it; pictures made with it show the tag.

        One that is sent while no frame is due is not measured.
        """
        self.settle()
        if self.playing:
            self._prompts.sent(text, tag, at)

    # -- what the service says -------------------------------------------------------------

    def chunk(self, run: int, chunk: int, first_frame: int, underruns: int, at: float) -> None:
        """A chunk has begun to be shown; looked at together with its frames.

        Args:
            run: Its run.
            chunk: Its index in the run.
            first_frame: Index of its first frame in the run.
            underruns: Times that the play-out clock had to wait in this run so far.
            at: When this was told.
        """
        self._told.append((run, chunk, first_frame, underruns, at))

    def chunk_complete(self, chunk: int, prompt: str, at: float) -> None:
        """A chunk of the present run was shown to its end; looked at later, as above.

        Args:
            chunk: Its index in the run.
            prompt: What it was made with.
            at: When this was told.
        """
        self._told.append((chunk, prompt, at))

    def _began(self, run: int, chunk: int, first_frame: int, underruns: int, at: float) -> None:
        if at - self._anchored_at >= ANCHOR_S:
            self._anchored_at, self._anchor = at, self._newer_anchor
            self._newer_anchor = _UNKNOWN
        known = self._underruns[1] if self._underruns[0] == run else 0
        if underruns > known and self._begin <= at < self._end:
            self._record.count("underruns", underruns - known)
        self._underruns = run, max(known, underruns)
        if not self.playing:
            self._chunks.interrupted()
        self._chunks.begun(run, chunk, first_frame, self.frame_rate)

    def _ended(self, chunk: int, prompt: str, at: float) -> None:
        came_at = self._chunks.began_at(self.numbers.run, chunk)
        if came_at is not None and not self.by_pixels:
            self._prompts.told(prompt, came_at)
        self._judge_moves(at)

    def completed(self, frames: int) -> None:
        """A clip was shown to its end; it has so many frames."""
        self.settle()
        self.numbers.whole(frames)
        self.stops()

    def moved(self, at: float) -> None:
        """The session goes on at another actor."""
        self.settle()
        self._judge_moves(at)
        self._moves.moved(at)
        if self._begin <= at < self._end:
            self._record.count("moves")

    # -- what the pictures say -------------------------------------------------------------

    def picture(self, prompt_tag: int, at: float) -> None:
        """A picture shows which prompt it was made with."""
        self.by_pixels = True
        self._prompts.shown(prompt_tag, at)

    def glass(self, captured_at: float, at: float, *, by_pixels: bool = False) -> None:
        """A camera frame captured at one moment is shown, edited, at another.

        Args:
            captured_at: The one.
            at: The other.
            by_pixels: Whether the picture says so; its numbers are not heard any more then.
        """
        if by_pixels:
            self.glass_by_pixels = True
        elif self.glass_by_pixels:
            return
        if at >= captured_at:
            self._add("glass_to_glass", (at - captured_at) * 1e3, at)

    def note(self, count: str, at: float) -> None:
        """Counts a picture that came at a moment: `pictures_read`, for example."""
        if self._begin <= at < self._end:
            self._noted[count] = self._noted.get(count, 0.0) + 1.0

    # -- connections -----------------------------------------------------------------------

    def connected(self) -> None:
        """Frames come over another connection from now on, whose clock is its own."""
        self.settle()
        self._anchor = self._newer_anchor = _UNKNOWN
        self._last_due = _NEVER

    def disconnected(self, at: float) -> None:
        """The connection that brings the frames is lost."""
        self.settle()
        due = self.playing or self._started_at is not None or self._resumed_at is not None
        if due and self._lost_at is None:
            self._lost_at = at

    # -- the end ---------------------------------------------------------------------------

    def close(self, now: float) -> None:
        """Ends: counts what lasts, and writes the counts into the record.

        What lasts beyond the measured time counts as far as it lies within.
        """
        self.settle()
        now = min(now, math.nextafter(self._end, _NEVER))
        counts = self._begin <= now
        self.numbers.over(counts=counts)
        self._give_up_waiting(now)
        lasting_s = self._lasting_s(now)
        self._moves.settle(now, lasting_s=lasting_s, usual_s=1 / self.frame_rate, ends=True)
        self._prompts.close(now, due=self.playing)
        self._stands(now)
        if lasting_s > FREEZE_S and counts and self.freezes <= FREEZES:
            self._record.freezes[-1] = now - lasting_s, math.inf
        for name, value in self._counted().items():
            self._record.count(name, value)
        if self._playing_s > LEAST_PLAYING_S:
            self._record.add("frame_rate", self._played / self._playing_s)
            self._record.add("bitrate", self._bytes * 8e-3 / self._playing_s)
        self.playing = False

    def _stands(self, now: float) -> None:
        """Counts for how long frames that are due have not come, if that is a freeze."""
        lasting_s, counts = self._lasting_s(now), self._begin <= now < self._end
        if lasting_s > FREEZE_S:
            self._gap(now, lasting_s, counts=counts)
            self._playing_s += lasting_s * counts

    def _give_up_waiting(self, now: float) -> None:
        for metric, since in (
            ("start_to_first_frame", self._started_at),
            ("pause_to_resume", self._resumed_at),
        ):
            if since is not None and now - since > CENSORED_S:
                self._add(metric, (now - since) * 1e3, now)

    def _counted(self) -> dict[str, float]:
        return {
            "frames_shown": self._shown,
            "frames_lost": self.numbers.lost,
            "frames_repeated": self.numbers.repeated,
            "freezes": self.freezes,
            "frozen_s": self._frozen_s,
            "playing_s": self._playing_s,
            "bytes": self._bytes,
            "by_pixels": self.by_pixels,
            "glass_by_pixels": self.glass_by_pixels,
            **self._noted,
        }

    def _judge_moves(self, now: float) -> None:
        self._moves.settle(now, lasting_s=self._lasting_s(now), usual_s=1 / self.frame_rate)

    def _lasting_s(self, now: float) -> float:
        """Returns for how long frames that are due do not come."""
        return now - self.last_at if self.playing and self.last_at else 0.0


class Unmeasured(Watching):
    """Counts frames and nothing else: what a run costs without it is what measuring costs."""

    def settle(self) -> None:
        """Counts the frames that came."""
        self.frames += len(self.arrivals)
        self.arrivals.clear()

    def chunk(self, run: int, chunk: int, first_frame: int, underruns: int, at: float) -> None:
        """Does nothing."""
