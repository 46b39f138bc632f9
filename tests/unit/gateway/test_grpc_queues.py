"""The bounded queues of the gRPC wire."""

import asyncio

import pytest

from gateway.grpc_api.queues import FrameQueue, MediaOutbox, Outbox
from gateway.ports import EncodedFrame
from sana_gateway.v1 import media_pb2
from scheduler.core.errors import LimitError

pytestmark = pytest.mark.unit


def frame(number: int, *, keyframe: bool = False) -> EncodedFrame:
    return EncodedFrame(
        data=b"x",
        keyframe=keyframe,
        codec=media_pb2.CODEC_VP8,
        timestamp_us=number,
        run=1,
        chunk=0,
        frame=number,
        source_us=0,
    )


async def test_responses_keep_their_order_and_end() -> None:
    outbox: Outbox[int] = Outbox()
    outbox.put(1)
    outbox.put(2)
    outbox.close()
    outbox.put(3)
    assert [await outbox.take(), await outbox.take(), await outbox.take()] == [1, 2, None]


async def test_what_waits_is_sent_before_the_error() -> None:
    outbox: Outbox[int] = Outbox()
    outbox.put(1)
    outbox.close(ValueError("first"))
    outbox.close(ValueError("second"))
    assert await outbox.take() == 1
    with pytest.raises(ValueError, match="first"):
        await outbox.take()
    assert not outbox.failed.is_set()


async def test_a_reader_that_waits_is_woken() -> None:
    outbox: Outbox[int] = Outbox()
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.put(1)
    assert await taking == 1


async def test_overflow_drops_everything_and_fails_at_once() -> None:
    outbox: Outbox[int] = Outbox(limit=2)
    for number in range(3):
        outbox.put(number)
    assert outbox.failed.is_set()
    with pytest.raises(LimitError):
        await outbox.take()


def test_frames_come_out_as_they_went_in() -> None:
    queue = FrameQueue()
    assert not queue.put(frame(0, keyframe=True))
    assert not queue.put(frame(1))
    assert [each and each.frame for each in (queue.take(), queue.take(), queue.take())] == [
        0,
        1,
        None,
    ]


def test_a_viewer_that_fell_behind_goes_on_at_the_next_keyframe() -> None:
    queue = FrameQueue(limit=3)
    asked = [queue.put(frame(number, keyframe=number == 0)) for number in range(6)]
    assert asked == [False, False, False, True, True, True]
    assert queue.take() is None
    assert not queue.put(frame(6, keyframe=True))
    assert not queue.put(frame(7))
    taken = [queue.take(), queue.take()]
    assert [each.frame for each in taken if each] == [6, 7]
    assert queue.dropped == 6


def test_a_keyframe_that_overflows_stays() -> None:
    queue = FrameQueue(limit=2)
    queue.put(frame(0, keyframe=True))
    queue.put(frame(1))
    assert not queue.put(frame(2, keyframe=True))
    taken = queue.take()
    assert taken is not None
    assert taken.frame == 2
    assert queue.dropped == 2


async def test_words_overtake_frames_and_keyframe_requests_merge() -> None:
    outbox = MediaOutbox()
    outbox.put_frame(frame(0, keyframe=True))
    outbox.ask_keyframe()
    outbox.ask_keyframe()
    outbox.put(media_pb2.MediaResponse(started=media_pb2.MediaStarted()))
    outbox.close()
    kinds = []
    while (response := await outbox.take()) is not None:
        kinds.append(response.WhichOneof("response"))
    assert kinds == ["started", "keyframe", "video"]
    assert not outbox.put_frame(frame(1))
