"""The frame marker survives the encoders that the service uses, at a low bit rate."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext

from model_actor.conformance.runs import moving_source
from model_actor.models.simulated import SimulatedModel
from model_actor.models.simulated.picture import Screen
from sdk_adapters.harness.marker import Marker, read_marker

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
    seen = [read_marker(frame.to_ndarray(format="gray8").astype(np.uint8)) for frame in decoded]
    assert seen == [Marker(1000 + number, 3, 555) for number in range(FRAMES)]
    bits = 8 * sum(packet.size for packet in packets)
    # Or the picture was too easy, and the test would say nothing of 500 kbit/s.
    assert 0.25 * BIT_RATE < bits * 24 / FRAMES < 2 * BIT_RATE
