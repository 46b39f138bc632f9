"""The trailer by which a frame says its number, where the offer asked for it. Pure.

    payload | protobuf | length of the protobuf, u32 little-endian | "RXMT"

with the protobuf fields 1 frame_id (`(run << 32) + frame + 1`) and 2 capture_time_us, both
varints. It is the last thing in the last packet of a frame.
"""

from __future__ import annotations

from typing import Final, NamedTuple

OFFER: Final = "a=x-reactor-frame-metadata:1"
"""Attribute of the session by which an offer asks for trailers, and an answer agrees."""
_MAGIC: Final = b"RXMT"
_END: Final = 8
_FRAME_ID, _CAPTURE_TIME = 0x08, 0x10


class Trailer(NamedTuple):
    """What it says."""

    run: int
    frame: int
    source_us: int
    """When the source frame was captured, on a clock of its publisher."""
    size: int
    """Bytes it takes."""


def read(data: bytes) -> Trailer | None:
    """Reads the trailer at the end of a frame or of its last packet; None where there is none."""
    if data[-4:] != _MAGIC:
        return None
    length = int.from_bytes(data[-_END:-4], "little")
    at = len(data) - _END - length
    if at < 0:
        return None
    end = len(data) - _END
    fields = {_FRAME_ID: 0, _CAPTURE_TIME: 0}
    while at < end:
        tag, value, shift = data[at], 0, 0
        at += 1
        while at < end:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        fields[tag] = value
    number = fields[_FRAME_ID]
    if not number:
        return None
    return Trailer(number >> 32, (number & 0xFFFFFFFF) - 1, fields[_CAPTURE_TIME], length + _END)


def asked_for(offer: str) -> str:
    """Returns an SDP offer that asks for trailers."""
    session, separator, media = offer.partition("\r\nm=")
    return f"{session}\r\n{OFFER}{separator}{media}"
