"""Records one session: a viewer that keeps what it is given.

One gateway records a session. It says so every few seconds; another that takes part in the
session waits, and goes on with the recording when the first one has fallen silent. Who was
silent for too long, because the storage stalled, looks who records before it writes.

Frames are cut on the event loop (`cutting`), which costs microseconds. All else happens on
threads: at most `MOST_WAITING` segments wait for them, and one more is dropped, with all up
to the next keyframe. Whatever fails there ends the recording; the session goes on.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog
from prometheus_client import Counter, Gauge

from gateway.ports import Clip, EncodedFrame, Viewer
from gateway.recording.cutting import Cutter, Segment
from gateway.recording.errors import ClipFailedError
from gateway.recording.index import HEADER, Beat, Index, Stored
from gateway.recording.remuxing import Remuxed, parameter_sets, remuxed
from gateway.recording.shelf import Shelf
from sana_gateway.v1 import media_pb2, session_pb2
from scheduler.core.ids import Principal
from scheduler.process.storage import StorageError

MOST_CLIP_S: Final = 300.0
"""Longest clip of what was just played; who wants more wants the recording."""
MOST_WAITING: Final = 4
"""Segments that may wait to be stored: a quarter of a minute, about 5 MB."""
LOOK_S: Final = 1.0
"""How often it is looked whether frames still come; when none do, the open segment ends."""
BEAT_S: Final = 2.0
"""How often the gateway says that it records the session."""
CUT_EVERY_S: Final = 0.5
"""Whoever asks for a clip has the open segment end at once, so that the clip is there when it is
asked for; but not twice within this time."""
STORED_IN_S: Final = 0.3
"""What is promised: by then a segment that ended is stored."""

_log = structlog.get_logger(__name__)

_ACTIVE = Gauge("sana_gateway_recordings", "Sessions that are recorded here now.")
_BYTES = Counter("sana_gateway_recorded_bytes", "Bytes of segments that were stored.")
_DROPPED = Counter(
    "sana_gateway_recording_dropped_frames",
    "Frames left out of recordings: storing did not keep up, or what they build on was missing.",
)
_FAILED = Counter("sana_gateway_recording_failures", "Recordings that ended because of an error.")


class Output(Protocol):
    """An output of a session; see `gateway.fanout.OutputFanout`."""

    def record(self, recorder: Viewer) -> None:
        """Adds the recorder."""

    def refresh(self) -> None:
        """Asks for a keyframe."""

    def leave(self, viewer: Viewer) -> None:
        """Removes the recorder."""


class Recorded(Protocol):
    """A session, as far as it is recorded."""

    @property
    def session_id(self) -> str:
        """Its id."""

    @property
    def principal(self) -> Principal:
        """Whose it is."""

    def describe(self) -> session_pb2.Session:
        """Returns it as the public contract shows it: ready."""

    def output(self, codec: media_pb2.Codec.ValueType) -> Output:
        """Returns the output of a codec."""


@dataclass(frozen=True, slots=True)
class _Geometry:
    width: int
    height: int
    period_us: int


class Recorder:
    """See `gateway.ports.Viewer`: `frame` and `stats` are called by the session's output."""

    def __init__(
        self,
        session: Recorded,
        shelf: Shelf,
        threads: Executor,
        *,
        gateway_id: str,
        most_bytes: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Prepares; `run` records.

        Args:
            session: A session that has had its place.
            shelf: Where recordings are kept.
            threads: Where segments are remuxed.
            gateway_id: This process.
            most_bytes: What the segments of one recording may take.
            now: Seconds since 1970.
        """
        self._session_id = session.session_id
        self._new = _new(session)
        self._output = session.output(media_pb2.CODEC_H264)
        self._geometry = _geometry(session.describe().capabilities)
        self._shelf = shelf
        self._threads = threads
        self._gateway_id = gateway_id
        self.most_bytes = most_bytes
        self._now = now
        self._clock = asyncio.get_running_loop().time
        self._log = _log.bind(session_id=self._session_id)
        self._news = asyncio.Event()
        self._index: Index | None = None
        """As it was read or written last, by whomever."""
        self._cutter: Cutter | None = None
        """While it records."""
        self._waiting: deque[Segment] = deque()
        self._parameters = b""
        """Parameter sets of the newest keyframe that was stored."""
        self._came_at = 0.0
        """When the last frame came, on the clock of the loop."""
        self._cut_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._counted = 0
        self._said_at = 0.0
        """When it last said that it records."""
        self._ends: bool | None = None
        """Whether the session is over, once it is not recorded here any more."""
        self._failure = ""

    # -- what the output gives ------------------------------------------------------------------

    def frame(self, frame: EncodedFrame) -> None:
        """Takes a frame at the moment it is shown."""
        cutter = self._cutter
        if cutter is None:
            return
        self._came_at = self._clock()
        self._ended_segment(cutter.take(frame, room=len(self._waiting) < MOST_WAITING))
        if cutter.wants_keyframe:
            self._output.refresh()

    def stats(self, stats: media_pb2.ViewerStats) -> None:
        """Not of interest."""

    # -- what the session asks ------------------------------------------------------------------

    def clip(self, duration_s: float | None) -> Clip:
        """Returns a part of the recording up to now.

        Args:
            duration_s: The last so many seconds, at most `MOST_CLIP_S`; None: all of it.

        Raises:
            ClipFailedError: There is none.
        """
        if duration_s is not None and not (math.isfinite(duration_s) and duration_s > 0):
            raise ClipFailedError("duration_seconds must be a positive number")
        if self._failure:
            raise ClipFailedError(self._failure)
        known, cutter = self._index, self._cutter
        oldest_us = 0 if known is None else known.oldest_us
        position_us = 0 if known is None else known.position_us
        ready_in_s = 0.0
        if cutter is not None:
            position_us = cutter.position_us
            ready_in_s = self._cut_soon()
        if position_us <= oldest_us:
            raise ClipFailedError("nothing has been recorded yet")
        length_us = position_us
        if duration_s is not None:
            length_us = round(min(duration_s, MOST_CLIP_S) * 1e6)
        return Clip(
            session_id=self._session_id,
            whole=duration_s is None,
            start_us=max(oldest_us, position_us - length_us),
            end_us=position_us,
            ready_at=self._now() + ready_in_s,
        )

    def end(self, *, over: bool) -> None:
        """Records no more.

        Args:
            over: Whether the session has ended; else it may go on through another gateway.
        """
        if self._ends is None:
            self._output.leave(self)
            self._cut()
            self._ends = over
            self._news.set()

    async def run(self) -> None:
        """Records until `end`, or until something fails."""
        try:
            while self._ends is None:
                begun = await self._begun()
                if begun is not None:
                    await self._record(begun)
        except Exception as error:
            self._fail(error)
        finally:
            self._stop()

    # -- the recording --------------------------------------------------------------------------

    async def _begun(self) -> Index | None:
        """Waits until no other gateway records the session; returns where to go on, or None
        when it is not to be recorded here any more.
        """
        while self._ends is None:
            index = self._index = await self._shelf.index(self._session_id)
            if index is None or self._may_go_on(index):
                begun = self._new if index is None else index
                await self._tidied(begun)
                return begun
            await self._wait(BEAT_S)
        return None

    def _may_go_on(self, index: Index) -> bool:
        return index.beat.recorder == self._gateway_id or not index.is_recorded(self._now())

    async def _tidied(self, index: Index) -> None:
        """Removes what was stored and not noted: it is not part of the recording."""
        after = index.segments[-1].name if index.segments else ""
        left = [
            name
            async for name in self._shelf.names(self._session_id, after)
            if name.startswith("chunk_")
        ]
        await self._shelf.remove(self._session_id, left)

    async def _record(self, index: Index) -> None:
        """Records until the end, or until another gateway does."""
        if self._ends is not None:
            return
        self._cutter = Cutter(
            number=index.next_number,
            start_us=index.position_us,
            period_us=self._geometry.period_us,
        )
        _ACTIVE.inc()
        try:
            # First, so that it is not removed as one that nobody records.
            await self._say(self._gateway_id)
            await self._note(replace(index, ended_at=None))
            self._output.record(self)
            while await self._stored():
                await self._wait(LOOK_S)
        finally:
            _ACTIVE.dec()
            self._stop()

    async def _stored(self) -> bool:
        """Stores what waits; returns whether there is more to come."""
        index = self._index
        assert index is not None  # noqa: S101 - it was noted before
        ends, cutter = self._ends, self._cutter
        is_open = cutter is not None and cutter.is_open
        if is_open and self._clock() - self._came_at > LOOK_S:
            self._cut()
        while self._waiting:
            added = await self._add(index, self._waiting[0])
            if added is None:
                return False
            index = added
            self._waiting.popleft()
        self._count()
        is_due = self._now() - self._said_at >= BEAT_S
        if (ends is not None or is_due) and await self._is_elsewhere():
            return False
        if ends is not None:
            await self._note(replace(index, ended_at=self._now() if ends else None))
            await self._say("")
            return False
        if is_due:
            await self._say(self._gateway_id)
        return True

    async def _add(self, index: Index, segment: Segment) -> Index | None:
        """Stores a segment, and what the recording is with it; None: another gateway records."""
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._threads, self._remuxed, segment)
        if await self._is_elsewhere():
            return None
        if not index.has_header:
            await self._put(HEADER, made.header)
            index = replace(index, has_header=True)
        stored = Stored.of(segment, len(made.media))
        await self._put(stored.name, made.media)
        _BYTES.inc(stored.size)
        if await self._is_elsewhere():
            return None
        index, gone = index.with_segment(stored, self.most_bytes)
        await self._note(index)
        await self._say(self._gateway_id)
        await self._shelf.remove(self._session_id, (each.name for each in gone))
        return index

    async def _put(self, name: str, data: bytes) -> None:
        """Stores a file, in the place of one that somebody left who records no more."""
        await self._shelf.remove(self._session_id, (name,))
        await self._shelf.put(self._session_id, name, data)

    async def _is_elsewhere(self) -> bool:
        """Tells whether it is another gateway that records; then what that has stored counts."""
        beat = await self._shelf.beat(self._session_id)
        if beat.recorder == self._gateway_id:
            return False
        self._log.warning("recording.elsewhere")
        self._index = await self._shelf.index(self._session_id)
        return True

    async def _say(self, recorder: str) -> None:
        """Says who records the session; empty: nobody."""
        self._said_at = self._now()
        await self._shelf.put_beat(self._session_id, Beat(recorder, self._said_at))

    async def _note(self, index: Index) -> None:
        """Stores what the recording is."""
        encoded = await asyncio.get_running_loop().run_in_executor(self._threads, index.encoded)
        await self._shelf.put_index(self._session_id, encoded)
        self._index = index

    def _remuxed(self, segment: Segment) -> Remuxed:
        """Makes files of a segment, on a thread."""
        made = remuxed(segment, self._geometry.width, self._geometry.height, self._parameters)
        newest = next((each for each in reversed(segment.samples) if each.keyframe), None)
        if newest is not None:
            self._parameters = parameter_sets(newest.data)
        return made

    # -- the open segment -----------------------------------------------------------------------

    def _cut_soon(self) -> float:
        """Has the open segment end; returns in how many seconds it is stored, about."""
        wait_s = max(0.0, self._cut_at + CUT_EVERY_S - self._clock())
        if not wait_s:
            self._cut()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._cut)
        return wait_s + STORED_IN_S

    def _cut(self) -> None:
        self._cut_at = self._clock()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._cutter is not None:
            self._ended_segment(self._cutter.cut(room=len(self._waiting) < MOST_WAITING))

    def _ended_segment(self, segment: Segment | None) -> None:
        if segment is not None:
            self._waiting.append(segment)
            self._news.set()

    # -- the rest -------------------------------------------------------------------------------

    async def _wait(self, at_most_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._news.wait()
        self._news.clear()

    def _count(self) -> None:
        if self._cutter is not None:
            _DROPPED.inc(self._cutter.dropped - self._counted)
            self._counted = self._cutter.dropped

    def _fail(self, error: Exception) -> None:
        """Nothing more is recorded of the session; what is stored stays."""
        _FAILED.inc()
        what = str(error) if isinstance(error, StorageError) else type(error).__name__
        self._log.warning("recording.failed", error=what)
        self._failure = "the recording has stopped: it could not be stored"

    def _stop(self) -> None:
        """Takes no more frames."""
        self._output.leave(self)
        self._cutter, self._counted = None, 0
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _new(session: Recorded) -> Index:
    """Returns what is known of a session of which nothing is recorded yet."""
    owner = session.principal
    return Index(
        tenant=owner.tenant,
        model=session.describe().model,
        holders=tuple(each.name for each in owner.holders),
        secret=secrets.token_urlsafe(32),
    )


def _geometry(capabilities: session_pb2.Capabilities) -> _Geometry:
    return _Geometry(
        capabilities.width, capabilities.height, round(1e6 / (capabilities.frame_rate or 24.0))
    )
