"""The public contract over real parts: storage, WebRTC transport, client, viewer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import sana_gateway as sg
from gateway.ports import EncodedFrame
from gateway.uploads import StoredUploads
from gateway.webrtc.peer import AiortcPeers
from model_actor.models.simulated.marker import session_tag, write_marker
from sana_gateway.v1 import media_pb2
from scheduler.process.storage import FilesystemStorage
from sdk_adapters.harness import viewer
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services
from tests.fakes.session import FakeSubscription

pytestmark = pytest.mark.integration

WIDTH, HEIGHT = 320, 176


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def peers() -> AsyncIterator[AiortcPeers]:
    made = AiortcPeers()
    yield made
    await made.close()


@pytest.fixture
async def uploads(tmp_path: Path) -> AsyncIterator[StoredUploads]:
    store = FilesystemStorage(tmp_path / "storage")
    yield StoredUploads(store, max_upload_bytes=8 << 20, upload_session_bytes=16 << 20)
    await store.close()


@pytest.fixture
async def address(hub: FakeHub, peers: AiortcPeers, uploads: StoredUploads) -> AsyncIterator[str]:
    services = replace(fake_services(hub, uploads=uploads), peers=peers)
    async with grpc_gateway(services) as address:
        yield address


async def test_a_clip_lands_in_the_storage_and_goes_with_its_session(
    hub: FakeHub, address: str, uploads: StoredUploads, tmp_path: Path
) -> None:
    content = np.random.default_rng(1).bytes(3 << 20)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(content)
    async with sg.Client(address) as client:
        session = await client.create_session("painter")
        file = await session.upload(clip)
        stored = tmp_path / "storage" / session.session_id / file.upload_id
        assert stored.read_bytes() == content
        await session.set_video(file)
        with pytest.raises(sg.LimitError):
            await session.upload(b"x" * ((8 << 20) + 1))
        uploads.forget(session.session_id)
        await uploads.close()
        assert not stored.exists()
        await session.close()
    assert hub.session.end_reason is not None


def marked(session_id: str) -> Any:
    """Encodes pictures of a session for ever, each with the packets it makes."""
    codec: Any = av.CodecContext.create("libvpx", "w")
    codec.width, codec.height, codec.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    codec.time_base, codec.bit_rate = Fraction(1, 24), 500_000
    codec.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    number = 0
    while True:
        plane = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        write_marker(plane[:HEIGHT], number, 1, session_tag(session_id))
        picture = av.VideoFrame.from_ndarray(plane, format="yuv420p")
        picture.pts = number
        if number % 12 == 0:
            picture.pict_type = av.video.frame.PictureType.I
        for packet in codec.encode(picture):
            yield EncodedFrame(
                data=bytes(packet),
                keyframe=packet.is_keyframe,
                codec=media_pb2.CODEC_VP8,
                timestamp_us=number * 1_000_000 // 24,
                run=1,
                chunk=0,
                frame=number,
                source_us=0,
            )
        number += 1


async def test_the_viewer_reads_the_markers_over_webrtc(hub: FakeHub, address: str) -> None:
    session = await hub.create(fake_services(hub).auth.authenticate(None), "painter")
    session.codecs = (media_pb2.CODEC_VP8,)
    words = ("--address", address, "--session", session.session_id, "--wire", "webrtc")
    options = viewer.parse((*words, "--codec", "vp8", "--decode", "--seconds", "60"))
    viewing = asyncio.create_task(viewer.view(options))

    def subscriptions() -> list[FakeSubscription]:
        return [each for made in session.connections for each in made.subscriptions]

    subscription = (await hub.until(subscriptions, 20.0))[0]
    for frame in marked(session.session_id):
        if viewing.done() or frame.frame >= 72:
            break
        subscription.viewer.frame(frame)
        await asyncio.sleep(1 / 24)  # the pace of a live stream
    session.end("over")
    report = await viewing
    counts = report.counts
    assert counts["frames_shown"] >= 24
    assert (counts["frames_lost"], counts["frames_repeated"]) == (0, 0)
    assert counts["pictures_read"] >= 24
    assert counts.get("pictures_wrong", 0) == counts.get("pictures_unreadable", 0) == 0
