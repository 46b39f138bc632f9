"""The picture that holds, for a session whose last frame was made elsewhere.

A gateway has what it sent its viewers last. From that an actor that takes the session up can
show the picture again: to who joins in another codec, or has lost it. Where nobody watched, or
that gateway is gone, there is the picture that is kept with a session that was parked or copied.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

import av
import numpy as np
import structlog
from google.protobuf.message import DecodeError

from model_actor.engine.store import FinishedFrame
from model_actor.media.encoder import Codec, EncoderSettings, VideoEncoder
from model_actor.plugin import ModelInfo
from model_actor.snapshots.kept import PICTURE_BYTES
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2

log = structlog.get_logger(__name__)

MENDING = 3
"""Frames of the same picture that follow the keyframe: alone it is coarse."""
_DECODERS = {media_pb2.CODEC_H264: "h264", media_pb2.CODEC_VP8: "vp8"}


async def to_be_kept(info: ModelInfo, picture: FinishedFrame, bitrate: int) -> bytes:
    """Returns a picture as it is kept: a keyframe, and what mends it."""
    held = await asyncio.to_thread(_encoded, info, picture, bitrate)
    while held.ByteSize() > PICTURE_BYTES and held.packets:
        del held.packets[-1]
    return held.SerializeToString() if held.packets else b""


async def kept_picture(info: ModelInfo, kept: bytes) -> FinishedFrame | None:
    """Returns a picture that was kept; None: it is none."""
    try:
        held = stream_pb2.HeldPicture.FromString(kept)
    except DecodeError:
        return None
    return await held_picture(info, [stream_pb2.Restore(held=held)])


def _encoded(info: ModelInfo, picture: FinishedFrame, bitrate: int) -> stream_pb2.HeldPicture:
    settings = EncoderSettings(Codec.H264, info.width, info.height, info.frame_rate, bitrate)
    encoder = VideoEncoder(settings)
    image = np.ascontiguousarray(picture.image)
    try:
        packets = [encoder.encode(image, keyframe=n == 0).data for n in range(1 + MENDING)]
    finally:
        encoder.close()
    return stream_pb2.HeldPicture(
        codec=media_pb2.CODEC_H264,
        run=picture.run,
        chunk=picture.chunk,
        frame=picture.frame,
        packets=packets,
    )


async def held_picture(
    info: ModelInfo, offers: Iterable[stream_pb2.Restore | None]
) -> FinishedFrame | None:
    """Returns the latest picture that a gateway brings, at the model's size; None: there is none.

    Args:
        info: The model's geometry.
        offers: What gateways bring.
    """
    brought = [each.held for each in offers if each is not None and each.HasField("held")]
    for held in sorted(brought, key=lambda each: (each.run, each.frame), reverse=True):
        try:
            return await asyncio.to_thread(_decoded, info, held)
        except (av.FFmpegError, ValueError) as error:  # a joiner then waits for the next frame
            log.warning("held_picture.damaged", error=type(error).__name__)
    return None


def _decoded(info: ModelInfo, held: stream_pb2.HeldPicture) -> FinishedFrame:
    """Decodes a picture.

    Raises:
        av.FFmpegError: It is damaged.
        ValueError: It is nothing that can be decoded.
    """
    decoder: Any = av.CodecContext.create(_DECODERS.get(held.codec, ""), "r")
    packets = (*(av.Packet(data) for data in held.packets), None)
    last = deque((each for packet in packets for each in decoder.decode(packet)), maxlen=1)
    if not last:
        raise ValueError("no picture comes of it")
    image = last[0].reformat(info.width, info.height, format="yuv420p").to_ndarray()
    return FinishedFrame(held.run, held.chunk, held.frame, image, source_us=0)
