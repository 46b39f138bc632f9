"""The canned loop, judged by the decoders that viewers have."""

from __future__ import annotations

import random
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from aiortc import RTCRtpCodecParameters
from aiortc.codecs import depayload, get_decoder
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.jitterbuffer import JitterFrame

from model_actor.media.codec import Codec, is_keyframe
from model_actor.media.encoder import EncoderSettings, VideoEncoder
from model_actor.models.simulated import SimulatedModel, marker
from model_actor.models.simulated.canned import Reel
from scheduler.core.errors import InvariantError
from sdk_adapters.harness.marker import CANNED_FRAMES, Marker, read_marker

pytestmark = pytest.mark.media

INFO = SimulatedModel.info
DECODERS = [(Codec.H264, "h264"), (Codec.VP8, "vp8"), (Codec.VP8, "libvpx")]
RATES = [1_500_000, 2_500_000, 4_000_000]
"""What gateways ask for, in bits per second."""


@pytest.fixture(scope="module")
def reel() -> Reel:
    return Reel(INFO)


def granted(bitrate: int) -> int:
    return round(bitrate / 8 / INFO.frame_rate)


def decoded(decoder: Any, data: bytes) -> list[npt.NDArray[np.uint8]]:
    return [picture.to_ndarray(format="gray8") for picture in decoder.decode(av.Packet(data))]


def markers(decoder: Any, data: bytes) -> list[Marker | None]:
    return [read_marker(luma) for luma in decoded(decoder, data)]


@pytest.mark.parametrize("size", [0, granted(2_500_000)])
@pytest.mark.parametrize(("codec", "decoder"), DECODERS)
def test_every_packet_is_one_marked_picture_in_whatever_order_they_come(
    reel: Reel, codec: Codec, decoder: str, size: int
) -> None:
    order = random.Random(3).sample(range(1200), 240)
    context = av.CodecContext.create(decoder, "r")
    packets = [reel.packet(codec, frame, size) for frame in order]
    assert all(is_keyframe(codec, packet) for packet in packets)
    seen = [markers(context, packet) for packet in packets]
    assert seen == [[Marker(frame % CANNED_FRAMES, 0, 0)] for frame in order]


@pytest.mark.parametrize(("codec", "decoder"), DECODERS)
def test_padding_changes_no_pixel(reel: Reel, codec: Codec, decoder: str) -> None:
    pictures = []
    for size in (0, *map(granted, RATES)):
        context = av.CodecContext.create(decoder, "r")
        pictures += decoded(context, reel.packet(codec, 17, size))
    assert len(pictures) == 1 + len(RATES)
    for padded in pictures[1:]:
        np.testing.assert_array_equal(padded, pictures[0])


@pytest.mark.parametrize("bitrate", RATES)
@pytest.mark.parametrize("codec", list(Codec))
def test_a_packet_has_the_size_that_the_bitrate_grants(
    reel: Reel, codec: Codec, bitrate: int
) -> None:
    sizes = {len(reel.packet(codec, frame, granted(bitrate))) for frame in range(CANNED_FRAMES)}
    assert sizes == {granted(bitrate)}


@pytest.mark.parametrize("codec", list(Codec))
def test_a_few_bytes_of_room_do_no_harm(reel: Reel, codec: Codec) -> None:
    bare = reel.packet(codec, 5, 0)
    context = av.CodecContext.create(codec.value, "r")
    for room in range(-3, 12):
        packet = reel.packet(codec, 5, len(bare) + room)
        assert packet.startswith(bare)
        assert max(0, room) - len(packet) + len(bare) in range(5)
        assert markers(context, packet) == [Marker(5, 0, 0)]


@pytest.mark.parametrize("codec", list(Codec))
def test_the_loop_starts_again_after_240_frames(reel: Reel, codec: Codec) -> None:
    loop = [reel.packet(codec, frame, 0) for frame in range(2 * CANNED_FRAMES)]
    assert loop[:CANNED_FRAMES] == loop[CANNED_FRAMES:]
    assert len(set(loop)) == CANNED_FRAMES


@pytest.mark.parametrize("bitrate", RATES)
@pytest.mark.parametrize("codec", list(Codec))
def test_packets_survive_rtp_and_the_decoders_of_aiortc(
    reel: Reel, codec: Codec, bitrate: int
) -> None:
    parameters = RTCRtpCodecParameters(
        mimeType="video/H264" if codec is Codec.H264 else "video/VP8",
        clockRate=90_000,
        payloadType=97,
    )
    decoder = get_decoder(parameters)
    for frame in range(228, 252):
        packet = reel.packet(codec, frame, granted(bitrate))
        payloads = (
            H264Encoder._packetize(H264Encoder._split_bitstream(packet))
            if codec is Codec.H264
            else Vp8Encoder._packetize(packet, frame)
        )
        assert max(map(len, payloads)) <= 1300
        received = b"".join(depayload(parameters, payload) for payload in payloads)
        (picture,) = decoder.decode(JitterFrame(received, frame * 3750))
        assert isinstance(picture, av.VideoFrame)
        luma = picture.to_ndarray(format="gray8").astype(np.uint8)
        assert read_marker(luma) == Marker(frame % CANNED_FRAMES, 0, 0)


def test_viewers_negotiate_the_same_h264_as_with_the_real_encoder(reel: Reel) -> None:
    settings = EncoderSettings(Codec.H264, INFO.width, INFO.height, INFO.frame_rate, 2_500_000)
    picture = np.full((INFO.height * 3 // 2, INFO.width), 90, np.uint8)
    packets = [VideoEncoder(settings).encode(picture).data, reel.packet(Codec.H264, 0, 0)]
    profiles = [packet[at + 4 : at + 7] for packet in packets if (at := packet.find(b"\0\0\1\x67"))]
    assert profiles[0] == profiles[1]


def test_the_loop_takes_little_memory_and_its_pictures_none(reel: Reel) -> None:
    assert reel.size_bytes < 4_000_000
    pictures = reel.pictures((33, INFO.height * 3 // 2, INFO.width))
    assert pictures.strides[0] == 0
    assert pictures[7].flags.c_contiguous
    assert not pictures.flags.writeable
    with pytest.raises(InvariantError):
        reel.pictures((33, INFO.height, INFO.width))


def test_the_two_sides_agree_on_what_canned_pictures_say() -> None:
    assert CANNED_FRAMES == marker.CANNED_FRAMES
    assert Marker(239, marker.CANNED_RUN, marker.CANNED_TAG).canned
    assert not Marker(240, 0, 0).canned
    assert not Marker(7, 1, 0).canned
    assert not Marker(7, 0, 1).canned
