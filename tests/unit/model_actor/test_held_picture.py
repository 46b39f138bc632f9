"""The picture that a gateway brings of a session whose last frame was made elsewhere."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from model_actor.engine.held_picture import held_picture
from model_actor.models.simulated.model import SimulatedModel
from model_actor.plugin import ModelInfo
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2
from tests.media.clips import Recipe, number_of, numbered, picture

pytestmark = pytest.mark.unit

WIDTH, HEIGHT = 320, 192
CODECS = {
    media_pb2.CODEC_H264: ("libx264", {"preset": "ultrafast", "tune": "zerolatency"}),
    media_pb2.CODEC_VP8: ("libvpx", {"deadline": "realtime", "lag-in-frames": "0"}),
}


@pytest.fixture
def info() -> ModelInfo:
    return replace(SimulatedModel.info, width=WIDTH, height=HEIGHT)


def brought(
    number: int,
    codec: media_pb2.Codec.ValueType = media_pb2.CODEC_H264,
    *,
    run: int = 1,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> stream_pb2.Restore:
    """What a gateway brings that showed a picture with a number: a keyframe, and two after it."""
    width, height = size
    name, options = CODECS[codec]
    context: Any = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = Fraction(1, 24)
    context.options = options
    image = picture(numbered(number, width, height), Recipe(width=width, height=height))
    packets = []
    for pts in range(3):
        image.pts = pts
        packets += [bytes(packet) for packet in context.encode(image)]
    held = stream_pb2.HeldPicture(codec=codec, run=run, chunk=3, frame=number, packets=packets)
    return stream_pb2.Restore(held=held)


@pytest.mark.parametrize("codec", CODECS)
async def test_it_is_what_viewers_saw(info: ModelInfo, codec: media_pb2.Codec.ValueType) -> None:
    found = await held_picture(info, [None, brought(77, codec)])
    assert found is not None
    assert (found.run, found.chunk, found.frame) == (1, 3, 77)
    assert (found.image.shape, found.image.dtype) == ((HEIGHT * 3 // 2, WIDTH), np.uint8)
    assert number_of(found.image) == 77


async def test_a_small_one_is_brought_to_the_models_size(info: ModelInfo) -> None:
    found = await held_picture(info, [brought(42, size=(WIDTH // 2, HEIGHT // 2))])
    assert found is not None
    assert found.image.shape == (HEIGHT * 3 // 2, WIDTH)
    assert number_of(found.image) == 42


async def test_of_several_gateways_the_latest_counts(info: ModelInfo) -> None:
    found = await held_picture(info, [brought(80), brought(5, run=2), brought(79)])
    assert found is not None
    assert (found.run, found.frame) == (2, 5)


async def test_a_damaged_one_is_left_out(info: ModelInfo) -> None:
    torn, unknown = brought(9, run=3), brought(8, run=2)
    torn.held.packets[:] = [b"nothing"]
    unknown.held.codec = media_pb2.CODEC_UNSPECIFIED
    found = await held_picture(info, [torn, unknown, brought(7)])
    assert found is not None
    assert found.frame == 7


async def test_without_any_there_is_none(info: ModelInfo) -> None:
    assert await held_picture(info, [None, stream_pb2.Restore()]) is None
