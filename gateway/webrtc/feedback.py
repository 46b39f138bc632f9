"""What a viewer tells of every packet it got: transport-wide feedback. Pure.

The sender numbers all packets of a transport in a header extension of two bytes; the far
end tells, ten times a second or more, which of these numbers came, and when, to a quarter
of a millisecond. Source: draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1.
"""

from __future__ import annotations

from typing import Final, NamedTuple

EXTENSION_URI: Final = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
"""Name of the header extension in SDP."""
MAX_STATUSES: Final = 4096
"""Packets that one message may tell of: some eight seconds of video."""

_RTPFB: Final = 205
_FORMAT: Final = 15
_HEADER: Final = 4
_TICK_US: Final = 250
_REFERENCE_US: Final = 64_000
_MISSING: Final = 0
_SMALL: Final = 1
_LARGE: Final = 2
_RUN_BITS: Final = 13
_ONE_BIT: Final = 14
_TWO_BIT: Final = 7


class Feedback(NamedTuple):
    """One message."""

    first: int
    """Number of the first packet that it tells of, 16 bits."""
    arrivals: list[int | None]
    """When each packet from the first on came, in microseconds on a clock of the far end
    that starts anywhere and wraps around after twelve days; None: it has not come."""


def split(data: bytes) -> tuple[bytes, list[bytes]]:
    """Takes the transport-wide feedback out of a compound RTCP packet.

    Returns:
        The packet without it, and the content of each such message, to be parsed. What is
        no RTCP stays as it is: it is for the parser of the rest to refuse.
    """
    rest, found, at = [], [], 0
    while at + _HEADER <= len(data):
        end = at + _HEADER + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == _RTPFB and data[at] & 0x1F == _FORMAT and end <= len(data):
            found.append(data[at + _HEADER : end])
        else:
            rest.append(data[at:end])
        at = end
    return b"".join([*rest, data[at:]]), found


def parse_feedback(content: bytes) -> Feedback:
    """Reads one message, from the number of its sender on. Padding at the end is ignored.

    Raises:
        ValueError: It is malformed, or tells of more than `MAX_STATUSES` packets.
    """
    if len(content) < 16:
        raise ValueError("transport-wide feedback is too short")
    first = int.from_bytes(content[8:10], "big")
    count = int.from_bytes(content[10:12], "big")
    if not 0 < count <= MAX_STATUSES:
        raise ValueError("transport-wide feedback tells of no packets, or of too many")
    statuses, at = _statuses(content, count)
    clock = int.from_bytes(content[12:15], "big") * _REFERENCE_US
    arrivals: list[int | None] = []
    end = len(content)
    for status in statuses:
        if status == _MISSING:
            arrivals.append(None)
            continue
        if status == _SMALL and at < end:
            clock += content[at] * _TICK_US
            at += 1
        elif status == _LARGE and at + 2 <= end:
            clock += int.from_bytes(content[at : at + 2], "big", signed=True) * _TICK_US
            at += 2
        else:
            raise ValueError("transport-wide feedback lacks the time of a packet")
        arrivals.append(clock)
    return Feedback(first, arrivals)


def _statuses(content: bytes, count: int) -> tuple[list[int], int]:
    """Returns the status of each packet, and where the times begin."""
    statuses: list[int] = []
    at = 16
    while len(statuses) < count:
        chunk = int.from_bytes(content[at : at + 2], "big")
        at += 2
        if at > len(content):
            raise ValueError("transport-wide feedback lacks the status of a packet")
        if not chunk >> 15:
            length = min(chunk & (1 << _RUN_BITS) - 1, count - len(statuses))
            if not length:
                raise ValueError("transport-wide feedback has a run of no packets")
            statuses += [chunk >> _RUN_BITS & 3] * length
        elif chunk >> 14 & 1:
            statuses += [chunk >> 2 * (_TWO_BIT - 1 - index) & 3 for index in range(_TWO_BIT)]
        else:
            statuses += [chunk >> _ONE_BIT - 1 - index & 1 for index in range(_ONE_BIT)]
    return statuses[:count], at
