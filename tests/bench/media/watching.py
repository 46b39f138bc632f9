"""Watches sessions of a system for a while: CPU by role, frames, commands, latency, quality."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.media import packets, processes
from tests.bench.media.clients.driver import NullClients, Picture, Seen
from tests.bench.media.clip import FRAMES, RATE
from tests.bench.media.systems.service import Ready, Service

GAP_MS = 200.0
"""Longest gap between frames of a clean session."""
SHARE = 0.01
"""By how much the frame rate of a clean session may be off."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A stretch of a system's work."""

    spent: processes.Spent
    client_cores: float
    sessions: tuple[Seen, ...]

    @property
    def frames(self) -> int:
        """Frames that arrived, of all sessions."""
        return sum(len(each.stream.frames) for each in self.sessions)

    @property
    def worst_rate(self) -> float:
        """Frames per second of the slowest session."""
        return min(packets.rate(each.stream.frames) for each in self.sessions)

    @property
    def longest_gap_ms(self) -> float:
        """Longest time between two frames of any session."""
        return max(
            max(packets.gaps_ms(each.stream.frames), default=float("inf")) for each in self.sessions
        )

    @property
    def lost(self) -> int:
        """Packets that never came."""
        return sum(each.stream.lost for each in self.sessions)

    @property
    def mbps(self) -> float:
        """Megabits per second of one session, on average; RTP headers included."""
        total = sum(each.stream.bytes for each in self.sessions)
        return total * 8e-6 / self.spent.wall_s / len(self.sessions)

    @property
    def acks_ms(self) -> list[float]:
        """Round trips of commands, of all sessions."""
        return [ack for each in self.sessions for ack in each.acks_ms]

    def ms_a_frame(self, *roles: str) -> float:
        """CPU milliseconds of some roles for each frame that arrived."""
        return self.spent.seconds(*roles) * 1e3 / max(1, self.frames)

    @property
    def whole(self) -> int:
        """Sessions at full rate, with nothing lost and no long gap."""
        return sum(
            packets.rate(each.stream.frames) >= RATE * (1 - SHARE)
            and each.stream.lost == 0
            and max(packets.gaps_ms(each.stream.frames), default=GAP_MS + 1) <= GAP_MS
            for each in self.sessions
        )

    @property
    def clean(self) -> bool:
        """Whether every session is whole."""
        return self.whole == len(self.sessions)

    @property
    def steady(self) -> bool:
        """Whether every session is at full rate with nothing lost, whatever its gaps."""
        return self.worst_rate >= RATE * (1 - SHARE) and self.lost == 0

    def lateness_ms(self) -> list[float]:
        """How late frames were against the grid of their session; of all sessions."""
        return [late for each in self.sessions for late in packets.lateness_ms(each.stream.frames)]


@dataclass(frozen=True, slots=True)
class Chunk:
    """How a chunk's first frame got to the client. Milliseconds from the chunk being ready."""

    first_frame: int
    first_packet: float
    last_packet: float


@dataclass(frozen=True, slots=True)
class Followed:
    """One session followed from its start, packet by packet and picture by picture."""

    chunks: tuple[Chunk, ...]
    complete_ms: tuple[float, ...]
    """When every frame was complete, from when it was due had its chunk been due when ready."""
    psnr: tuple[float, ...]
    """Of every picture that could be read, in dB."""
    mbps: float
    watched: Watched = field(repr=False)

    @property
    def start(self) -> Chunk | None:
        """The first chunk of the run."""
        return next((chunk for chunk in self.chunks if chunk.first_frame == 0), None)

    @property
    def later(self) -> list[Chunk]:
        """The chunks once the stream runs evenly."""
        return [chunk for chunk in self.chunks if chunk.first_frame >= 2 * RATE]

    @property
    def quality(self) -> float:
        """Mean PSNR over two loops' worth of pictures at most, the first second left out."""
        return statistics.fmean(self.psnr[RATE:] or self.psnr or (float("nan"),))


async def watch(
    service: Service, clients: NullClients, seconds: float, *, commands_hz: float = 0.0
) -> Watched:
    """Watches the sessions that run."""
    roles, own = service.roles, {"client": [clients.process]}
    await clients.begin(commands_hz=commands_hz)
    before, client_before = processes.usage(roles), processes.usage(own)
    await asyncio.sleep(seconds)
    spent = processes.usage(roles).since(before)
    client = processes.usage(own).since(client_before)
    return Watched(spent, client.cores("client"), tuple(await clients.end()))


async def follow(
    service: Service, clients: NullClients, codec: str, clip: Path, seconds: float
) -> Followed:
    """Starts the one session that has joined, and follows it.

    Args:
        service: The system.
        clients: They hold one session that has not been started.
        codec: Its codec.
        clip: The folder of the clip.
        seconds: For how long.
    """
    roles = service.roles
    service.ready()
    await clients.begin(whole=True)
    before = processes.usage(roles)
    await clients.start()
    await asyncio.sleep(seconds)
    spent = processes.usage(roles).since(before)
    (seen,) = await clients.end()
    pictures = await clients.compare(codec, clip, service.matrix(codec))
    watched = Watched(spent, 0.0, (seen,))
    ready, arrived = service.ready(), numbered(seen.stream.frames, pictures)
    return Followed(
        chunks=tuple(chunks_of(ready, arrived)),
        complete_ms=tuple(completions_ms(ready, arrived)),
        psnr=tuple(picture.psnr for picture in pictures),
        mbps=watched.mbps,
        watched=watched,
    )


def numbered(
    frames: Sequence[packets.Frame], pictures: Sequence[Picture]
) -> dict[int, packets.Frame]:
    """Returns what arrived by index in the run, by the numbers in the pictures.

    Args:
        frames: What arrived, by timestamp.
        pictures: What was read out of it.
    """
    by_time = {frame.timestamp: frame for frame in frames}
    arrived: dict[int, packets.Frame] = {}
    index = -1
    for picture in sorted(pictures, key=lambda picture: picture.timestamp):
        step = (picture.number - index) % FRAMES
        # A picture that is shown again is not the next one of its number, a loop later.
        if step > FRAMES // 2:
            continue
        index += step
        if picture.timestamp in by_time:
            arrived.setdefault(index, by_time[picture.timestamp])
    return arrived


def chunks_of(ready: Sequence[Ready], arrived: Mapping[int, packets.Frame]) -> list[Chunk]:
    """Returns how the first frame of each chunk that was ready arrived."""
    return [
        Chunk(
            each.first_frame,
            (arrived[each.first_frame].first_ns - each.at_ns) / 1e6,
            (arrived[each.first_frame].last_ns - each.at_ns) / 1e6,
        )
        for each in ready
        if each.first_frame in arrived
    ]


def completions_ms(ready: Sequence[Ready], arrived: Mapping[int, packets.Frame]) -> list[float]:
    """Returns how long after its own time each frame was complete.

    Its own time is when its chunk was ready, plus its place in the chunk.
    """
    starts = sorted((each.first_frame, each.at_ns) for each in ready)
    found = []
    for index, frame in arrived.items():
        before = [start for start in starts if start[0] <= index]
        if before:
            first, at_ns = before[-1]
            found.append((frame.last_ns - at_ns) / 1e6 - (index - first) / RATE * 1e3)
    return found
