"""What a receiver tells a sender, and hears of it, in bytes. Pure.

Sources: RFC 3550 section 6.4 (reports), RFC 4585 section 6 (NACK, PLI), RFC 5104 (FIR).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from sdk_adapters.harness.generator.doors.reception import Report

_SR, _RR, _RTPFB, _PSFB = 200, 201, 205, 206
_NACK, _PLI, _FIR = 1, 1, 4
_HEADER: Final = struct.Struct("!BBHI")
_BLOCK: Final = struct.Struct("!IB3sIIII")
_VERSION: Final = 0x80


class SenderReport(NamedTuple):
    """A sender told its clock."""

    ssrc: int
    middle: int
    """The middle 32 bits of its NTP time."""


class Lost(NamedTuple):
    """Packets are asked for again."""

    sequences: list[int]


class KeyframeAsked(NamedTuple):
    """A keyframe is asked for."""


def receiver_report(own: int, ssrc: int, report: Report, last: tuple[int, float] | None) -> bytes:
    """Returns a receiver report.

    Args:
        own: SSRC of whoever reports.
        ssrc: The stream.
        report: What is reported.
        last: Middle bits of the newest sender report, and the seconds since it came.
    """
    middle, since_s = last or (0, 0.0)
    block = _BLOCK.pack(
        ssrc,
        report.fraction_lost,
        report.lost.to_bytes(3, "big"),
        report.highest,
        report.jitter,
        middle,
        min(0xFFFFFFFF, int(since_s * 65536)),
    )
    return _HEADER.pack(_VERSION | 1, _RR, 7, own) + block


def nack(own: int, ssrc: int, sequences: Sequence[int]) -> bytes:
    """Asks for packets again, in order: each word tells of seventeen."""
    words: list[int] = []
    first = None
    for sequence in sequences:
        if first is not None and 0 < (step := (sequence - first) & 0xFFFF) <= 16:
            words[-1] |= 1 << step - 1
        else:
            first = sequence
            words.append(sequence << 16)
    body = struct.pack(f"!I{len(words)}I", ssrc, *words)
    return _HEADER.pack(_VERSION | _NACK, _RTPFB, 2 + len(words), own) + body


def picture_lost(own: int, ssrc: int) -> bytes:
    """Asks for a keyframe."""
    return _HEADER.pack(_VERSION | _PLI, _PSFB, 2, own) + struct.pack("!I", ssrc)


def heard(data: bytes) -> Iterator[SenderReport | Lost | KeyframeAsked]:
    """Yields what a compound packet tells; what is of no use here is passed over."""
    at = 0
    while at + 8 <= len(data):
        flags, kind, words, ssrc = _HEADER.unpack_from(data, at)
        end = at + 4 + 4 * words
        if end > len(data):
            return
        form = flags & 0x1F
        if kind == _SR and end - at >= 20:
            yield SenderReport(ssrc, int.from_bytes(data[at + 10 : at + 14], "big"))
        elif kind == _RTPFB and form == _NACK:
            yield Lost(list(_sequences(data[at + 12 : end])))
        elif kind == _PSFB and form in (_PLI, _FIR):
            yield KeyframeAsked()
        at = end


def _sequences(words: bytes) -> Iterator[int]:
    for first, mask in struct.iter_unpack("!HH", words[: len(words) // 4 * 4]):
        yield first
        for step in range(16):
            if mask >> step & 1:
                yield (first + step + 1) & 0xFFFF
