"""Which frames of a clip are presented, and when. Pure.

A packet is not a frame: VP8 and VP9 hide frames that only serve as references, and
edit lists discard packets that a decoder nevertheless needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


def shown_frames(codec: str, packet: memoryview) -> int:
    """Returns how many pictures a decoder hands out for a packet.

    Args:
        codec: libavcodec's name of the codec.
        packet: What the container calls one frame.
    """
    if codec == "vp8":
        # RFC 6386, 9.1: bit 4 of the frame tag is show_frame.
        return packet[0] >> 4 & 1 if len(packet) else 0
    if codec == "vp9":
        return sum(_vp9_shown(part) for part in _vp9_frames(packet))
    return 1


def _vp9_frames(packet: memoryview) -> list[memoryview]:
    """Splits a superframe (VP9 bitstream specification, annex B)."""
    whole = [packet] if len(packet) else []
    if not whole or packet[-1] & 0xE0 != 0xC0:
        return whole
    frames, width = (packet[-1] & 7) + 1, (packet[-1] >> 3 & 3) + 1
    index = 2 + frames * width
    if len(packet) < index or packet[-index] != packet[-1]:
        return whole
    parts, at = [], 0
    for number in range(frames):
        start = len(packet) - index + 1 + number * width
        size = int.from_bytes(packet[start : start + width], "little")
        parts.append(packet[at : at + size])
        at += size
    return [part for part in parts if len(part)]


def _vp9_shown(frame: memoryview) -> int:
    """Reads show_existing_frame and show_frame of an uncompressed header (6.2)."""
    bits = frame[0]
    at = 5 if bits & 0x30 == 0x30 else 4
    # frame_marker(2) profile(2) [reserved(1)] show_existing_frame frame_type show_frame
    if bits >> (7 - at) & 1:
        return 1
    return bits >> (7 - at - 2) & 1 if at + 2 <= 7 else 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """When each presented frame of a clip is due."""

    ticks: tuple[int, ...]
    """Presentation times in the order of presentation, in the container's time base."""
    tick_us: float
    """Microseconds a tick."""
    frame_us: int
    """How long the last frame lasts."""
    aligned: bool
    """Whether the times tell frames apart, so that decoded frames are placed by them."""

    def __len__(self) -> int:
        return len(self.ticks)

    def time_us(self, index: int) -> int:
        """Returns when a frame is due, from the first frame on; beyond the end too."""
        last = len(self.ticks) - 1
        beyond = max(0, index - last)
        due = (self.ticks[min(index, last)] - self.ticks[0]) * self.tick_us
        return round(due) + beyond * self.frame_us

    @property
    def duration_us(self) -> int:
        """From the first frame to the end of the last."""
        return self.time_us(len(self.ticks) - 1) + self.frame_us if self.ticks else 0


def timeline(
    times: Sequence[int | None], *, first_decoded: int | None, tick_us: float, frame_us: int
) -> Timeline:
    """Orders the presented frames of a clip.

    Args:
        times: Presentation times of the shown and not discarded frames, in the order
            of decoding; None where the container has none.
        first_decoded: Time of the first frame that a decoder hands out. What would be
            shown before it depends on frames that the file does not hold.
        tick_us: Microseconds a tick.
        frame_us: Duration of a frame where nothing better is known.
    """
    known = sorted(time for time in times if time is not None)
    if len(known) < len(times) or not known:
        step = max(1, round(frame_us / tick_us))
        return Timeline(tuple(range(0, len(times) * step, step)), tick_us, frame_us, aligned=False)
    if first_decoded is not None:
        known = [time for time in known if time >= first_decoded]
    aligned = all(a < b for a, b in pairwise(known))
    if len(known) > 1:
        mean = (known[-1] - known[0]) * tick_us / (len(known) - 1)
        frame_us = min(frame_us, round(mean)) if frame_us else round(mean)
    return Timeline(tuple(known), tick_us, max(1, frame_us), aligned=aligned)
