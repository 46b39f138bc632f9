"""RTP packets out of encoded frames. Pure.

A frame is cut into payloads (RFC 6184 for H.264 in packetization mode 1, RFC 7741 for
VP8) of one length, but for the last, so that the kernel can cut one long datagram into
the packets again (UDP segmentation offload). A `PacketHeader` then makes whole packets
of them: its bytes are prepared once a stream, those that change are filled in.
"""

from __future__ import annotations

import re
from itertools import accumulate
from struct import Struct
from typing import Final

MAX_PACKET: Final = 1200
"""Longest RTP packet: with 16 bytes of SRTP tag, UDP and IPv6 headers and two bytes for a
retransmission it stays below 1280, which every IPv6 path carries whole."""

_START_CODE: Final = re.compile(rb"\x00\x00\x01")
"""As an expression: in bytes without one it is searched twice as fast as by `bytes.split`."""
_STAP_A: Final = 24
_FU_A: Final = 28
_FU_START: Final = 0x80
_FU_END: Final = 0x40
_MAX_AGGREGATED: Final = 9
"""Units in one aggregation packet; a frame begins with three at most."""

_VP8_EXTENDED: Final = 0x80
_VP8_START: Final = 0x10
_VP8_HAS_PICTURE_ID: Final = 0x80
_VP8_LONG_PICTURE_ID: Final = 0x8000

_FIXED: Final = Struct("!BBHLL")
_EXTENDED: Final = 0x90
"""Version 2, with a header extension."""
_PLAIN: Final = 0x80
_MARKER: Final = 0x80
_ABS_SEND_TIME_HZ: Final = 1 << 18
_ONE_BYTE_IDS: Final = 14
_ONE_BYTE_LENGTH: Final = 16
_MAX_EXTENSION: Final = 255


def cut_h264(frame: bytes, room: int, tail: bytes = b"") -> list[bytes]:
    """Cuts a frame of H.264 into RTP payloads.

    Args:
        frame: NAL units in Annex B form: each after a start code.
        room: Longest payload.
        tail: Bytes that follow the last unit.

    Returns:
        The payloads; none if there is no NAL unit.
    """
    units = _START_CODE.split(frame)[1:]
    if not units:
        return []
    # Zeros before a start code are part of it; those at the end belong to the frame.
    units = [*(unit.rstrip(b"\x00") for unit in units[:-1]), units[-1] + tail]
    payloads: list[bytes] = []
    small: list[bytes] = []
    length = 0
    for unit in filter(None, units):
        length += 2 + len(unit)
        if small and (length >= room or len(small) == _MAX_AGGREGATED):
            payloads.append(_aggregated(small))
            small, length = [], 2 + len(unit)
        if len(unit) > room:
            payloads += _fragmented(unit, room)
            length = 0
        else:
            small.append(unit)
    if small:
        payloads.append(_aggregated(small))
    return payloads


def cut_vp8(frame: bytes, room: int, picture_id: int, tail: bytes = b"") -> list[bytes]:
    """Cuts a frame of VP8 into RTP payloads.

    Args:
        frame: The frame.
        room: Longest payload.
        picture_id: Number of the frame, 15 bits.
        tail: Bytes that follow the frame.
    """
    frame += tail
    number = (_VP8_LONG_PICTURE_ID | picture_id).to_bytes(2, "big")
    first = bytes((_VP8_EXTENDED | _VP8_START, _VP8_HAS_PICTURE_ID)) + number
    other = bytes((_VP8_EXTENDED, _VP8_HAS_PICTURE_ID)) + number
    size = _even_share(len(frame), room - len(first))
    payloads = [first + frame[:size]]
    payloads += [other + frame[at : at + size] for at in range(size, len(frame), size)]
    return payloads


class PacketHeader:
    """The header of the packets of one stream: RFC 3550 with extensions of RFC 8285.

    Written are the extensions that were negotiated: which section of the SDP the stream
    belongs to (`mid`, RFC 8843), when the packet left (`abs-send-time`), from which the far
    end estimates its network, and the packet's number among all of the transport, by which
    it tells how each of them arrived (`gateway.webrtc.feedback`).
    """

    def __init__(
        self,
        payload_type: int,
        ssrc: int,
        *,
        mid: tuple[int, str] | None = None,
        abs_send_time: int | None = None,
        transport_number: int | None = None,
    ) -> None:
        """Prepares the bytes that stay.

        Args:
            payload_type: Payload type of the packets.
            ssrc: The stream.
            mid: Id of the extension and its value.
            abs_send_time: Id of the extension.
            transport_number: Id of the extension.
        """
        self._payload_type = payload_type
        self._ssrc = ssrc
        extensions = [] if mid is None else [(mid[0], mid[1].encode())]
        if abs_send_time is not None:
            extensions.append((abs_send_time, bytes(3)))
        if transport_number is not None:
            extensions.append((transport_number, bytes(2)))
        self._first, block, ends = _extension_block(
            [each for each in extensions if len(each[1]) <= _MAX_EXTENSION]
        )
        self.size = _FIXED.size + len(block)
        """Bytes of a header."""
        numbered = transport_number is not None
        self._number = Struct(f"!H{len(block) - ends[-1]}x").pack if numbered else None
        if numbered:
            block = block[: ends[-1] - 2]
        timed_to = len(block) if abs_send_time is None else ends[-2 if numbered else -1]
        self._timed = abs_send_time is not None
        self._before = block[: timed_to - 3] if self._timed else block
        self._after = block[timed_to:]

    def packets(
        self,
        payloads: list[bytes],
        sequence: int,
        timestamp: int,
        now: float,
        *,
        ends: bool = True,
        number: int = 0,
    ) -> list[bytes]:
        """Returns the packets of a frame, or of a part of it.

        Args:
            payloads: What each carries.
            sequence: Sequence number of the first.
            timestamp: RTP timestamp of the frame.
            now: Wall time at which they leave, in seconds.
            ends: Whether the last of them is the last of the frame.
            number: Number of the first among all packets of the transport.
        """
        first, kind, ssrc = self._first, self._payload_type, self._ssrc
        extensions = self._extensions(now)
        fixed, numbered = _FIXED.pack, self._number
        packets: list[bytes] = []
        for payload in payloads:
            last = ends and len(packets) == len(payloads) - 1
            head = fixed(first, kind | _MARKER if last else kind, sequence, timestamp, ssrc)
            sequence = sequence + 1 & 0xFFFF
            if numbered is None:
                packets.append(head + extensions + payload)
            else:
                packets.append(head + extensions + numbered(number & 0xFFFF) + payload)
                number += 1
        return packets

    def retransmission(
        self, packet: bytes, original: PacketHeader, sequence: int, now: float, number: int = 0
    ) -> bytes:
        """Wraps a packet of another stream into one of this stream (RFC 4588).

        Args:
            packet: The packet as it was first sent.
            original: The header it was made with.
            sequence: Sequence number in this stream.
            now: Wall time at which it leaves, in seconds.
            number: Its number among all packets of the transport.
        """
        kind = self._payload_type | packet[1] & _MARKER
        timestamp = int.from_bytes(packet[4:8], "big")
        head = _FIXED.pack(self._first, kind, sequence, timestamp, self._ssrc)
        if self._number is not None:
            head += self._extensions(now) + self._number(number & 0xFFFF)
        else:
            head += self._extensions(now)
        return head + packet[2:4] + packet[original.size :]

    def _extensions(self, now: float) -> bytes:
        """Returns the extensions, but for the number, which is the last of them."""
        if not self._timed:
            return self._before + self._after
        sent = int(now * _ABS_SEND_TIME_HZ) & 0xFFFFFF
        return self._before + sent.to_bytes(3, "big") + self._after


def sequence_of(packet: bytes) -> int:
    """Returns the sequence number of a packet."""
    return packet[2] << 8 | packet[3]


def _extension_block(extensions: list[tuple[int, bytes]]) -> tuple[int, bytes, list[int]]:
    """Returns the first byte of the header, the extensions, and where each of them ends."""
    if not extensions:
        return _PLAIN, b"", []
    short = all(
        number <= _ONE_BYTE_IDS and 1 <= len(value) <= _ONE_BYTE_LENGTH
        for number, value in extensions
    )
    if short:
        parts = [bytes([number << 4 | len(value) - 1]) + value for number, value in extensions]
    else:
        parts = [bytes([number, len(value)]) + value for number, value in extensions]
    block = b"".join(parts)
    block += bytes(-len(block) % 4)
    profile = b"\xbe\xde" if short else b"\x10\x00"
    ends = list(accumulate(map(len, parts), initial=4))[1:]
    return _EXTENDED, profile + (len(block) // 4).to_bytes(2, "big") + block, ends


def _even_share(length: int, room: int) -> int:
    """Returns the size of pieces that are as many as needed, and as long as each other."""
    count = max(1, -(-length // room))
    return max(1, -(-length // count))


def _fragmented(unit: bytes, room: int) -> list[bytes]:
    """Cuts a NAL unit into fragmentation units (FU-A)."""
    indicator, kind = unit[0] & 0xE0 | _FU_A, unit[0] & 0x1F
    size = _even_share(len(unit) - 1, room - 2)
    middle = bytes((indicator, kind))
    starts = range(1, len(unit), size)
    last = starts[-1]
    return [
        bytes((indicator, kind | _FU_START)) + unit[1 : 1 + size],
        *(middle + unit[at : at + size] for at in starts[1:-1]),
        bytes((indicator, kind | _FU_END)) + unit[last:],
    ]


def _aggregated(units: list[bytes]) -> bytes:
    """Puts small NAL units into one payload (STAP-A); a lone one is its own payload."""
    if len(units) == 1:
        return units[0]
    forbidden = max(unit[0] & 0x80 for unit in units)
    importance = max(unit[0] & 0x60 for unit in units)
    parts = [bytes([forbidden | importance | _STAP_A])]
    for unit in units:
        parts += (len(unit).to_bytes(2, "big"), unit)
    return b"".join(parts)
