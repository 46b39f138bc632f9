"""The play-out clock of one session: when each frame of main_video is due.

Pure: announcements and the time go in, due frames come out. The owning gateway runs one
for every session, with or without viewers, and tells the actor where it stands; the
frames themselves wait in the actor, which encodes each shortly before it is due.

Deadlines hang on an anchor, never on the moment the loop woke up: frame *n* after the
anchor is due at `anchor + n / frame_rate`, so lateness and rounding do not add up. The
anchor is set anew only

* for the first frame of a run, and after a hold: as soon as its packet can be here;
* after an underrun, when a chunk comes too late to go on: as soon as its packet can be
  here, and a margin later where chunks come at uneven times (`gateway.lead`);
* when such a margin, or the lateness itself, has proved needless: forward, by a few
  milliseconds;
* when the caller was away for more than `max_late_s`, so that it gets no burst.

A chunk whose first frame can be here less than half a frame period after its deadline is
no underrun: that frame leaves late, the next in time, and the anchor stays. Otherwise a
model that finishes every chunk just when it is due would push its own deadlines back by
one transit a chunk.

Timestamps are the distance of a deadline from the very first one, so that a viewer's
media clock runs as fast as the play-out it watches, across runs, pauses and underruns.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from gateway.lead import Lead
from scheduler.core.errors import InvariantError

MAX_CHUNKS = 64
"""Chunks that may wait at once. An actor keeps a few: each is 32 MB of its memory."""
TOLERANCE = 0.5
"""Share of a frame period that the first frame of a chunk may be late without moving the
anchor."""
URGENT_S = 0.05
"""A chunk that is announced less than this before it is due is encoded at once: the actor
begins earlier than that before every deadline."""
STEP_US = 1_000
"""Least distance of two timestamps: more than a tick of every media clock."""


class Due(NamedTuple):
    """A frame to hand out now."""

    run: int
    chunk: int
    frame: int
    """Index of the frame in its run."""
    due_at: float
    """The deadline in seconds, on the clock that the caller gives as `now`."""
    timestamp_us: int
    """Position on the play-out clock: 0 for the first frame ever, strictly rising."""
    last_of_chunk: bool
    """Whether handing it out commits the chunk."""


@dataclass(frozen=True, slots=True)
class PlayoutReport:
    """Where the clock stands; the content of `Playout` on the internal wire."""

    run: int
    next_frame: int
    """The next frame of the run to be handed out."""
    due_in_s: float
    """When it is due, in seconds from `now`; negative: overdue, or would have been due had
    it been announced."""
    buffered: int
    """Frames announced and not yet handed out."""
    underruns: int
    """Times the clock had to wait for a chunk in this run."""


@dataclass(slots=True)
class _Chunk:
    """An announced chunk, or what is left of it."""

    chunk: int
    frame: int
    """Next frame to hand out."""
    end: int
    """One past the last frame."""
    rate: float


class Playout:
    """The clock. `now` is in seconds on any monotonic clock, the same in all calls."""

    def __init__(self, *, max_late_s: float = 0.5) -> None:
        """Makes a clock that waits for its first chunk.

        Args:
            max_late_s: Frames overdue by up to this are handed out at once; beyond it the
                clock starts again from the frame that waits.
        """
        self.lead = Lead()
        """What is learned of how long packets and chunks take."""
        self.awaited: tuple[int, int] | None = None
        """(run, frame) whose first packet is to be told to `arrived`."""
        self.anchors = 0
        """Times the anchor was set anew: the actor has to hear of each."""
        self._max_late_s = max_late_s
        self._waiting: deque[_Chunk] = deque()
        self._run = 0
        self._next_frame = 0
        self._announced: int | None = None
        self._announced_at = 0.0
        self._underruns = 0
        self._held = False
        # The next frame is due at anchor + steps / rate; no anchor: the clock stands.
        self._anchor: float | None = None
        self._steps = 0
        self._rate = 1.0
        self._origin: float | None = None
        self._last_due = float("-inf")
        self._last_timestamp_us = -STEP_US

    def chunk(
        self, run: int, chunk: int, first_frame: int, frames: int, frame_rate: float, now: float
    ) -> float:
        """Takes an announcement: these frames wait at the actor.

        A lower run is void and ignored; a higher one begins at once, as by `abandon`. Frames
        announced before are not taken twice, so that an actor that replaced another may
        repeat them. The first announcement of a run may begin anywhere in it, also with a
        chunk of which nothing is left: a clock that takes over in the middle of a run goes
        on there.

        Args:
            run: The run.
            chunk: Index of the chunk in its run.
            first_frame: Index of its first frame in the run.
            frames: How many.
            frame_rate: Frames per second of this chunk.
            now: The time.

        Returns:
            How long it has until its first frame is due; 0 if it is not taken.

        Raises:
            InvariantError: The rate is not positive, or `MAX_CHUNKS` wait already.
        """
        if run < self._run:
            return 0.0
        if not frame_rate > 0:
            raise InvariantError("a chunk was announced without a frame rate")
        self.abandon(run)
        if self._announced is None:
            self._next_frame = self._announced = first_frame
        begin, end = max(first_frame, self._announced), first_frame + frames
        if begin >= end:
            return 0.0
        if len(self._waiting) >= MAX_CHUNKS:
            raise InvariantError("too many chunks were announced ahead of play-out")
        due_at = self._put_in_line(frame_rate, now)
        if not self._waiting:
            self._next_frame = begin
            self._set_rate(frame_rate)
        if due_at - now < URGENT_S:
            self.awaited, self._announced_at = (run, begin), now
        self._held = False
        self._waiting.append(_Chunk(chunk, begin, end, frame_rate))
        self._announced = end
        return due_at - now

    def arrived(self, now: float) -> None:
        """The first packet of the frame that is `awaited` is here."""
        self.awaited = None
        self.lead.arrived(now - self._announced_at)

    def abandon(self, next_run: int) -> None:
        """Voids all runs below `next_run`: their frames go nowhere, the picture holds."""
        if next_run <= self._run:
            return
        self._run = next_run
        self._waiting.clear()
        self._next_frame = 0
        self._announced = None
        self._underruns = 0
        self._anchor = None
        self._held = False
        self.awaited = None

    def withdraw(self) -> None:
        """Forgets what was announced and not handed out: the actor that held it is gone.

        The next actor announces again from `report().next_frame`; its first chunk counts as
        an underrun when it comes late.
        """
        self._waiting.clear()
        self.awaited = None
        if self._announced is not None:
            self._announced = self._next_frame

    def rewind(self, frame: int) -> None:
        """Has frames of the present run handed out again that were due and did not come, when
        the actor that made them is gone. To be followed by `withdraw`.

        Args:
            frame: The first of them, not after the one that is next.
        """
        self._next_frame = min(frame, self._next_frame)

    def hold(self) -> None:
        """Says that after the frames already announced none are expected for a while.

        Called when the session has stopped running: paused, or its camera stalled. The next
        chunk, if it finds nothing left to play, then starts like the first of a run and is
        no underrun.
        """
        self._held = True

    def due(self, now: float) -> list[Due]:
        """Returns the frames due by `now`, in order, each once."""
        due_at = self.next_due()
        if due_at is None or due_at > now:
            return []
        if now - due_at > self._max_late_s:
            self._set_anchor(now)
            due_at = self._deadline()
        frames: list[Due] = []
        while due_at is not None and due_at <= now:
            frames.append(self._hand_out(due_at))
            due_at = self.next_due()
        return frames

    def next_due(self) -> float | None:
        """Returns when `due` has its next frame; None while none waits."""
        return self._deadline() if self._waiting else None

    @property
    def position(self) -> tuple[int, int]:
        """(run, frame) of what is handed out next."""
        return self._run, self._next_frame

    @property
    def end(self) -> tuple[int, int]:
        """(run, frame) of what comes after all that was announced."""
        return self._run, self._next_frame if self._announced is None else self._announced

    def position_us(self, now: float) -> int:
        """Returns the timestamp of what is shown at `now` beside the clock: a held picture.
        It begins the timestamps, if nothing was shown before.
        """
        if self._origin is None:
            self._origin = now
        return max(0, round((now - self._origin) * 1e6))

    def due_at(self, timestamp_us: int) -> float:
        """Returns the deadline that a timestamp stands for."""
        return (self._origin or 0.0) + timestamp_us / 1e6

    def report(self, now: float) -> PlayoutReport:
        """Returns where the clock stands."""
        due_in_s = self.lead.transit_s if self._anchor is None else self._deadline() - now
        return PlayoutReport(
            run=self._run,
            next_frame=self._next_frame,
            due_in_s=due_in_s,
            buffered=sum(waiting.end - waiting.frame for waiting in self._waiting),
            underruns=self._underruns,
        )

    def _put_in_line(self, rate: float, now: float) -> float:
        """Sees to the anchor before a chunk of `rate`; returns when its first frame is due."""
        lead = self.lead
        if self._anchor is None or (
            self._held and not self._waiting and self._deadline() < now + lead.transit_s
        ):
            lead.anchored()
            self._set_anchor(now + lead.transit_s)
            return self._deadline()
        due_at = self._end()
        slack_s = due_at - (now + lead.transit_s)
        if self._waiting or slack_s > -TOLERANCE / rate:
            forward_s = lead.in_time(slack_s)
            if forward_s:
                self._set_anchor(self._deadline() - forward_s)
        else:
            self._underruns += 1
            lead.late(-slack_s)
            self._set_anchor(now + lead.total_s)
        return self._end()

    def _end(self) -> float:
        """When a frame after all that wait would be due."""
        waiting = sum((each.end - each.frame) / each.rate for each in self._waiting)
        return self._deadline() + waiting

    def _set_anchor(self, deadline: float) -> None:
        self._anchor = max(deadline, self._last_due)
        self._steps = 0
        self.anchors += 1

    def _set_rate(self, rate: float) -> None:
        """Goes on at another rate from the next deadline."""
        if rate != self._rate:
            self._anchor = self._deadline()
            self._steps = 0
            self._rate = rate

    def _deadline(self) -> float:
        """When the next frame is due, or would be were it here."""
        if self._anchor is None:
            raise InvariantError("the play-out clock stands")
        return self._anchor + self._steps / self._rate

    def _hand_out(self, due_at: float) -> Due:
        waiting = self._waiting[0]
        frame = waiting.frame
        last = frame + 1 == waiting.end
        self._steps += 1
        self._next_frame = waiting.frame = frame + 1
        if last:
            self._waiting.popleft()
            if self._waiting:
                self._next_frame = self._waiting[0].frame
                self._set_rate(self._waiting[0].rate)
        return Due(self._run, waiting.chunk, frame, due_at, self._timestamp_us(due_at), last)

    def _timestamp_us(self, due_at: float) -> int:
        if self._origin is None:
            self._origin = due_at
        self._last_due = due_at
        exact = round((due_at - self._origin) * 1e6)
        self._last_timestamp_us = max(exact, self._last_timestamp_us + STEP_US)
        return self._last_timestamp_us
