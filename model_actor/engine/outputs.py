"""Outputs: encodings of a session's main_video, each frame encoded just before it is due.

Encoding late is what makes a keyframe request, a bitrate change, a reset or a new
viewer's codec act within 150 ms, and spreads the CPU load evenly. From a request to the
viewers it is at most one frame period, until the next frame begins, and the lead.

A session that is a `PacketSource` has its frames encoded already: they are fetched at the
same moments, and everything else is as with an encoder.

An output is no task: a timer, a thread that is done, or a change make its next step. A task
that waits for events and futures would take more of the event loop's time than all else does.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from model_actor.engine.clock import PlayoutClock
from model_actor.engine.encoder_pool import EncoderPool
from model_actor.engine.encodings import encoding_of
from model_actor.engine.store import FinishedFrame, FrameStore
from model_actor.media.encoder import Encoded, EncoderSettings
from model_actor.metrics import ENCODES, FRAMES_LEFT_OUT

LEAD_S = 0.07
"""A frame is encoded at most this long before it is due. With a frame period it stays below
150 ms down to 16 frames a second, with 17 ms to spare for both ways through the gateway; and
five sessions a thread, which are about as many as one can carry, may be due at once."""
KEYFRAME_INTERVAL_S = 0.5
"""Shortest time between two keyframes of an output that somebody asked for."""
SKIP_AFTER_S = 0.5
"""An output that is this far behind the clock goes on at the frame that is due now."""
HOLD_S = 0.25
"""A picture that has not changed for this long holds; a chunk that is merely late comes sooner."""
REFINEMENTS = 18
"""Frames that follow the keyframe of a picture that holds. A keyframe is coarse, for it leaves
in a quarter of a second; as many frames of the same picture mend it."""
PREPARE_S = 0.02
"""Idle time that is enough to make something ready."""

_BEHIND, _FAILED = FRAMES_LEFT_OUT.labels("behind"), FRAMES_LEFT_OUT.labels("failed")

log = structlog.get_logger(__name__)
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class EncodedOutput:
    """One frame of an output, on its way to the gateways."""

    frame: FinishedFrame
    encoded: Encoded
    started_at: float
    finished_at: float
    due_at: float
    held: bool
    """Made of the picture that holds."""


class Picture(Protocol):
    """What an output shows: the session's frames and its clock."""

    @property
    def store(self) -> FrameStore:
        """The frames that wait to be shown."""

    @property
    def clock(self) -> PlayoutClock | None:
        """The play-out clock; None before the first report."""

    @property
    def state(self) -> object:
        """What the model keeps for the session; it may bring the packets."""


class Output:
    """One encoding of one session, read by any number of viewers."""

    def __init__(
        self,
        settings: EncoderSettings,
        picture: Picture,
        pool: EncoderPool,
        emit: Callable[[Output, EncodedOutput], None],
    ) -> None:
        """Prepares the output; it begins when it is woken or something is asked of it.

        Args:
            settings: Codec, size, rate.
            picture: The session's frames, clock and model state.
            pool: What encodes, and where.
            emit: Called on the loop with every encoded frame.
        """
        self.settings = settings
        self.skipped = 0
        """Frames left out because the output had fallen behind the clock."""
        self.failed = 0
        """Frames left out because they could not be encoded."""
        self.recorded = False
        """Whether some gateway records it: what follows a picture that held then begins anew, for
        a recording leaves out what mends that picture, and cannot go on from it."""
        self._failing = False
        self._encode_s = ENCODES.labels(settings.codec.value)
        self._picture = picture
        self._emit = emit
        self._pool = pool
        self._encoding = encoding_of(settings, picture.state, pool)
        self._outpaced = False
        """Whether that is for another frame rate."""
        # In the middle of a run it begins at what is due next; a later run from its start.
        clock = picture.clock
        now = asyncio.get_running_loop().time()
        self._position = (0, 0) if clock is None else (clock.run, clock.played(now))
        self._keyframe_wanted = True
        self._keyframe_at = float("-inf")
        self._bitrate = settings.bitrate
        self._run: int | None = None
        """Run of the frame encoded last."""
        self._holds: tuple[int, int] | None = None
        """(run, frame) of the picture that holds; None while frames follow."""
        self._holds_since = 0.0
        self._settled: tuple[int, int] | None = None
        """The held picture that the viewers have a keyframe of."""
        self._refinements = 0
        """Frames that are still to mend it."""
        self._encoded_at = float("-inf")
        self._busy = False
        """Whether a frame is under way."""
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def position(self) -> tuple[int, int]:
        """(run, frame) of the next frame to encode."""
        return self._position

    def demand(self, *, keyframe: bool, bitrate: int) -> None:
        """Takes in what viewers need: a keyframe, another bitrate (0: the same)."""
        if bitrate:
            self._bitrate = bitrate
        self._keyframe_wanted |= keyframe
        self._step()

    def pace(self, frame_rate: float) -> None:
        """Frames come at another rate: what encodes for the old one goes before the next."""
        self.settings = dataclasses.replace(self.settings, frame_rate=frame_rate)
        self._outpaced = True

    def wake(self) -> None:
        """Frames, clock or run changed."""
        self._step()

    def close(self) -> None:
        """Encodes no more; the frame that a thread is at is dropped. Repeating it is no error."""
        self._closed = True
        self._stop_waiting()
        self._encoding.close()

    def _step(self) -> None:
        """Begins with the next frame if it is time, or waits until it is."""
        if self._busy or self._closed:
            return
        self._stop_waiting()
        loop = asyncio.get_running_loop()
        now = loop.time()
        index, start = self._next(now)
        if start <= now:
            frame = self._picture.store.get(*index)
            assert frame is not None  # noqa: S101 - `_next` has just said so
            self._begin(frame, now, start + LEAD_S, held=False)
            return
        held, at = self._next_held(now, start)
        if held is not None and at <= now:
            self._begin(held, now, now, held=True)
            return
        start = min(start, at)
        if start - now > PREPARE_S:
            self._encoding.prepare()
        if start != NEVER:
            self._timer = loop.call_at(start, self._step)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self, now: float) -> tuple[tuple[int, int], float]:
        """Returns (run, index) of the next frame and when to begin; inf while it is not there."""
        clock = self._picture.clock
        if clock is None:
            return self._position, NEVER
        if self._position[0] != clock.run:
            # A session that was elsewhere begins in the middle of a run.
            self._position = (clock.run, self._picture.store.begin(clock.run))
        run, index = self._position
        earliest = max(index, self._picture.store.begin(run))
        if clock.due(earliest) < now - SKIP_AFTER_S:
            earliest = max(earliest, min(clock.played(now), self._picture.store.end))
        if earliest > index:
            self.skipped += earliest - index
            _BEHIND.inc(earliest - index)
            self._position = (run, index) = (run, earliest)
        there = self._picture.store.holds(run, index)
        return self._position, clock.due(index) - LEAD_S if there else NEVER

    def _next_held(self, now: float, start: float) -> tuple[FinishedFrame | None, float]:
        """Returns the picture that holds and when it is to be encoded once more.

        Everybody is given one keyframe of it and what mends it, which stays good for who joins
        later; who asks before, or asks again, gets one as soon as keyframes are allowed.

        Args:
            now: The time.
            start: When the next frame is to be encoded.
        """
        held = self._picture.store.held
        if held is None or start - now <= LEAD_S or not self._on_screen(held, now):
            self._holds = None
            return None, NEVER
        allowed = self._keyframe_at + KEYFRAME_INTERVAL_S
        which = (held.run, held.frame)
        if which != self._holds:
            self._holds, self._holds_since = which, now
        if self._keyframe_wanted:
            return held, allowed
        if start == NEVER and which != self._settled:
            return held, max(allowed, self._holds_since + HOLD_S)
        if start == NEVER and self._refinements:
            return held, self._encoded_at + 1 / self.settings.frame_rate
        return None, NEVER

    def _on_screen(self, held: FinishedFrame, now: float) -> bool:
        """Tells whether no frame after the held one is due yet, or was encoded: the clock may be
        that of before the gateway heard of it.
        """
        clock = self._picture.clock
        if self._picture.store.all_shown or clock is None or clock.run != held.run:
            return True
        after = held.frame + 1
        return clock.played(now) <= after and self._position <= (held.run, after)

    def _begin(self, frame: FinishedFrame, now: float, due_at: float, *, held: bool) -> None:
        which = (frame.run, frame.frame)
        keyframe = self._keyframe_wanted or (held and which != self._settled)
        keyframe &= now - self._keyframe_at >= KEYFRAME_INTERVAL_S
        if self._outpaced:
            self._outpaced = False
            self._encoding.close()
            self._encoding = encoding_of(self.settings, self._picture.state, self._pool)
        if frame.run != self._run or (self.recorded and not held and self._settled is not None):
            # A run owes nothing to the one before: it can be decoded from its start although
            # what was encoded last may not have been sent, and a replay is equal bit by bit.
            self._encoding.renew()
            self._run = frame.run
        self._busy = True
        done = functools.partial(self._done, frame, now, due_at, held)
        self._encoding.encode(frame, self._bitrate, due_at=due_at, keyframe=keyframe, done=done)

    def _done(
        self,
        frame: FinishedFrame,
        started_at: float,
        due_at: float,
        held: bool,
        made: Encoded | Exception,
    ) -> None:
        """A frame became a packet, or could not."""
        if self._closed:
            return
        if not held:
            self._position = (frame.run, frame.frame + 1)
        if isinstance(made, Exception):
            self._begin_anew(made)
        else:
            finished_at = asyncio.get_running_loop().time()
            self._encode_s.observe(finished_at - started_at)
            self._note(made, (frame.run, frame.frame), finished_at, held=held)
            self._emit(self, EncodedOutput(frame, made, started_at, finished_at, due_at, held))
        self._busy = False
        self._step()

    def _note(
        self, made: Encoded, which: tuple[int, int], finished_at: float, *, held: bool
    ) -> None:
        """Remembers what the viewers now have."""
        self._failing = False
        self._encoded_at = finished_at
        if made.keyframe:
            self._keyframe_at = finished_at
            self._keyframe_wanted = False
            self._refinements = REFINEMENTS if self._encoding.builds_up else 0
        elif held:
            self._refinements -= 1
        self._settled = which if held else None

    def _begin_anew(self, error: Exception) -> None:
        """Gives up a frame, and the encoder with it; a broken one must not end the output."""
        self.failed += 1
        _FAILED.inc()
        if not self._failing:
            codec = self.settings.codec.value
            log.warning("output.failed", codec=codec, error=type(error).__name__)
        self._failing = True
        self._encoding.renew()
        self._keyframe_wanted = True
        self._keyframe_at = asyncio.get_running_loop().time()
