"""What a session has finished and not yet shown: frames, announcements, the clock they follow.

The play-out clock runs at the owning gateway; this is the actor's side of it. A chunk is
*announced* when its frames are finished, and *committed* when the owner has handed out
the last of them. In between it waits here, to be announced again to whoever joins.

The clock before the owner's first word of it: the first frames of a run are taken to be
due when they are finished, so that their encoding waits for nobody. When nobody takes
part the clock stands at the first frame that was not yet due, and whoever joins then
goes on there.

A session that came from another actor begins in the middle of a run: frames that were shown
before (`WindowPlan.skip`) are neither kept nor announced.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from opentelemetry.trace import Link

from model_actor.engine.clock import PlayoutClock
from model_actor.engine.outputs import LEAD_S
from model_actor.engine.store import FinishedWindow, FrameStore
from model_actor.engine.tracing import Answers, ChunkSpan, WindowTiming
from model_actor.plugin import Frames
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.chunk_play import TOLERANCE
from scheduler.core.run import WindowPlan

STOOD_S = 0.5
"""A picture that has stood for so long is begun anew: nobody waits for it by a clock."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A chunk that is finished and not committed."""

    ready: stream_pb2.ChunkReady
    span: ChunkSpan
    asked_at: float | None
    """When the newest command came that took effect in it; None: none did."""

    @property
    def end(self) -> int:
        """Index after its last frame."""
        return self.ready.first_frame + self.ready.frames

    def announced(self, now: float, unshown: int) -> stream_pb2.ChunkReady:
        """Returns the announcement of its frames from `unshown` on."""
        ready = stream_pb2.ChunkReady()
        ready.CopyFrom(self.ready)
        if self.asked_at is not None:
            ready.command_age_us = max(0, round((now - self.asked_at) * 1e6))
        if unshown > ready.first_frame:
            # The frame that answered the command was seen; what is left ends no trace.
            ready.first_frame, ready.frames = unshown, self.end - unshown
            ready.answers_command, ready.command_age_us = False, 0
        return ready


class Showing:
    """The finished frames of one session. `now` is seconds of the actor's event loop."""

    def __init__(
        self, session_id: str, frame_rate: float, links: list[Link], *, follows: bool = False
    ) -> None:
        """Nothing is finished.

        Args:
            session_id: Whose.
            frame_rate: Frames per second of main_video.
            links: What the spans of its chunks are linked to.
            follows: Another actor shows what comes before: the clock counts before anything
                is finished here. Else what is told of it then is of frames that are lost.
        """
        self.store = FrameStore()
        """The frames."""
        self.clock: PlayoutClock | None = None
        """Where play-out stands; None before the first chunk."""
        self._session_id = session_id
        self._follows = follows
        self.frame_rate = frame_rate
        """Frames per second of what is finished from now on."""
        self._links = links
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._reported = False
        """Whether the clock is the owner's word, and not our guess."""

    def span(self, run: int, chunk: int) -> ChunkSpan | None:
        """Returns the span of a chunk that waits."""
        waiting = self._waiting.get((run, chunk))
        return None if waiting is None else waiting.span

    def finished(
        self,
        plan: WindowPlan,
        frames: Frames,
        source_us: Sequence[int],
        timing: WindowTiming,
        answers: Answers,
        now: float,
    ) -> list[stream_pb2.ChunkReady]:
        """Takes the frames of a window; returns the announcements of its chunks."""
        first = plan.answers_from + plan.skip
        left = [chunk for chunk in plan.chunks if chunk.first_frame + chunk.frames > first]
        if not left:
            return []
        self.store.add(
            FinishedWindow(
                run=plan.run,
                first_frame=first,
                frames=frames[plan.skip : plan.frames],
                source_us=tuple(source_us[plan.skip : plan.frames]),
                chunk_starts=tuple((chunk.index, chunk.first_frame) for chunk in left),
            )
        )
        if self.clock is None or self.clock.run != plan.run:
            self._go_on(plan.run, first, plan.answers_from + plan.frames, now)
        made = []
        for chunk in left:
            span = ChunkSpan(
                self._session_id,
                plan.run,
                chunk.index,
                chunk.frames,
                answers.parent,
                self._links,
                timing,
            )
            asked_at = answers.arrived_at if chunk is left[0] else None
            ready = stream_pb2.ChunkReady(
                session_id=self._session_id,
                run=plan.run,
                chunk=chunk.index,
                first_frame=chunk.first_frame,
                frames=chunk.frames,
                frame_rate=self.frame_rate,
                traceparent=span.traceparent,
                answers_command=asked_at is not None,
            )
            waiting = self._waiting[plan.run, chunk.index] = _Waiting(ready, span, asked_at)
            made.append(waiting.announced(now, first))
        return made

    def announcements(self, now: float, *, unshown: int = 0) -> Iterator[stream_pb2.ChunkReady]:
        """Returns the chunks that wait, from a frame of the run on.

        Args:
            now: The time.
            unshown: Frames before this one were shown; chunks before it are left out.
        """
        for waiting in self._waiting.values():
            if waiting.end > unshown:
                yield waiting.announced(now, unshown)

    def unshown(self, run: int, now: float) -> int:
        """Returns the first frame of a run that was not yet due at the owner."""
        clock = self.clock
        if clock is None or clock.run != run:
            return 0
        return clock.played(now) if self._reported else clock.next_frame

    def report(self, report: stream_pb2.Playout, now: float) -> None:
        """Takes in where the owner's clock stands."""
        if self.clock is None and not self._follows:
            return
        self._reported = True
        self.clock = PlayoutClock(
            run=report.run,
            next_frame=report.next_frame,
            due_at=now + report.due_in_us / 1e6,
            frame_rate=self.frame_rate,
            underruns=report.underruns,
            end=report.next_frame + report.buffered,
        )

    def stand(self, run: int, now: float) -> None:
        """Nobody takes part any more: what is not due by now is shown later, to others."""
        if self.clock is not None and self.clock.run == run:
            unshown = self.unshown(run, now)
            self.clock = replace(self.clock, next_frame=unshown, due_at=math.inf)

    def adopt(self, run: int, now: float) -> int | None:
        """Somebody takes part again, and will show what is left.

        Returns:
            The last chunk that had been shown to its end without a word of it; None when
            there is none.
        """
        unshown = self.unshown(run, now)
        ends = [waiting.end for waiting in self._waiting.values()]
        if self.clock is not None and self.clock.run == run:
            self._go_on(run, unshown, max(ends, default=unshown), now)
        if unshown:
            self.store.shown(run, unshown - 1)
        shown = [chunk for (_, chunk), waiting in self._waiting.items() if waiting.end <= unshown]
        return max(shown, default=None)

    def commit(self, run: int, chunk: int) -> None:
        """A chunk was shown to its end, and with it those before it."""
        for key in [key for key in self._waiting if key <= (run, chunk)]:
            waiting = self._waiting.pop(key)
            self.store.shown(run, waiting.end - 1)
            waiting.span.end(time.time())

    def show_until(self, run: int, frame: int) -> None:
        """The owner has handed out all before a frame, and will say no more of chunks."""
        ended = [
            chunk for (at, chunk), each in self._waiting.items() if (at, each.end) <= (run, frame)
        ]
        if ended:
            self.commit(run, max(ended))

    @property
    def all_shown(self) -> bool:
        """Whether no chunk waits."""
        return not self._waiting

    def late(self, plan: WindowPlan, ready: float, now: float) -> bool:
        """Tells whether a window that is finished now came so long after its first frame was
        due that the play-out clock has to wait for it.

        Args:
            plan: The window.
            ready: When it could have begun. A picture that had stood by then, as it does in a
                pause, is begun anew and waited for by no clock.
            now: The present.
        """
        clock = self.clock
        if clock is None or clock.run != plan.run or not self._reported:
            return False
        due = clock.due(plan.answers_from + plan.skip)
        return ready - STOOD_S <= due < now - TOLERANCE / clock.frame_rate

    def slack_s(self, plan: WindowPlan, now: float) -> float | None:
        """Returns how long before its first frame is due a window is finished; below 0: it is
        late. None where nothing is due: the clock has not begun, or stood.
        """
        clock = self.clock
        if clock is None or clock.run != plan.run or not self._reported:
            return None
        slack_s = clock.due(plan.first_frame + plan.skip) - now
        return slack_s if -STOOD_S <= slack_s < math.inf else None

    def abandon(self, next_run: int, now: float) -> None:
        """Drops all runs below `next_run`."""
        clock = self.clock
        if clock is not None:
            # The picture that holds is the one on the screens, in the middle of a chunk.
            self.store.shown(clock.run, min(clock.played(now), self.store.end) - 1)
        self.store.abandon(next_run)
        for key in [key for key in self._waiting if key[0] < next_run]:
            self._waiting.pop(key).span.end(time.time(), outcome="abandoned")

    def close(self) -> None:
        """The session has ended."""
        for waiting in self._waiting.values():
            waiting.span.end(time.time(), outcome="closed")
        self._waiting.clear()

    def deadline(self, plan: WindowPlan, now: float) -> tuple[float, int]:
        """Returns by when a window is needed, and how many frames are made and not yet due.

        A window that begins a picture, or one that has stood, is needed by no time.
        """
        clock = self.clock
        if clock is None or clock.run != plan.run:
            return -math.inf, 0
        due = clock.due(plan.answers_from)
        if due < now - STOOD_S:
            return -math.inf, 0
        return due - LEAD_S, plan.answers_from - clock.played(now)

    def _go_on(self, run: int, frame: int, end: int, now: float) -> None:
        """Sets the clock to show a frame as soon as it can be encoded, until the owner says."""
        underruns = self.clock.underruns if self.clock is not None and self.clock.run == run else 0
        self.clock = PlayoutClock(run, frame, now + LEAD_S, self.frame_rate, underruns, end)
        self._reported = False
