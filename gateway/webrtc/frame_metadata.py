"""The trailer that tells a Reactor client which frame it sees. Pure.

Agreed in SDP (`gateway.webrtc.sdp.FRAME_METADATA`), then put after every encoded frame,
before it is cut into packets; the client takes it off before decoding:

    payload | protobuf | length of the protobuf, u32 little-endian | "RXMT"

with the protobuf fields 1 frame_id (uint64), 2 capture_time_us (uint64), 3 user_data
(bytes, absent here).
"""

from __future__ import annotations

from typing import Final

MAGIC: Final = b"RXMT"
_FRAME_ID_TAG: Final = 0x08
_CAPTURE_TIME_TAG: Final = 0x10


def frame_id(run: int, frame: int) -> int:
    """Returns the number that a client sees: `(run << 32) + frame + 1`.

    Never 0, unique in a session; `run = id >> 32` and `frame = (id & 0xffffffff) - 1`.
    """
    return (run << 32) + frame + 1


def trailer(run: int, frame: int, capture_time_us: int) -> bytes:
    """Returns what follows the payload of a frame.

    Args:
        run: The run.
        frame: Index of the frame in its run.
        capture_time_us: When its source was captured; a negative time is sent as 0.
    """
    message = bytes([_FRAME_ID_TAG]) + _varint(frame_id(run, frame))
    message += bytes([_CAPTURE_TIME_TAG]) + _varint(max(0, capture_time_us))
    return message + len(message).to_bytes(4, "little") + MAGIC


def _varint(value: int) -> bytes:
    """Encodes a number as protobuf does: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
