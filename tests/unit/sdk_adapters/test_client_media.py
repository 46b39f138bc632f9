"""Media through the client library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import sana_gateway as sg
from gateway.ports import CameraFrame, EncodedFrame
from sana_gateway.v1 import media_pb2
from tests.fakes.grpc_gateway import grpc_gateway, settled
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services
from tests.fakes.session import FakeSubscription

pytestmark = pytest.mark.unit


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def session(hub: FakeHub) -> AsyncIterator[sg.Session]:
    async with (
        grpc_gateway(fake_services(hub)) as address,
        sg.Client(address) as client,
        await client.create_session("painter") as session,
    ):
        yield session


def encoded(number: int) -> EncodedFrame:
    return EncodedFrame(
        data=b"x",
        keyframe=number == 0,
        codec=media_pb2.CODEC_VP8,
        timestamp_us=number,
        run=1,
        chunk=0,
        frame=number,
        source_us=0,
    )


async def watched(hub: FakeHub) -> FakeSubscription:
    def subscriptions() -> list[FakeSubscription]:
        return [each for made in hub.session.connections for each in made.subscriptions]

    found: list[FakeSubscription] = await hub.until(subscriptions)
    return found[-1]


async def test_frames_are_watched_until_the_session_ends(hub: FakeHub, session: sg.Session) -> None:
    frames: list[media_pb2.VideoFrame] = []

    async def watch() -> None:
        async for frame in session.watch("vp8"):
            frames.append(frame)  # noqa: PERF401 - as a user writes it

    watching = asyncio.create_task(watch())
    subscription = await watched(hub)
    for number in range(3):
        subscription.viewer.frame(encoded(number))
    hub.session.end("over")
    await watching
    assert [(each.run, each.frame, each.keyframe) for each in frames] == [
        (1, 0, True),
        (1, 1, False),
        (1, 2, False),
    ]


async def test_the_service_chooses_a_codec_and_says_which(
    hub: FakeHub, session: sg.Session
) -> None:
    async with session.watch() as watch:
        reading = asyncio.create_task(anext(watch))
        subscription = await watched(hub)
        assert subscription.codec == media_pb2.CODEC_H264
        subscription.viewer.frame(encoded(0))
        await reading
        assert watch.codec == media_pb2.CODEC_H264
        await watch.request_keyframe()
        await hub.until(lambda: subscription.keyframe_requests)
    await hub.until(lambda: subscription.closed)


async def test_the_stats_of_every_chunk_are_told(hub: FakeHub, session: sg.Session) -> None:
    told: list[sg.ViewerStats] = []
    watch = session.watch("vp8", on_stats=told.append)

    async def read() -> list[int]:
        return [frame.frame async for frame in watch]

    watching = asyncio.create_task(read())
    subscription = await watched(hub)
    assert watch.stats is None
    for number in range(3):
        subscription.viewer.frame(encoded(number))
        subscription.viewer.stats(sg.ViewerStats(chunk=number, command_to_emit_us=9))
    hub.session.end("over")
    assert await watching == [0, 1, 2]
    assert told
    assert told[-1] == watch.stats == sg.ViewerStats(chunk=2, command_to_emit_us=9)


async def test_breaking_off_ends_the_call(hub: FakeHub, session: sg.Session) -> None:
    before = asyncio.all_tasks()
    watch = session.watch("vp8")
    reading = asyncio.create_task(anext(watch))
    subscription = await watched(hub)
    await watch.aclose()
    with pytest.raises(StopAsyncIteration):
        await reading
    await hub.until(lambda: subscription.closed)
    await settled(before)


async def test_a_codec_nobody_makes_is_an_error(hub: FakeHub, session: sg.Session) -> None:
    hub.session.codecs = (media_pb2.CODEC_H264,)
    with pytest.raises(sg.BadOfferError):
        await anext(session.watch("vp8"))


async def camera(count: int, gate: asyncio.Event | None = None) -> AsyncIterator[sg.CameraFrame]:
    for number in range(count):
        yield sg.CameraFrame(data=b"c%d" % number, keyframe=number == 0, timestamp_us=number)
    if gate is not None:
        await gate.wait()


async def test_a_camera_is_published_to_its_end(hub: FakeHub, session: sg.Session) -> None:
    await session.publish(camera(3), "h264")
    connection = hub.session.connections[-1]
    assert connection.frames == [
        CameraFrame(
            data=b"c%d" % number,
            keyframe=number == 0,
            codec=media_pb2.CODEC_H264,
            timestamp_us=number,
        )
        for number in range(3)
    ]
    await hub.until(lambda: connection.closed)
    assert hub.session.publisher is None


async def test_the_publisher_hears_that_a_keyframe_is_needed(
    hub: FakeHub, session: sg.Session
) -> None:
    gate = asyncio.Event()
    publishing = asyncio.create_task(session.publish(camera(1, gate), "vp8", on_keyframe=gate.set))
    connection = await hub.until(lambda: hub.session.publisher)
    connection.sink.camera_keyframe()
    await publishing


async def test_a_second_publisher_is_refused(hub: FakeHub, session: sg.Session) -> None:
    before = asyncio.all_tasks()
    publishing = asyncio.create_task(session.publish(camera(1, asyncio.Event()), "vp8"))
    await hub.until(lambda: hub.session.publisher)
    with pytest.raises(sg.PublisherTakenError):
        await session.publish(camera(1, asyncio.Event()), "vp8")
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    await hub.until(lambda: hub.session.publisher is None)
    await settled(before)


async def test_a_failing_camera_fails_the_call(hub: FakeHub, session: sg.Session) -> None:
    async def broken() -> AsyncIterator[sg.CameraFrame]:
        yield sg.CameraFrame(data=b"c", keyframe=True)
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        await session.publish(broken(), "vp8")
    await hub.until(lambda: hub.session.publisher is None)
