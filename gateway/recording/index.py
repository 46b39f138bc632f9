"""What is known of a recording: kept beside its segments, read by any gateway. Pure.

A segment is stored before the index names it, and is removed after the index has forgotten it.
Who records is said every few seconds, in a small file of its own: the index may be large.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from gateway.recording.cutting import Segment
from gateway.recording.errors import ClipGoneError, ClipPendingError
from scheduler.core.ids import Holder, Principal

VERSION: Final = 2
HEADER: Final = "init.mp4"
"""Name of what stands before all segments."""
MOST_SEGMENTS: Final = 8192
"""Most segments of a recording, nine hours of them: its index stays below half a megabyte."""
SILENT_S: Final = 6.0
"""A gateway that has said nothing for this long records no more; it does every two seconds."""
ROUNDING_US: Final = 1_000
"""Clients name times in milliseconds."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A segment in the storage."""

    number: int
    start_us: int
    """When it begins, in the time of the recording."""
    duration_us: int
    size: int
    """Bytes."""
    keyed: bool
    """Whether it can be played without the ones before."""

    @classmethod
    def of(cls, segment: Segment, size: int) -> Stored:
        """Describes a segment that takes so many bytes."""
        return cls(segment.number, segment.start_us, segment.duration_us, size, segment.keyed)

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"chunk_{self.number:05d}.m4s"

    @property
    def end_us(self) -> int:
        """When it ends."""
        return self.start_us + self.duration_us


@dataclass(frozen=True, slots=True)
class Beat:
    """Who records a session, as it said last."""

    recorder: str = ""
    """The gateway that records it; empty: none."""
    at: float = 0.0
    """When that gateway last said so, in seconds since 1970."""

    def is_live(self, now: float) -> bool:
        """Tells whether more may come.

        Args:
            now: Seconds since 1970.
        """
        return bool(self.recorder) and now - self.at <= SILENT_S

    def encoded(self) -> bytes:
        """Returns it as the storage keeps it."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Beat | None:
        """Reads what `encoded` wrote; None for what makes no sense."""
        try:
            told: dict[str, Any] = json.loads(data)
            return cls(str(told["recorder"]), float(told["at"]))
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True, slots=True)
class Index:
    """A recording."""

    tenant: str
    """Whose session it is of."""
    model: str
    """Name of the model, as it was asked for."""
    holders: tuple[str, ...]
    """Names of who else the session was counted for."""
    secret: str
    """Signs the addresses of its files."""
    beat: Beat = Beat()
    """Who records it. Kept in a file of its own."""
    ended_at: float | None = None
    """When the session ended; None: it has not, as far as anybody said."""
    has_header: bool = False
    """Whether `init.mp4` is stored."""
    segments: tuple[Stored, ...] = ()
    """In order, without a gap; the oldest may be gone."""

    @property
    def owner(self) -> Principal:
        """Whose session it is of."""
        holders = tuple(Holder(name) for name in self.holders)
        return Principal(self.tenant, frozenset(), holders)

    @property
    def position_us(self) -> int:
        """How much was recorded."""
        return self.segments[-1].end_us if self.segments else 0

    @property
    def oldest_us(self) -> int:
        """Where what is kept begins."""
        return self.segments[0].start_us if self.segments else 0

    @property
    def next_number(self) -> int:
        """Number of the next segment."""
        return self.segments[-1].number + 1 if self.segments else 0

    @property
    def size(self) -> int:
        """Bytes of its segments."""
        return sum(each.size for each in self.segments)

    def is_recorded(self, now: float) -> bool:
        """Tells whether more may come.

        Args:
            now: Seconds since 1970.
        """
        return self.beat.is_live(now)

    def with_segment(self, stored: Stored, most_bytes: int) -> tuple[Index, tuple[Stored, ...]]:
        """Adds a segment.

        Args:
            stored: The next one.
            most_bytes: What all of them may take. The oldest go first, with those that cannot
                be played without them; the newest stays in any case.

        Returns:
            The recording with it, and what is not part of it any more.
        """
        segments, size = [*self.segments, stored], self.size + stored.size
        gone = 0
        while gone < len(segments) - 1 and (
            size > most_bytes
            or len(segments) - gone > MOST_SEGMENTS
            or (gone and not segments[gone].keyed)
        ):
            size -= segments[gone].size
            gone += 1
        return replace(self, segments=tuple(segments[gone:])), tuple(segments[:gone])

    def clip(self, start_us: int, end_us: int, now: float) -> tuple[Stored, ...]:
        """Returns the segments of a part of the recording: whole ones, from the last that can
        be played alone and does not begin later; of a part whose beginning is not kept any
        more, what is left.

        Args:
            start_us: Where it begins.
            end_us: Where it ends.
            now: Seconds since 1970.

        Raises:
            ClipPendingError: Its end is not stored yet.
            ClipGoneError: Nothing of it is kept.
        """
        if end_us > self.position_us + ROUNDING_US and self.is_recorded(now):
            raise ClipPendingError("the end of the clip is not stored yet")
        # However short it is, it touches the segment that it begins in.
        before_us = max(end_us - ROUNDING_US, start_us + 1)
        keyed = [each.number for each in self.segments if each.keyed]
        first = max(
            (each.number for each in self.segments if each.keyed and each.start_us <= start_us),
            default=keyed[0] if keyed else 0,
        )
        chosen = tuple(
            each for each in self.segments if each.number >= first and each.start_us < before_us
        )
        if not chosen or chosen[-1].end_us <= start_us:
            raise ClipGoneError("nothing of this clip is kept")
        return chosen

    def encoded(self) -> bytes:
        """Returns it as the storage keeps it, without the beat."""
        told = asdict(replace(self, segments=())) | {
            "version": VERSION,
            "segments": [
                (each.number, each.start_us, each.duration_us, each.size, each.keyed)
                for each in self.segments
            ],
        }
        del told["beat"]
        return json.dumps(told, separators=(",", ":")).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Index | None:
        """Reads what `encoded` wrote; None for what makes no sense, or is of another version."""
        try:
            told: dict[str, Any] = json.loads(data)
            if told.pop("version") != VERSION:
                return None
            segments = tuple(Stored(*each) for each in told.pop("segments"))
            return cls(**told | {"holders": tuple(told["holders"])}, segments=segments)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
