"""The parts of aiortc that we replace. What they do together: tests/integration."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import aiortc
import pytest
from aiortc import rtcrtpsender
from aiortc.codecs import h264_depayload, vp8_depayload
from aiortc.mediastreams import MediaStreamError

from gateway.ports import EncodedFrame
from gateway.webrtc import aiortc_adapter
from gateway.webrtc.frame_metadata import trailer
from sana_gateway.v1 import media_pb2
from scheduler.core.errors import ConfigurationError, InvariantError

pytestmark = pytest.mark.unit

START = b"\x00\x00\x00\x01"
H264_FRAME = b"".join(START + unit for unit in (b"\x67sps", b"\x68pps", b"\x65" + b"i" * 4000))
FRAME = EncodedFrame(
    data=H264_FRAME,
    keyframe=True,
    codec=media_pb2.CODEC_H264,
    timestamp_us=1_000_000,
    run=2,
    chunk=0,
    frame=24,
    source_us=5,
)


class Feedback:
    """Records what the far end says."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def started(self) -> None:
        self.heard.append("started")

    def sent(self, octets: int) -> None:
        self.heard.append(octets)

    def keyframe_needed(self) -> None:
        self.heard.append("keyframe")

    def estimated(self, bits_per_second: int) -> None:
        self.heard.append(("estimate", bits_per_second))


def packetizer(
    codec: media_pb2.Codec.ValueType, feedback: Feedback, *, frame_metadata: bool = False
) -> aiortc_adapter._Packetizer:
    return aiortc_adapter._Packetizer(codec, feedback.estimated, frame_metadata=frame_metadata)


def test_the_installed_aiortc_is_known_and_remembers_more_packets() -> None:
    aiortc_adapter.require_supported()
    assert rtcrtpsender.RTP_HISTORY_SIZE == aiortc_adapter.RTP_HISTORY >= 512


@pytest.mark.parametrize("version", ["1.15.0", "1.17.0", "2.0.0"])
def test_another_aiortc_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiortc, "__version__", version)
    with pytest.raises(ConfigurationError, match=version):
        aiortc_adapter.require_supported()


@pytest.mark.parametrize(
    ("owner", "name"),
    [(owner, name) for owner, names in aiortc_adapter._USED for name in names],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_an_aiortc_without_a_part_that_we_use_is_refused(
    owner: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(owner, name)
    with pytest.raises(ConfigurationError):
        aiortc_adapter.require_supported()


def test_a_part_that_is_not_there_cannot_be_replaced() -> None:
    with pytest.raises(ConfigurationError, match="no_such_part"):
        aiortc_adapter._replace(Feedback(), "no_such_part", 1)


def test_h264_is_cut_into_packets_that_give_the_frame_back() -> None:
    payloads, timestamp = packetizer(media_pb2.CODEC_H264, Feedback()).pack(FRAME)
    assert b"".join(h264_depayload(payload) for payload in payloads) == H264_FRAME
    assert max(map(len, payloads)) <= 1300
    assert timestamp == 90_000


def test_vp8_is_cut_into_packets_that_give_the_frame_back() -> None:
    frame = replace(FRAME, codec=media_pb2.CODEC_VP8, data=bytes(range(256)) * 20)
    packing = packetizer(media_pb2.CODEC_VP8, Feedback())
    payloads, _ = packing.pack(frame)
    assert b"".join(vp8_depayload(payload) for payload in payloads) == frame.data
    (again, *_), _ = packing.pack(frame)
    assert payloads[0] != again, "the picture id counts"


@pytest.mark.parametrize("codec", [media_pb2.CODEC_H264, media_pb2.CODEC_VP8])
def test_frame_metadata_follows_the_payload(codec: media_pb2.Codec.ValueType) -> None:
    payloads, _ = packetizer(codec, Feedback(), frame_metadata=True).pack(FRAME)
    depayload = h264_depayload if codec == media_pb2.CODEC_H264 else vp8_depayload
    whole = b"".join(depayload(payload) for payload in payloads)
    assert whole == H264_FRAME + trailer(2, 24, 5)


@pytest.mark.parametrize(("time_us", "ticks"), [(0, 0), (41_667, 3750), (10**12, 9 * 10**10)])
def test_timestamps_are_rounded_to_the_rtp_clock(time_us: int, ticks: int) -> None:
    frame = replace(FRAME, timestamp_us=time_us)
    assert packetizer(media_pb2.CODEC_H264, Feedback()).pack(frame)[1] == ticks


def test_the_far_ends_estimate_is_heard() -> None:
    feedback = Feedback()
    packetizer(media_pb2.CODEC_H264, feedback).target_bitrate = 1_234_567
    assert feedback.heard == [("estimate", 1_234_567)]


def test_nothing_is_encoded() -> None:
    with pytest.raises(InvariantError):
        packetizer(media_pb2.CODEC_H264, Feedback()).encode(object())


async def test_a_source_drops_frames_until_it_is_read_and_hands_out_from_a_keyframe() -> None:
    feedback = Feedback()
    source = aiortc_adapter.FrameSource(feedback)
    source.frame(FRAME)
    reading = asyncio.ensure_future(source.recv())
    await asyncio.sleep(0)
    assert feedback.heard == ["started"]
    source.frame(replace(FRAME, keyframe=False))
    assert feedback.heard == ["started", "keyframe"]
    later = replace(FRAME, frame=25)
    source.frame(later)
    assert await reading is later
    assert feedback.heard[2:] == [len(later.data)]


async def test_a_stopped_source_ends() -> None:
    source = aiortc_adapter.FrameSource(Feedback())
    source.stop()
    with pytest.raises(MediaStreamError):
        await source.recv()


async def test_datagrams_that_wait_are_bounded_and_empty_ones_dropped() -> None:
    queue = aiortc_adapter._DatagramQueue()
    queue.put_nowait((b"", 1))
    assert queue.empty()
    for _ in range(aiortc_adapter.MAX_DATAGRAMS + 5):
        queue.put_nowait((b"x", 1))
    assert queue.qsize() == aiortc_adapter.MAX_DATAGRAMS
    queue.put_nowait(None)
    assert queue.qsize() == aiortc_adapter.MAX_DATAGRAMS + 1, "the end always gets through"


async def test_an_exception_over_a_packet_is_contained_but_a_cancellation_is_not() -> None:
    raised: list[type[BaseException]] = [ValueError, ZeroDivisionError, asyncio.CancelledError]

    async def handle(*_: object, **__: object) -> None:
        raise raised.pop(0)

    contained = aiortc_adapter._contained(handle)
    await contained(b"packet")
    await contained(b"packet", arrival_time_ms=1)
    with pytest.raises(asyncio.CancelledError):
        await contained(b"packet")
