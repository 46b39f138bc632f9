"""RTP of a publisher: every packet up to whole frames, and what it is told in return."""

from __future__ import annotations

import asyncio
import struct
from typing import Any, Final

import pylibsrtp
from aiortc.codecs import CODECS, HEADER_EXTENSIONS
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtp import RtcpPacket

from gateway.webrtc.aiortc_adapter.receiving import MAX_FEEDBACK, FrameReceiver
from gateway.webrtc.assembly import CAPACITY, MAX_FRAME_BYTES, AssembledFrame
from gateway.webrtc.ice import Liveness
from gateway.webrtc.reception import MAX_MISSING, h264_part, vp8_part
from gateway.webrtc.rtp import PacketHeader, cut_h264, cut_vp8
from gateway.webrtc.statistics import PeerStatistics
from tests.fuzz.reader import Reader, chunk

KINDS: Final = (97, 98, 99, 100, 101, 102, 111, 72)
"""Payload types: aiortc's for VP8 and H.264 with their retransmissions, and others."""
STREAMS: Final = (1000, 1001, 0, 0xFFFFFFFF)
MOST: Final = 2048
"""Most packets of one input."""
_LOOP: Final = asyncio.new_event_loop()


class Transport:
    """A transport without encryption or network, and the connection below it."""

    def __init__(self) -> None:
        self.liveness = Liveness(0.0)
        self.ssrc_table: dict[int, object] = {}

    @property
    def ice(self) -> Transport:
        """Also the router and the session of SRTP."""
        return self

    _rtp_router = _rx_srtp = ice

    def unprotect(self, data: bytes) -> bytes:
        """Passes what is at least as long as a header, as libsrtp does."""
        if len(data) < 12:
            raise pylibsrtp.Error("too short")
        return data


class Publisher:
    """A receiver, and what came out of it."""

    def __init__(self) -> None:
        self.now = 50.0
        self.frames: list[AssembledFrame] = []
        self.transport = Transport()
        _LOOP.run_until_complete(self._open())

    async def _open(self) -> None:
        receiver: Any = FrameReceiver("video", self.transport, statistics=PeerStatistics())  # type: ignore[arg-type]
        receiver._now = lambda: self.now
        receiver._liveness = self.transport.liveness
        receiver._set_rtcp_ssrc(7)
        receiver.deliver_to(self.frames.append)
        receiver._learn(
            RTCRtpReceiveParameters(
                codecs=CODECS["video"], headerExtensions=HEADER_EXTENSIONS["video"], muxId="0"
            )
        )
        self.receiver = receiver

    def check(self) -> None:
        """Asks what holds at any time."""
        receiver, stream = self.receiver, self.receiver._stream
        assert len(stream.assembler._waiting) <= CAPACITY
        assert stream.assembler._size <= MAX_FRAME_BYTES
        assert len(stream.missing._missing) <= MAX_MISSING
        assert len(receiver._feedback) <= MAX_FEEDBACK
        assert len(self.transport.ssrc_table) <= 1
        for told in receiver._feedback:
            assert RtcpPacket.parse(told)
        if stream.ssrc is not None:
            bytes(receiver._report())
        times = [each.timestamp_us for each in self.frames]
        assert times == sorted(times)
        assert all(0 < len(each.data) <= MAX_FRAME_BYTES for each in self.frames)
        assert not self.frames or self.frames[0].keyframe


def fuzz_one(data: bytes) -> None:
    """Gives a receiver packets of any content, or cuts a frame and puts it together again."""
    reader = Reader(data)
    if reader.number() & 1:
        cut(reader)
        return
    publisher = Publisher()
    sequence, timestamp, ssrc = 65_000, 0xFFFF0000, STREAMS[0]
    for _ in range(MOST):
        if not reader:
            break
        action = reader.number()
        publisher.now += (action & 7) * 0.013
        if action & 8:
            publisher.receiver._received(reader.chunk().ljust(13, b"\0"))
            continue
        if action & 16:
            sequence += reader.signed(2)
            ssrc = reader.choose(STREAMS)
        if action & 32:
            timestamp += reader.signed(4)
        if action & 64:
            publisher.receiver.request_keyframe()
        sequence += 1
        kind = KINDS[reader.number() % len(KINDS)] | (action & 128)
        head = struct.pack("!BBHLL", 0x80, kind, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
        publisher.receiver._received(head + reader.chunk())
        if action & 128:
            timestamp += 3750
    publisher.check()


def cut(reader: Reader) -> None:
    """Cuts a frame into packets, whose payloads give the same frame again."""
    h264, room, mid = reader.number() & 1, 100 + reader.number() * 4, reader.take(20)
    frame = reader.rest() or b"\0"
    header = PacketHeader(
        96, 1, mid=(1, mid.decode("latin-1")), abs_send_time=2, transport_number=3
    )
    payloads = cut_h264(frame, room) if h264 else cut_vp8(frame, room, 5)
    packets = header.packets(payloads, 65_535, 9, 1.0, number=65_535)
    assert all(len(each) <= room + header.size for each in packets)
    if not h264:
        assert b"".join(vp8_part(each, header.size, len(each)) for each in packets) == frame
        return
    units = [unit.rstrip(b"\0") for unit in frame.split(b"\0\0\1")[1:]]
    # Encoders make units of these kinds alone; the others say how a payload is put together.
    if all(len(unit) > 1 and 1 <= unit[0] & 0x1F <= 23 for unit in units):
        joined = b"".join(h264_part(each, header.size, len(each)) for each in packets)
        assert [unit.rstrip(b"\0") for unit in joined.split(b"\0\0\1")[1:]] == units


VP8_KEY: Final = b"\x10" + b"\x10\x02\x00\x9d\x01\x2a" + bytes(10)
VP8_DELTA: Final = b"\x10" + b"\x11\x02\x00" + bytes(10)
SETS: Final = b"\x18\x00\x04\x67sps\x00\x04\x68pps"
IDR: Final = (b"\x7c\x85" + bytes(20), b"\x7c\x45" + bytes(20))
NAL: Final = b"\x00\x00\x00\x01"
_VP8, _VP8_AGAIN, _H264 = 0, 1, 2
_LAST: Final = 128


def packet(payload: bytes, kind: int, *, last: bool = False, action: int = 1) -> bytes:
    """Writes the next packet of a stream, as `fuzz_one` reads it."""
    return bytes([action | (_LAST if last else 0), kind]) + chunk(payload)


def seeds() -> list[bytes]:
    """Returns a few frames of each codec, with losses, repeats, jumps, padding and rubbish."""
    begin = packet(VP8_KEY, _VP8, last=True)
    frame = packet(VP8_DELTA, _VP8) + packet(VP8_DELTA, _VP8, last=True)
    jump = bytes([16 | 1]) + (5).to_bytes(2, "big") + b"\0" + bytes([_VP8]) + chunk(VP8_DELTA)
    change = bytes([16 | 7]) + (9).to_bytes(2, "big") + b"\1" + bytes([_VP8]) + chunk(VP8_KEY)
    late = bytes([32 | 7]) + (2**31 - 1).to_bytes(4, "big") + bytes([_VP8]) + chunk(VP8_DELTA)
    again = packet(b"\xfd\xe9" + VP8_DELTA, _VP8_AGAIN, last=True)
    h264 = packet(SETS, _H264) + packet(IDR[0], _H264) + packet(IDR[1], _H264, last=True)
    raw = bytes([8]) + chunk(struct.pack("!BBHLL", 0x9F, 97, 1, 2, 3) + b"\xbe\xde\x00\x01" * 9)
    padded = bytes([8]) + chunk(struct.pack("!BBHLL", 0xA0, 97, 1, 2, 3) + b"\x10\x10\x00\x02")
    extended = struct.pack("!BBHLL", 0x90, 97 | 128, 1, 2, 1000) + b"\xbe\xde\x00\x01\x12abc"
    descriptor = packet(b"\x90\xf0\x81\x02\x03\x04" + VP8_KEY[1:], _VP8, last=True)
    zero = bytes(1)
    small = NAL + b"\x67sps" + NAL + b"\x68pps" + NAL + b"\x65" + b"i" * 700
    return [
        zero + begin + frame * 4,
        zero + begin + jump + frame + again + frame * 30,
        zero + begin + change + frame + change,
        zero + begin + late + frame + begin,
        zero + h264 * 2 + packet(b"\x61" + bytes(9), _H264, last=True),
        zero + raw + padded + bytes([8]) + chunk(extended + VP8_KEY) + frame,
        zero + descriptor + packet(b"", _VP8) + packet(b"\x7e\x00\x00", 6) + frame,
        zero + bytes([64 | 1, 0, 1, 0]) + begin + bytes([64 | 7, 0, 1, 0]),
        b"\1\1\0" + bytes(20) + small,
        b"\1\1\xff" + b"mid".ljust(20) + small,
        b"\1\0\x10" + bytes(20) + bytes(range(256)) * 8,
    ]
