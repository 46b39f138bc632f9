"""From the frames that a viewer is given to the segments of a recording. Pure.

The time of a recording is that of what was played: a frame lasts until the next one, but one
that stood for longer than `PAUSE_US` counts for one frame period. So pauses, waits and held
pictures take no time, and there is no gap.

A segment begins with a keyframe where it can. One that had to end before a keyframe came (somebody
wants a clip, the picture holds) is followed by one that cannot be played alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.ports import EncodedFrame

KEYFRAME_US: Final = 4_000_000
"""A keyframe comes so long after the one before."""
ASK_AHEAD_US: Final = 100_000
"""It is asked for this much earlier: about what passes until it is shown."""
LEAST_US: Final = 2_000_000
"""A keyframe that came for another's sake begins a new segment from this length on."""
MOST_US: Final = 8_000_000
"""Longest segment; keyframes that do not come make it no longer."""
MOST_BYTES: Final = 8 << 20
"""Size at which a segment ends in any case: four times what 4 s at 4 Mbit/s take."""
PAUSE_US: Final = 250_000
"""A picture that stands for longer than this is held, and its time is not recorded."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame of a recording."""

    data: bytes
    keyframe: bool
    start_us: int
    """When it begins, in the time of the recording."""
    duration_us: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames that are stored together; at least one."""

    number: int
    """From 0, without a gap."""
    samples: tuple[Sample, ...]

    @property
    def start_us(self) -> int:
        """When it begins."""
        return self.samples[0].start_us

    @property
    def duration_us(self) -> int:
        """How long it is."""
        last = self.samples[-1]
        return last.start_us + last.duration_us - self.start_us

    @property
    def keyed(self) -> bool:
        """Whether it can be played without the ones before."""
        return self.samples[0].keyframe


class Cutter:
    """Takes frames, gives segments."""

    def __init__(self, *, number: int, start_us: int, period_us: int) -> None:
        """Begins a recording, or goes on with one.

        Args:
            number: Of the next segment.
            start_us: When it begins.
            period_us: How long a frame lasts that has none after it.
        """
        self.dropped = 0
        """Frames left out: what they build on is not there, or there was no room."""
        self.wants_keyframe = False
        """Whether a keyframe should come, for all that `take` has been given."""
        self._number = number
        self._period_us = period_us
        self._samples: list[Sample] = []
        self._bytes = 0
        self._start_us = self._end_us = start_us
        """Where the open segment begins, and where the frames with a known duration end."""
        self._last: EncodedFrame | None = None
        """The newest frame, which lasts until the next one."""
        self._keyframe_us = start_us
        """When the last keyframe began."""
        self._broken = True
        """Whether the next frame has to be a keyframe."""

    @property
    def position_us(self) -> int:
        """How much was recorded, what is not in a segment yet included."""
        return self._end_us + (0 if self._last is None else self._period_us)

    @property
    def is_open(self) -> bool:
        """Whether there are frames that are in no segment yet."""
        return self._last is not None or bool(self._samples)

    def take(self, frame: EncodedFrame, *, room: bool = True) -> Segment | None:
        """Takes the next frame.

        Args:
            frame: The frame.
            room: Whether a segment can be taken off. If one ends and there is none, its frames
                are dropped, and with them all up to the next keyframe.

        Returns:
            The segment before, if it ends here.
        """
        if frame.held:
            done = self.cut(room=room)
            # It will build on the held picture, which is left out. Asked for now, a keyframe
            # would be one of that picture.
            self._broken, self.wants_keyframe = True, False
            return done
        if self._broken and not frame.keyframe:
            self._drop()
            return None
        self._place_last(frame.timestamp_us)
        done = self._finish(room=room) if self._ends_before(frame) else None
        if self._broken and not frame.keyframe:
            self._drop()
            return None
        if frame.keyframe:
            self._keyframe_us = self._end_us
        self._broken = False
        self._last = frame
        self.wants_keyframe = self._end_us - self._keyframe_us >= KEYFRAME_US - ASK_AHEAD_US
        return done

    def cut(self, *, room: bool = True) -> Segment | None:
        """Ends the open segment here; returns it, or None when there is nothing in it."""
        self._place_last(None)
        return self._finish(room=room) if self._samples else None

    def _drop(self) -> None:
        self.dropped += 1
        self.wants_keyframe = True

    def _place_last(self, until_us: int | None) -> None:
        """Gives the newest frame its duration; until None, nothing is known of the next."""
        last, self._last = self._last, None
        if last is None:
            return
        lasted_us = self._period_us if until_us is None else until_us - last.timestamp_us
        if lasted_us > PAUSE_US:
            lasted_us = self._period_us
        self._samples.append(Sample(last.data, last.keyframe, self._end_us, lasted_us))
        self._end_us += lasted_us
        self._bytes += len(last.data)

    def _ends_before(self, frame: EncodedFrame) -> bool:
        if not self._samples:
            return False
        length_us = self._end_us - self._start_us
        if frame.keyframe:
            return length_us >= LEAST_US or not self._samples[0].keyframe
        return length_us >= MOST_US or self._bytes >= MOST_BYTES

    def _finish(self, *, room: bool) -> Segment | None:
        samples, self._samples, self._bytes = tuple(self._samples), [], 0
        if not room:
            self.dropped += len(samples)
            self._end_us = self._start_us
            self._broken = True
            return None
        self._start_us = self._end_us
        self._number += 1
        return Segment(self._number - 1, samples)
