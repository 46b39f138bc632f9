"""Many sessions at once, each with a viewer that notes every frame and when it came."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import av

from sana_gateway import CallError, Client, Session
from sana_gateway.media import CodecName, Watch
from sana_gateway.v1 import message_pb2
from sdk_adapters.harness.generator.numbers import Numbers
from sdk_adapters.harness.generator.watching import Watching, Window
from sdk_adapters.harness.marker import CANNED_FRAMES, read_marker
from sdk_adapters.harness.records import SessionRecord
from tests.e2e.driving import WAIT_S, Camera, stage
from tests.media.clips import Picture

LATE_MS: Final = 100.0
"""From here on a frame is late."""
AWAY_S: Final = 0.05
"""Pause before a viewer whose gateway is gone asks again."""


@dataclass
class Member:
    """One session, its client and what its viewer saw."""

    session: Session
    client: Client
    watching: Watching = field(init=False)
    """Counts its frames, as the load harness does."""
    late: int = 0
    """Frames that came more than `LATE_MS` after they were due."""
    shown: list[tuple[int, int]] = field(default_factory=list)
    """Run and index of every frame, as they came."""
    due_us: list[int] = field(default_factory=list)
    """When each was due, on the clock of the play-out."""
    sources_us: list[int] = field(default_factory=list)
    """When the source frame of each was captured, or where in the clip it lies."""
    held: int = 0
    """Pictures that were sent while the picture held."""
    ended: str | None = None
    """Why the session ended; None while it lives."""
    mismatched: int = 0
    """Pictures whose marker is not the number of their frame; only where they are decoded."""
    decoded: int = 0
    pictures: dict[int, Picture] | None = None
    """Decoded pictures (I420) by index of their frame, where they are kept."""
    last_at: float = 0.0
    """When the newest frame came."""
    moved: list[Any] = field(default_factory=list)
    """What was said of going on elsewhere."""
    errors: list[Any] = field(default_factory=list)
    """Commands that were refused."""
    completed: list[Any] = field(default_factory=list)
    """Chunks of which it was told that they were shown to their end."""
    _longest_s: float = 0.0
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.watching = Watching(
            SessionRecord(0, 0, "grpc", "", "", live=False, decoded=False, planned_s=0.0),
            Window(-math.inf, math.inf),
            lambda *_: None,
            self._came,
        )
        # It may be there before the run, or come while others watch it.
        self.watching.joins()
        self.session.on("ended", self._end)
        self.session.on("session_moved", self._move)
        self.session.on("command_error", self.errors.append)
        self.session.on("chunk_complete", self.completed.append)

    @property
    def numbers(self) -> Numbers:
        """Which frames never came, and which came again."""
        return self.watching.numbers

    def watch_gaps(self) -> None:
        """Begins to look for the longest gap anew."""
        self._longest_s = 0.0

    @property
    def longest_gap_s(self) -> float:
        """The longest time without a frame since `watch_gaps`, the one that lasts included."""
        return max(self._longest_s, time.monotonic() - self.last_at if self.last_at else 0.0)

    @property
    def seamless(self) -> bool:
        """Whether its frames came once each, in order, with none left out since the first."""
        first = self.shown[0][1] if self.shown else 0
        return [frame for _, frame in self.shown] == list(range(first, first + len(self.shown)))

    @property
    def moves(self) -> list[str]:
        """How it went on elsewhere, each time; by name."""
        return [
            message_pb2.Continuity.Name(each.continuity).removeprefix("CONTINUITY_")
            for each in self.moved
        ]

    @property
    def newest(self) -> int:
        """Index of the newest frame."""
        return self.shown[-1][1]

    def picture(self, frame: int) -> Picture:
        """Returns a picture that was kept."""
        assert self.pictures is not None
        return self.pictures[frame]

    async def reached(self, frame: int) -> None:
        """Waits for a frame."""
        await self.until(lambda: bool(self.shown) and self.newest >= frame)

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until something about what was seen holds.

        Raises:
            TimeoutError: It never did.
        """
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._more.clear()
                await self._more.wait()

    async def frames(self, count: int) -> None:
        """Waits for so many more frames."""
        wanted = len(self.shown) + count
        await self.until(lambda: len(self.shown) >= wanted)

    async def frame_after(self, moment: float) -> float:
        """Waits for the first frame after a moment; returns how long after it that came.

        Raises:
            TimeoutError: None came.
        """
        async with asyncio.timeout(WAIT_S):
            while self.last_at <= moment:
                self._more.clear()
                await self._more.wait()
        return self.last_at - moment

    async def follow(self, codec: CodecName, *, decode: bool) -> None:
        """Watches until cancelled or the session ends; comes back when its gateway is gone."""
        while self.ended is None:
            decoder: Any = av.CodecContext.create("h264" if codec == "h264" else "vp8", "r")
            with suppress(CallError):
                async with self.session.watch(codec) as watch:
                    await self._take(watch, decoder if decode else None)
            await asyncio.sleep(AWAY_S)

    async def _take(self, watch: Watch, decoder: Any) -> None:
        async for frame in watch:
            now = time.monotonic()
            if decoder is not None:
                self._compare(decoder, frame)
            if frame.held:
                self.held += 1
                self._more.set()
                continue
            if self.last_at:
                self._longest_s = max(self._longest_s, now - self.last_at)
            self.last_at = now
            self.shown.append((frame.run, frame.frame))
            self.due_us.append(frame.timestamp_us)
            self.sources_us.append(frame.source_us)
            due_s = frame.timestamp_us / 1e6
            self.watching.frame(now, frame.run, frame.frame, due_s, len(frame.data))
            self._more.set()

    def _compare(self, decoder: Any, frame: Any) -> None:
        for picture in decoder.decode(av.Packet(frame.data)):
            marker = read_marker(picture.to_ndarray()[: picture.height])
            self.decoded += 1
            if self.pictures is not None:
                self.pictures[frame.frame] = picture.to_ndarray()
            wanted = frame.frame % CANNED_FRAMES if marker and marker.canned else frame.frame
            if marker is None or marker.frame != wanted:
                self.mismatched += 1

    def _came(self, late_ms: float) -> None:
        self.late += late_ms > LATE_MS

    def _move(self, moved: Any) -> None:
        self.moved.append(moved)
        self._more.set()

    def _end(self, reason: str) -> None:
        self.ended = reason
        self._more.set()


@dataclass
class Fleet:
    """Sessions that play."""

    members: Sequence[Member]

    @property
    def lost(self) -> list[str]:
        """Why sessions ended that nobody ended."""
        return [each.ended for each in self.members if each.ended is not None]

    def watch_gaps(self) -> None:
        """Begins to look for the longest gap anew."""
        for each in self.members:
            each.watch_gaps()

    @property
    def longest_gap_s(self) -> float:
        """The longest gap of any member since `watch_gaps`."""
        return max(each.longest_gap_s for each in self.members)

    async def all_after(self, moment: float) -> list[float]:
        """Waits until every session showed a frame after a moment; returns how long each took."""
        return list(await asyncio.gather(*(each.frame_after(moment) for each in self.members)))

    async def undisturbed(self, seconds: float) -> float:
        """Returns the longest gap of a while in which nothing is done: the floor of all others."""
        self.watch_gaps()
        await asyncio.sleep(seconds)
        return self.longest_gap_s


@asynccontextmanager
async def viewed(
    session: Session,
    client: Client,
    *,
    codec: CodecName = "h264",
    decode: bool = False,
    keep: bool = False,
) -> AsyncIterator[Member]:
    """Watches a session, whatever becomes of its gateway.

    Args:
        session: Which.
        client: Connection to its gateway.
        codec: What to watch in.
        decode: Whether to decode and compare the markers.
        keep: Whether to keep the decoded pictures.
    """
    member = Member(session, client, pictures={} if keep else None)
    watching = asyncio.create_task(member.follow(codec, decode=decode or keep))
    try:
        yield member
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _show(session: Session, size: tuple[int, int]) -> None:
    """Publishes a camera until cancelled; comes back when its gateway is gone."""
    camera = Camera("h264", *size)
    while True:
        with suppress(CallError):
            await session.publish(camera.frames(), "h264", on_keyframe=camera.ask_keyframe)
        camera.ask_keyframe()
        await asyncio.sleep(AWAY_S)


@asynccontextmanager
async def playing(
    client: Client,
    model: str,
    clip: Path,
    count: int,
    *,
    codec: CodecName = "h264",
    decode: bool = False,
    live: tuple[int, int] | None = None,
) -> AsyncIterator[Fleet]:
    """Starts sessions, each watched; ends them.

    Args:
        client: Connection to the gateway.
        model: What to ask for.
        clip: What they play: long enough for the whole scenario.
        count: How many.
        codec: What the viewers watch in.
        decode: Whether they decode and compare the markers.
        live: Size of the cameras that they show instead of the clip, one each.
    """
    members: list[Member] = []
    async with AsyncExitStack() as watching:
        try:
            for number in range(count):
                session = await client.create_session(model)
                view = viewed(session, client, codec=codec, decode=decode)
                members.append(await watching.enter_async_context(view))
                if live is None:
                    await stage(session, clip, f"prompt {number}")
                else:
                    camera = asyncio.create_task(_show(session, live))
                    watching.callback(camera.cancel)
                    await session.set_prompt(f"prompt {number}")
                await session.start()
            fleet = Fleet(members)
            await fleet.all_after(0.0)
            yield fleet
        finally:
            await asyncio.gather(
                *(each.session.close() for each in members if each.ended is None),
                return_exceptions=True,
            )
