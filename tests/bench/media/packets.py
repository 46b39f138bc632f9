"""What arrived at a client, counted: pure, fed with packets and times.

A client hands over the RTP headers of what it received (RFC 3550, 5.1: the header is not
encrypted in SRTP) with the kernel's time of arrival, and gets frames, gaps and lateness.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

CLOCK_HZ: Final = 90_000
_HEADER = struct.Struct("!BBHII")


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP packet."""

    arrival_ns: int
    """Monotonic clock."""
    size: int
    """Bytes of the datagram."""
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The packets that share a timestamp."""

    timestamp: int
    first_ns: int
    """Arrival of its first packet."""
    last_ns: int
    """Arrival of its last one."""
    packets: int
    size: int
    complete: bool
    """Whether the packet with the marker bit came."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What came of one stream."""

    frames: tuple[Frame, ...]
    """By timestamp."""
    lost: int
    """Sequence numbers between the first and the last that never came."""
    bytes: int


def parse(arrival_ns: int, header: bytes, size: int) -> Packet | None:
    """Reads an RTP header; None when it is none."""
    if len(header) < _HEADER.size or header[0] >> 6 != 2:
        return None
    _, second, sequence, timestamp, ssrc = _HEADER.unpack_from(header)
    return Packet(arrival_ns, size, second & 0x7F, bool(second & 0x80), sequence, timestamp, ssrc)


def stream(packets: Iterable[Packet], ignored: frozenset[int] = frozenset()) -> Stream:
    """Counts the busiest stream.

    Args:
        packets: In the order of arrival.
        ignored: Payload types that carry no frames of their own: retransmission.
    """
    kept = [packet for packet in packets if packet.payload_type not in ignored]
    if not kept:
        return Stream((), 0, 0)
    ssrc, _ = Counter(packet.ssrc for packet in kept).most_common(1)[0]
    kept = [packet for packet in kept if packet.ssrc == ssrc]
    numbers = list(_unwrapped([packet.sequence for packet in kept], 16))
    times = list(_unwrapped([packet.timestamp for packet in kept], 32))
    by_time: dict[int, list[Packet]] = {}
    for timestamp, packet in zip(times, kept, strict=True):
        by_time.setdefault(timestamp, []).append(packet)
    frames = tuple(_frame(timestamp, by_time[timestamp]) for timestamp in sorted(by_time))
    lost = max(numbers) - min(numbers) + 1 - len(set(numbers))
    return Stream(frames, lost, sum(packet.size for packet in kept))


def lateness_ms(frames: Sequence[Frame], share: float = 0.1) -> list[float]:
    """Returns how much later than an even grid each frame was complete.

    The grid runs at the rate of the timestamps and is laid so that the earliest tenth of
    the frames is on time: a stream that is late by the same time throughout is a delay,
    not an error of pacing.
    """
    if not frames:
        return []
    origin = frames[0].timestamp
    offsets = [each.last_ns / 1e6 - (each.timestamp - origin) / CLOCK_HZ * 1e3 for each in frames]
    ordered = sorted(offsets)
    anchor = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
    return [max(0.0, offset - anchor) for offset in offsets]


def gaps_ms(frames: Sequence[Frame]) -> list[float]:
    """Returns the times between complete frames."""
    ends = sorted(frame.last_ns for frame in frames)
    return [(after - before) / 1e6 for before, after in itertools.pairwise(ends)]


def rate(frames: Sequence[Frame]) -> float:
    """Returns frames per second by arrival; 0 when fewer than two came."""
    if len(frames) < 2:
        return 0.0
    span = frames[-1].first_ns - frames[0].first_ns
    return (len(frames) - 1) / span * 1e9 if span > 0 else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Returns a percentile by the nearest rank; not a number without values."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, min(len(ordered), math.ceil(share * len(ordered))) - 1)]


def _frame(timestamp: int, packets: list[Packet]) -> Frame:
    return Frame(
        timestamp=timestamp,
        first_ns=min(packet.arrival_ns for packet in packets),
        last_ns=max(packet.arrival_ns for packet in packets),
        packets=len({packet.sequence for packet in packets}),
        size=sum(packet.size for packet in packets),
        complete=any(packet.marker for packet in packets),
    )


def _unwrapped(values: Sequence[int], bits: int) -> Iterable[int]:
    """Counts on where a counter of so many bits starts again."""
    size = 1 << bits
    last = values[0]
    for value in values:
        last += (value - last + size // 2) % size - size // 2
        yield last
