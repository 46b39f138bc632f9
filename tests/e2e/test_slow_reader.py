"""A viewer that does not read costs nobody else a frame."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest

from sana_gateway import Client, VideoFrame
from sana_gateway.v1 import media_pb2, session_pb2_grpc
from tests.e2e.driving import H264, Told, stage, watching
from tests.media.clips import Recipe, make
from tests.stack import Stack

pytestmark = pytest.mark.e2e

SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
"""A client that takes 64 KiB before it reads."""


async def test_a_viewer_that_does_not_read_stops_nobody_and_goes_on_at_a_keyframe(
    full_size: Stack, tmp_path: Path
) -> None:
    async with (
        grpc.aio.insecure_channel(full_size.grpc_address, options=SMALL_WINDOW) as channel,
        Client(full_size.grpc_address) as client,
        await client.create_session("simulated") as session,
    ):
        told = Told(session)
        await stage(session, make(tmp_path / "clip.mp4", Recipe(frames=105)))
        stub: Any = session_pb2_grpc.SessionServiceStub(channel)
        slow = stub.Media()
        start = media_pb2.MediaStart(session_id=session.session_id, watch=True, watch_codec=H264)
        await slow.write(media_pb2.MediaRequest(start=start))
        assert (await slow.read()).WhichOneof("response") == "started"
        async with watching(client, session) as screen:
            await session.start()
            await told.until_told("generation_complete")
            await screen.until(lambda: 104 in screen.numbers())
            assert screen.numbers() == list(range(105))
        got = [await read_frame(slow)]
        while got[-1].frame != 104:
            got.append(await read_frame(slow))
        slow.cancel()
    numbers = [frame.frame for frame in got]
    assert numbers == sorted(set(numbers))
    assert len(got) < 105, "it did fall behind"
    for earlier, later in pairwise(got):
        assert later.keyframe or later.frame == earlier.frame + 1


async def read_frame(call: Any) -> VideoFrame:
    """Returns the next picture: what only mends one that holds is none."""
    while True:
        response = await call.read()
        frame: VideoFrame = response.video
        if response.WhichOneof("response") == "video" and (frame.keyframe or not frame.held):
            return frame
