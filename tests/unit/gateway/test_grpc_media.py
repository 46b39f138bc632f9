"""Media on the wire: both directions, keyframes, slow viewers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from gateway.grpc_api.queues import FRAME_LIMIT
from gateway.ports import CameraFrame, EncodedFrame
from sana_gateway.v1 import media_pb2, session_pb2, session_pb2_grpc
from tests.fakes.grpc_gateway import drained, failure, grpc_gateway, settled
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services
from tests.fakes.session import FakeSubscription

pytestmark = pytest.mark.unit

if TYPE_CHECKING:
    Stub = session_pb2_grpc.SessionServiceAsyncStub

H264, VP8 = media_pb2.CODEC_H264, media_pb2.CODEC_VP8


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def stub(hub: FakeHub) -> AsyncIterator[Stub]:
    async with (
        grpc_gateway(fake_services(hub)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        made: Stub = session_pb2_grpc.SessionServiceStub(channel)
        await made.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
        yield made


async def opened(stub: Stub, session_id: str = "session-1", **start: Any) -> Any:
    stream: Any = stub.Media()  # type: ignore[call-arg]
    asked = media_pb2.MediaStart(session_id=session_id, **start)
    await stream.write(media_pb2.MediaRequest(start=asked))
    return stream


async def watched(hub: FakeHub) -> FakeSubscription:
    def subscriptions() -> list[FakeSubscription]:
        return [each for made in hub.session.connections for each in made.subscriptions]

    found: list[FakeSubscription] = await hub.until(subscriptions)
    return found[-1]


def encoded(number: int, *, keyframe: bool = False, size: int = 3) -> EncodedFrame:
    return EncodedFrame(
        data=b"x" * size,
        keyframe=keyframe,
        codec=VP8,
        timestamp_us=number * 41_667,
        run=2,
        chunk=1,
        frame=number,
        source_us=5 + number,
    )


async def send_camera(stream: Any, timestamp_us: int = 0, data: bytes = b"d") -> None:
    frame = media_pb2.CameraFrame(data=data, keyframe=True, timestamp_us=timestamp_us)
    await stream.write(media_pb2.MediaRequest(camera=frame))


@pytest.mark.parametrize(
    ("asked", "made", "answered"),
    [
        (media_pb2.CODEC_UNSPECIFIED, (H264, VP8), H264),
        (media_pb2.CODEC_UNSPECIFIED, (VP8,), VP8),
        (VP8, (H264, VP8), VP8),
    ],
)
async def test_a_viewer_gets_its_codec_or_the_first_that_is_made(
    hub: FakeHub,
    stub: Stub,
    asked: media_pb2.Codec.ValueType,
    made: tuple[media_pb2.Codec.ValueType, ...],
    answered: media_pb2.Codec.ValueType,
) -> None:
    hub.session.codecs = made
    stream = await opened(stub, watch=True, watch_codec=asked)
    assert (await stream.read()).started.watch_codec == answered
    stream.cancel()


async def test_frames_arrive_as_they_were_handed_out(hub: FakeHub, stub: Stub) -> None:
    stream = await opened(stub, watch=True, watch_codec=VP8)
    subscription = await watched(hub)
    subscription.viewer.frame(replace(encoded(7, keyframe=True), held=True, rung=1))
    assert (await stream.read()).HasField("started")
    assert (await stream.read()).video == media_pb2.VideoFrame(
        data=b"xxx",
        keyframe=True,
        timestamp_us=7 * 41_667,
        run=2,
        chunk=1,
        frame=7,
        codec=VP8,
        source_us=12,
        held=True,
        rung=1,
    )
    stream.cancel()


async def test_the_stats_of_a_chunk_follow_its_first_frame(hub: FakeHub, stub: Stub) -> None:
    stream = await opened(stub, watch=True, watch_codec=VP8)
    subscription = await watched(hub)
    stats = media_pb2.ViewerStats(run=2, chunk=1, source_to_emit_us=900_000, buffered=23)
    subscription.viewer.frame(encoded(0, keyframe=True))
    subscription.viewer.stats(stats)
    subscription.viewer.frame(encoded(1))
    hub.session.end("over")
    responses = await drained(stream)
    kinds = [each.WhichOneof("response") for each in responses]
    assert kinds == ["started", "video", "stats", "video"]
    assert responses[2].stats == stats


async def test_a_viewer_may_ask_for_a_keyframe(hub: FakeHub, stub: Stub) -> None:
    stream = await opened(stub, watch=True)
    subscription = await watched(hub)
    await stream.write(media_pb2.MediaRequest(keyframe=media_pb2.KeyframeRequest()))
    await hub.until(lambda: subscription.keyframe_requests)
    stream.cancel()


async def test_a_codec_that_is_not_made_is_refused(hub: FakeHub, stub: Stub) -> None:
    hub.session.codecs = (H264,)
    error = await failure(await opened(stub, watch=True, watch_codec=VP8))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert hub.session.open_connections == []


@pytest.mark.parametrize(
    "start",
    [
        {},
        {"watch": True, "watch_codec": 9},
        {"publish": True},
        {"publish": True, "publish_codec": 9},
    ],
    ids=["nothing", "unknown watch", "unsaid publish", "unknown publish"],
)
async def test_a_start_that_makes_no_sense_is_refused(
    hub: FakeHub, stub: Stub, start: dict[str, Any]
) -> None:
    assert (await failure(await opened(stub, **start))).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert hub.session.connections == []


async def test_media_without_a_start_is_refused(stub: Stub) -> None:
    stream: Any = stub.Media()  # type: ignore[call-arg]
    await send_camera(stream)
    assert (await failure(stream)).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_camera_frames_reach_the_session_undecoded(hub: FakeHub, stub: Stub) -> None:
    stream = await opened(stub, publish=True, publish_codec=H264)
    await send_camera(stream, 10, b"abc")
    connection = (await hub.until(lambda: hub.session.open_connections))[0]
    frames = await hub.until(lambda: connection.frames)
    assert frames == [CameraFrame(data=b"abc", keyframe=True, codec=H264, timestamp_us=10)]
    stream.cancel()


async def test_the_decoder_asks_the_publisher_for_a_keyframe(hub: FakeHub, stub: Stub) -> None:
    stream = await opened(stub, publish=True, publish_codec=VP8)
    assert (await stream.read()).HasField("started")
    hub.session.connections[0].sink.camera_keyframe()
    assert (await stream.read()).HasField("keyframe")
    stream.cancel()


async def test_only_one_connection_publishes(hub: FakeHub, stub: Stub) -> None:
    first = await opened(stub, publish=True, publish_codec=VP8)
    await first.read()
    error = await failure(await opened(stub, publish=True, publish_codec=VP8))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    first.cancel()
    await hub.until(lambda: hub.session.publisher is None)
    second = await opened(stub, publish=True, publish_codec=VP8)
    assert (await second.read()).HasField("started")
    second.cancel()


@pytest.mark.parametrize(
    ("start", "frames"),
    [
        ({"watch": True}, [(0, b"d")]),
        ({"publish": True, "publish_codec": VP8}, [(0, b"")]),
        ({"publish": True, "publish_codec": VP8}, [(5, b"d"), (4, b"d")]),
    ],
    ids=["not asked for", "empty", "time falls"],
)
async def test_a_camera_frame_that_makes_no_sense_ends_the_call(
    hub: FakeHub, stub: Stub, start: dict[str, Any], frames: list[tuple[int, bytes]]
) -> None:
    stream = await opened(stub, **start)
    for timestamp_us, data in frames:
        await send_camera(stream, timestamp_us, data)
    assert (await failure(stream)).code() is grpc.StatusCode.INVALID_ARGUMENT
    await hub.until(lambda: not hub.session.open_connections)


async def test_a_publisher_that_is_done_ends_the_call(hub: FakeHub, stub: Stub) -> None:
    stream = await opened(stub, publish=True, publish_codec=VP8)
    await stream.done_writing()
    assert [each.WhichOneof("response") for each in await drained(stream)] == ["started"]
    assert hub.session.publisher is None
    assert hub.session.open_connections == []


async def test_a_viewer_that_is_done_publishing_goes_on_watching(hub: FakeHub, stub: Stub) -> None:
    stream = await opened(stub, publish=True, publish_codec=VP8, watch=True)
    subscription = await watched(hub)
    await stream.done_writing()
    await hub.until(lambda: hub.session.publisher is None)
    await stream.read()
    subscription.viewer.frame(encoded(0, keyframe=True))
    assert (await stream.read()).HasField("video")
    stream.cancel()


async def test_a_waiting_session_starts_its_media_when_it_is_ready(
    hub: FakeHub, stub: Stub
) -> None:
    hub.ready = False
    made = await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
    stream = await opened(stub, made.session.session_id, watch=True)
    reading = asyncio.ensure_future(stream.read())
    hub.session.place()
    assert (await reading).HasField("started")
    stream.cancel()


async def test_the_end_of_the_session_ends_its_media(hub: FakeHub, stub: Stub) -> None:
    before = asyncio.all_tasks()
    stream = await opened(stub, watch=True)
    await watched(hub)
    hub.session.end("over")
    await drained(stream)
    assert await stream.code() is grpc.StatusCode.OK
    await settled(before)


async def test_a_cancelled_viewer_leaves_nothing_behind(hub: FakeHub, stub: Stub) -> None:
    before = asyncio.all_tasks()
    stream = await opened(stub, watch=True)
    subscription = await watched(hub)
    stream.cancel()
    await hub.until(lambda: subscription.closed and not hub.session.open_connections)
    await settled(before)


async def test_a_slow_viewer_loses_frames_up_to_the_keyframe_it_asked_for(
    hub: FakeHub, stub: Stub
) -> None:
    stream = await opened(stub, watch=True)
    subscription = await watched(hub)
    sent = 0
    subscription.viewer.frame(encoded(0, keyframe=True))
    while not subscription.keyframe_requests:
        sent += 1
        subscription.viewer.frame(encoded(sent, size=50_000))
        await asyncio.sleep(0)  # lets the server write until the client's window is full
    for number in range(sent + 1, sent + 10):
        subscription.viewer.frame(encoded(number))
    subscription.viewer.frame(encoded(sent + 10, keyframe=True))
    hub.session.end("over")
    frames = [each.video for each in await drained(stream) if each.HasField("video")]
    numbers = [each.frame for each in frames]
    assert numbers[-1] == sent + 10
    assert frames[-1].keyframe
    assert numbers[:-1] == list(range(len(numbers) - 1))
    assert sent - len(numbers) >= FRAME_LIMIT - 2
