"""The server's shares of glass to glass and of prompt to pixels."""

from __future__ import annotations

import pytest

from gateway.ports import EncodedFrame
from gateway.viewer_stats import CAMERA_FRAMES, CHUNKS, ViewerClock
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2

pytestmark = pytest.mark.unit


def frame(source_us: int = 0, run: int = 1, chunk: int = 0, rung: int = 0) -> EncodedFrame:
    return EncodedFrame(
        data=b"x",
        keyframe=False,
        codec=media_pb2.CODEC_H264,
        timestamp_us=2_000_000,
        run=run,
        chunk=chunk,
        frame=9,
        source_us=source_us,
        rung=rung,
    )


def ready(run: int = 1, chunk: int = 0, age_us: int = 0) -> stream_pb2.ChunkReady:
    return stream_pb2.ChunkReady(run=run, chunk=chunk, answers_command=True, command_age_us=age_us)


def stats(clock: ViewerClock, shown: EncodedFrame, now: float) -> media_pb2.ViewerStats:
    return clock.first_frame(shown, now, now, 0, 0)


def test_the_frame_is_named_and_its_lateness_told() -> None:
    made = ViewerClock().first_frame(frame(7, run=3, chunk=4, rung=1), 10.0, 10.002, 24, 2)
    assert made == media_pb2.ViewerStats(
        run=3,
        chunk=4,
        frame=9,
        timestamp_us=2_000_000,
        source_us=7,
        late_us=2_000,
        buffered=24,
        underruns=2,
        rung=1,
    )


def test_a_frame_handed_out_early_is_not_late() -> None:
    assert ViewerClock().first_frame(frame(), 10.0, 9.99, 0, 0).late_us == 0


@pytest.mark.parametrize(
    ("source_us", "arrived_at"),
    [(200_000, 5.2), (199_999, 5.2), (201_000, 5.2), (241_000, 5.24), (600_000, 5.6)],
)
def test_the_source_is_the_camera_frame_nearest_to_its_slot(
    source_us: int, arrived_at: float
) -> None:
    clock = ViewerClock()
    for timestamp_us in range(0, 600_001, 40_000):
        clock.camera_frame(timestamp_us, 5.0 + timestamp_us / 1e6)
    made = stats(clock, frame(source_us), 7.0)
    assert made.source_to_emit_us == pytest.approx((7.0 - arrived_at) * 1e6, abs=1)


def test_without_a_camera_there_is_no_share_of_glass_to_glass() -> None:
    assert stats(ViewerClock(), frame(1_000), 1.0).source_to_emit_us == 0


def test_a_source_time_far_from_every_camera_frame_is_not_the_cameras() -> None:
    clock = ViewerClock()
    clock.camera_frame(5_000_000, 1.0)
    assert stats(clock, frame(1_000_000), 2.0).source_to_emit_us == 0
    assert stats(clock, frame(9_000_000), 2.0).source_to_emit_us == 0


def test_a_time_that_falls_is_another_publishers() -> None:
    clock = ViewerClock()
    clock.camera_frame(5_000_000, 1.0)
    clock.camera_frame(100, 2.0)
    assert stats(clock, frame(5_000_000), 3.0).source_to_emit_us == 0
    assert stats(clock, frame(100), 3.0).source_to_emit_us == 1_000_000


def test_a_new_publishers_frames_are_not_measured_by_the_old_ones() -> None:
    clock = ViewerClock()
    clock.camera_frame(100, 1.0)
    clock.publisher_changed()
    assert stats(clock, frame(100), 3.0).source_to_emit_us == 0


def test_camera_frames_are_remembered_up_to_a_bound() -> None:
    clock = ViewerClock()
    for number in range(CAMERA_FRAMES + 10):
        clock.camera_frame(number * 1_000_000, float(number))
    assert stats(clock, frame(9_000_000), 9_999.0).source_to_emit_us == 0
    assert stats(clock, frame(10_000_000), 9_999.0).source_to_emit_us > 0


def test_a_command_is_measured_from_its_arrival_at_the_actor_to_every_rung() -> None:
    clock = ViewerClock()
    clock.chunk(ready(chunk=3, age_us=400_000), now=10.0)
    for rung in (0, 1):
        made = stats(clock, frame(chunk=3, rung=rung), 10.1)
        assert made.command_to_emit_us == pytest.approx(500_000, abs=1)


def test_only_the_chunk_that_answers_tells_of_the_command() -> None:
    clock = ViewerClock()
    clock.chunk(stream_pb2.ChunkReady(run=1, chunk=2), now=9.0)
    clock.chunk(ready(chunk=3), now=10.0)
    assert stats(clock, frame(chunk=2), 10.0).command_to_emit_us == 0
    assert stats(clock, frame(chunk=4), 10.0).command_to_emit_us == 0
    assert stats(clock, frame(run=2, chunk=3), 10.0).command_to_emit_us == 0


def test_a_chunk_announced_again_keeps_the_time_of_its_command() -> None:
    clock = ViewerClock()
    clock.chunk(ready(age_us=100_000), now=10.0)
    clock.chunk(ready(age_us=100_000), now=12.0)
    made = stats(clock, frame(), 12.0)
    assert made.command_to_emit_us == pytest.approx(2_100_000, abs=1)


def test_a_duration_that_was_measured_is_never_zero() -> None:
    clock = ViewerClock()
    clock.camera_frame(100, 4.0)
    clock.chunk(ready(), now=4.0)
    made = stats(clock, frame(100), 4.0)
    assert (made.source_to_emit_us, made.command_to_emit_us) == (1, 1)


def test_an_abandoned_run_forgets_its_commands() -> None:
    clock = ViewerClock()
    clock.chunk(ready(), now=10.0)
    clock.abandon()
    assert stats(clock, frame(), 11.0).command_to_emit_us == 0


def test_chunks_are_remembered_up_to_a_bound() -> None:
    clock = ViewerClock()
    for number in range(CHUNKS + 1):
        clock.chunk(ready(chunk=number), now=float(number))
    assert stats(clock, frame(chunk=0), 100.0).command_to_emit_us == 0
    assert stats(clock, frame(chunk=1), 100.0).command_to_emit_us > 0
