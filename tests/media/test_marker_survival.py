"""The frame marker survives the encoders that the service uses, at a low bit rate."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext

from model_actor.conformance.runs import moving_source
from model_actor.models.simulated import SimulatedModel
from model_actor.models.simulated.marker import SourceReader
from model_actor.models.simulated.picture import Screen
from scheduler.scenario.load import Camera, Clip
from sdk_adapters.harness.generator import source as sources
from sdk_adapters.harness.marker import Marker, Origin, prompt_tag, read_origin, write_source

pytestmark = pytest.mark.media

WIDTH, HEIGHT = 1280, 704
BIT_RATE = 500_000
FRAMES = 33
ENCODERS = {
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency"}),
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
}


def encoder(codec: str, size: tuple[int, int]) -> VideoCodecContext:
    name, options = ENCODERS[codec]
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.time_base, context.framerate = Fraction(1, 24), Fraction(24)
    context.bit_rate = BIT_RATE
    context.options = options
    return context


@pytest.mark.parametrize("codec", ENCODERS)
@pytest.mark.parametrize("size", [(1280, 704), (640, 352)])
def test_every_marker_is_read_after_encoding(codec: str, size: tuple[int, int]) -> None:
    source = moving_source(SimulatedModel.info, 0, FRAMES)
    for number, picture in enumerate(source):
        write_source(picture[:HEIGHT], number + 100)
    pictures = Screen(WIDTH, HEIGHT).draw(source, 1000, 3, 555, "a prompt")
    context = encoder(codec, size)
    packets = []
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame = frame.reformat(width=size[0], height=size[1])
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    seen = [read_origin(frame.to_ndarray(format="gray8").astype(np.uint8)) for frame in decoded]
    shown = prompt_tag("a prompt")
    assert seen == [
        (Marker(1000 + number, 3, 555), Origin(shown, 100 + number)) for number in range(FRAMES)
    ]
    bits = 8 * sum(packet.size for packet in packets)
    # Or the picture was too easy, and the test would say nothing of 500 kbit/s.
    assert 0.25 * BIT_RATE < bits * 24 / FRAMES < 2 * BIT_RATE


@pytest.mark.parametrize("codec", ENCODERS)
@pytest.mark.parametrize("size", [(1280, 704), (160, 88)])
def test_the_model_reads_what_a_camera_is_marked_with(codec: str, size: tuple[int, int]) -> None:
    reel = sources.reel(codec, Camera(width=320, height=176), seconds=3.0)
    assert reel.keyframes == (0, 24, 48)
    assert [reel.keyframe_from(number) for number in (0, 1, 24, 49)] == [0, 24, 24, 0]
    numbers = _numbers(codec, reel.frames, size)
    assert numbers == list(range(72))
    # From a keyframe on the loop can be entered anywhere.
    assert _numbers(codec, reel.frames[24:] + reel.frames, size)[:49] == [*range(24, 72), 0]


def test_the_model_reads_what_a_clip_is_marked_with() -> None:
    with av.open(io.BytesIO(sources.clip(Clip(seconds=2.0, width=160, height=88)))) as file:
        pictures = [picture.to_ndarray() for picture in file.decode(video=0)]
    reader = SourceReader(160, 88)
    assert [reader.read(picture[:88]) for picture in pictures] == list(range(48))


def _numbers(codec: str, packets: tuple[bytes, ...], size: tuple[int, int]) -> list[int]:
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    reader = SourceReader(*size)
    return [
        reader.read(picture.reformat(*size, "yuv420p").to_ndarray()[: size[1]])
        for packet in packets
        for picture in decoder.decode(av.Packet(packet))
    ]
