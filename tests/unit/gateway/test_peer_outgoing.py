"""The queue of one viewer."""

from __future__ import annotations

import pytest

from gateway.ports import EncodedFrame
from gateway.webrtc.outgoing import ASK_INTERVAL_US, ViewerQueue
from sana_gateway.v1 import media_pb2

pytestmark = pytest.mark.unit


def frame(index: int, *, keyframe: bool = False) -> EncodedFrame:
    time_us = index * 40_000
    return EncodedFrame(b"x", keyframe, media_pb2.CODEC_VP8, time_us, 1, 0, index, time_us)


def taken(queue: ViewerQueue) -> list[int]:
    return [each.frame for each in iter(queue.take, None)]


def test_a_viewer_begins_with_a_keyframe_and_asks_for_one() -> None:
    queue = ViewerQueue()
    assert queue.put(frame(0))
    assert not queue.put(frame(1))
    assert not queue.put(frame(2, keyframe=True))
    assert not queue.put(frame(3))
    assert taken(queue) == [2, 3]
    assert (queue.dropped, queue.overflows) == (2, 0)


def test_a_full_queue_goes_on_at_the_next_keyframe() -> None:
    queue = ViewerQueue(capacity=4)
    queue.put(frame(0, keyframe=True))
    for index in range(1, 4):
        assert not queue.put(frame(index))
    assert queue.put(frame(4)), "full: a keyframe is asked for"
    assert not queue.put(frame(5))
    assert not queue.put(frame(6, keyframe=True))
    assert not queue.put(frame(7))
    assert taken(queue) == [6, 7]
    assert (queue.dropped, queue.overflows) == (6, 1)


def test_a_keyframe_that_finds_the_queue_full_takes_its_place() -> None:
    queue = ViewerQueue(capacity=2)
    queue.put(frame(0, keyframe=True))
    queue.put(frame(1))
    assert not queue.put(frame(2, keyframe=True))
    assert taken(queue) == [2]
    assert queue.dropped == 2


def test_the_request_is_repeated_while_no_keyframe_comes() -> None:
    queue = ViewerQueue()
    asked = [index for index in range(40) if queue.put(frame(index))]
    steps = -(-ASK_INTERVAL_US // 40_000)
    assert asked == list(range(0, 40, steps))


def test_after_a_restart_the_next_frame_is_a_keyframe() -> None:
    queue = ViewerQueue()
    queue.put(frame(0, keyframe=True))
    queue.restart()
    assert queue.put(frame(1))
    queue.put(frame(2, keyframe=True))
    assert taken(queue) == [2]
