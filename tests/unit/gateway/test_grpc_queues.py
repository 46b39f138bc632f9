"""The bounded queues of the gRPC wire."""

import asyncio

import pytest

from gateway.grpc_api.queues import FrameQueue, MediaOutbox, Outbox
from gateway.ports import EncodedFrame
from sana_gateway.v1 import media_pb2
from scheduler.core.errors import LimitError

pytestmark = pytest.mark.unit


def frame(number: int, *, keyframe: bool = False, rung: int = 0) -> EncodedFrame:
    return EncodedFrame(
        data=b"x",
        keyframe=keyframe,
        codec=media_pb2.CODEC_VP8,
        timestamp_us=number,
        run=1,
        chunk=0,
        frame=number,
        source_us=0,
        rung=rung,
    )


def stats(chunk: int) -> media_pb2.ViewerStats:
    return media_pb2.ViewerStats(chunk=chunk)


def drained(queue: FrameQueue) -> list[tuple[str, int]]:
    """Takes all that waits: frames by number, stats by chunk."""
    taken: list[tuple[str, int]] = []
    while (each := queue.take()) is not None:
        if isinstance(each, EncodedFrame):
            taken.append(("frame", each.frame))
        else:
            taken.append(("stats", each.chunk))
    return taken


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
    assert not queue.put(frame(0, keyframe=True), 0.0)
    assert not queue.put(frame(1), 0.0)
    assert drained(queue) == [("frame", 0), ("frame", 1)]


def test_a_viewer_that_fell_behind_goes_on_at_the_next_keyframe() -> None:
    queue = FrameQueue(limit=3)
    asked = [queue.put(frame(number, keyframe=number == 0), 0.0) for number in range(6)]
    assert asked == [False, False, False, True, False, False]
    assert queue.take() is None
    assert not queue.put(frame(6, keyframe=True), 0.0)
    assert not queue.put(frame(7), 0.0)
    assert drained(queue) == [("frame", 6), ("frame", 7)]
    assert queue.dropped == 6


def test_a_keyframe_is_asked_for_at_most_every_half_second() -> None:
    queue = FrameQueue(limit=1)
    queue.put(frame(0, keyframe=True), 10.0)
    times = [10.0, 10.04, 10.49, 10.5, 10.6, 11.01]
    asked = [queue.put(frame(number), now) for number, now in enumerate(times, 1)]
    assert asked == [True, False, False, True, False, True]


def test_a_keyframe_that_overflows_stays() -> None:
    queue = FrameQueue(limit=2)
    queue.put(frame(0, keyframe=True), 0.0)
    queue.put(frame(1), 0.0)
    assert not queue.put(frame(2, keyframe=True), 0.0)
    assert drained(queue) == [("frame", 2)]
    assert queue.dropped == 2


def test_a_viewer_that_fell_behind_goes_on_at_a_keyframe_of_whatever_rung() -> None:
    queue = FrameQueue(limit=1)
    queue.put(frame(0, keyframe=True), 0.0)
    queue.put(frame(1), 0.0)
    queue.put(frame(2, keyframe=True, rung=1), 0.0)
    assert drained(queue) == [("frame", 2)]


def test_a_rung_begins_at_a_keyframe_or_not_at_all() -> None:
    queue = FrameQueue()
    queue.put(frame(0, keyframe=True), 0.0)
    assert queue.put(frame(1, rung=1), 0.0)
    queue.put(frame(2), 0.0)
    queue.put(frame(3, keyframe=True, rung=1), 0.0)
    queue.put(frame(4, rung=1), 0.0)
    assert drained(queue) == [("frame", 0), ("frame", 3), ("frame", 4)]
    assert queue.dropped == 2


def test_stats_leave_right_after_the_frame_they_were_put_behind() -> None:
    queue = FrameQueue()
    queue.put(frame(0, keyframe=True), 0.0)
    queue.put_stats(stats(0))
    queue.put(frame(1), 0.0)
    assert drained(queue) == [("frame", 0), ("stats", 0), ("frame", 1)]


def test_stats_leave_at_once_when_no_frame_waits() -> None:
    queue = FrameQueue()
    queue.put(frame(0, keyframe=True), 0.0)
    queue.take()
    queue.put_stats(stats(0))
    queue.put(frame(1), 0.0)
    assert drained(queue) == [("stats", 0), ("frame", 1)]


def test_of_stats_that_wait_the_newest_is_left_and_no_frame_goes_for_it() -> None:
    queue = FrameQueue()
    for chunk in range(3):
        queue.put(frame(chunk, keyframe=chunk == 0), 0.0)
        queue.put_stats(stats(chunk))
    assert drained(queue) == [("frame", 0), ("frame", 1), ("frame", 2), ("stats", 2)]


def test_of_a_frame_that_is_dropped_no_stats_are_told() -> None:
    queue = FrameQueue(limit=1)
    queue.put(frame(0, keyframe=True), 0.0)
    queue.put_stats(stats(0))
    queue.put(frame(1), 0.0)
    queue.put_stats(stats(1))
    assert drained(queue) == []
    queue.put(frame(2, keyframe=True), 0.0)
    queue.put_stats(stats(2))
    queue.take()
    assert queue.take() == media_pb2.ViewerStats(chunk=2, frames_dropped=2)


async def test_words_overtake_frames_and_keyframe_requests_merge() -> None:
    outbox = MediaOutbox()
    outbox.put_frame(frame(0, keyframe=True))
    outbox.ask_keyframe()
    outbox.ask_keyframe()
    outbox.put(media_pb2.MediaResponse(started=media_pb2.MediaStarted()))
    outbox.put_stats(stats(0))
    outbox.close()
    kinds = []
    while (response := await outbox.take()) is not None:
        kinds.append(response.WhichOneof("response"))
    assert kinds == ["started", "keyframe", "video", "stats"]
    assert not outbox.put_frame(frame(1))
    outbox.put_stats(stats(1))
    assert await outbox.take() is None
