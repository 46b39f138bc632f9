"""The picture that holds, for a session whose last frame was made elsewhere.

Nothing of a session's pictures is kept; but a gateway has what it sent its viewers last. From
that an actor that takes the session up can show the picture again: to who joins in another
codec, or has lost it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

import av
import structlog

from model_actor.engine.store import FinishedFrame
from model_actor.plugin import ModelInfo
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2

log = structlog.get_logger(__name__)

_DECODERS = {media_pb2.CODEC_H264: "h264", media_pb2.CODEC_VP8: "vp8"}


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
