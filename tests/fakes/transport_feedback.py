"""The far end of transport-wide feedback: notes what came and writes the messages."""

from __future__ import annotations

import struct
from collections.abc import Sequence

TICK_US = 250
REFERENCE_US = 64_000


def feedback_content(first: int, arrivals: Sequence[int | None], *, count: int = 0) -> bytes:
    """Returns the content of a message, from the number of its sender on, without padding.

    Args:
        first: Number of the first packet.
        arrivals: When each came, in microseconds; None: it did not.
        count: Number of the message.
    """
    times = [each for each in arrivals if each is not None]
    reference = times[0] // REFERENCE_US if times else 0
    clock = reference * REFERENCE_US // TICK_US
    symbols, deltas = [], b""
    for at in arrivals:
        if at is None:
            symbols.append(0)
            continue
        delta = at // TICK_US - clock
        clock += delta
        small = 0 <= delta < 256
        symbols.append(1 if small else 2)
        deltas += struct.pack("!B" if small else "!h", delta)
    chunks = b""
    for at in range(0, len(symbols), 7):
        chunk = 3 << 14
        for index, symbol in enumerate(symbols[at : at + 7]):
            chunk |= symbol << 2 * (6 - index)
        chunks += struct.pack("!H", chunk)
    head = struct.pack("!LLHH", 1, 2, first & 0xFFFF, len(arrivals))
    head += (reference & 0xFFFFFF).to_bytes(3, "big") + bytes([count & 0xFF])
    return head + chunks + deltas


def feedback_packet(content: bytes) -> bytes:
    """Returns the RTCP packet, padded as browsers do."""
    padding = -len(content) % 4
    first = 0x80 | 15 | (0x20 if padding else 0)
    padded = content + (bytes(padding - 1) + bytes([padding]) if padding else b"")
    return struct.pack("!BBH", first, 205, len(padded) // 4) + padded
