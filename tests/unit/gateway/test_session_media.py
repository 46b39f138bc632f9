"""The media half of a session of the gateway: its camera and its play-out."""

from __future__ import annotations

import asyncio

import pytest

from gateway import showing
from gateway.lead import FIRST_TRANSIT_S
from gateway.pacing import Pacing
from gateway.showing import SOON_S
from sana_gateway.v1 import command_pb2, media_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.errors import (
    BadOfferError,
    PublisherTakenError,
)
from tests.fakes.gateway_parts import Ear, FakeLink
from tests.unit.gateway.test_session import FRAME_RATE, SESSION, VP8, Bench, frame

pytestmark = pytest.mark.unit


async def test_one_connection_publishes_and_its_end_frees_the_camera() -> None:
    bench = Bench()
    bench.place()
    first, _ = bench.session.connect(Ear())
    second, _ = bench.session.connect(Ear())
    first.claim_camera()
    first.claim_camera()
    with pytest.raises(PublisherTakenError):
        second.claim_camera()
    second.camera(frame(1, key=True))
    assert bench.link.cameras == []
    first.close()
    second.camera(frame(2, key=True))
    assert [each.timestamp_us for each in bench.link.cameras] == [2]
    assert [each.published for each in bench.link.of("camera")] == [True, False, True]


async def test_a_new_actor_is_told_that_a_camera_is_published() -> None:
    bench = Bench()
    bench.place()
    connection, _ = bench.session.connect(Ear())
    connection.claim_camera()
    connection.camera(frame(0, key=True))
    bench.link.lose()
    connection.camera(frame(1))
    bench.place(link=FakeLink("actor-2"))
    assert [each.published for each in bench.link.of("camera")] == [True]
    connection.camera(frame(2))
    assert bench.link.cameras == [], "its decoder begins at a keyframe"
    connection.camera(frame(3, key=True))
    assert [each.timestamp_us for each in bench.link.cameras] == [3]


async def test_camera_frames_without_room_are_dropped_up_to_a_keyframe_that_is_asked_for() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.camera(frame(1, key=True))
    bench.link.has_room = False
    connection.camera(frame(2))
    connection.camera(frame(3))
    bench.link.has_room = True
    connection.camera(frame(4))
    connection.camera(frame(5, key=True))
    connection.camera(frame(6))
    sent = [(each.timestamp_us, each.discontinuity) for each in bench.link.cameras]
    assert sent == [(1, True), (5, True), (6, False)], "a publisher begins at a keyframe"
    assert ear.kinds.count("camera_keyframe") == 1


async def test_the_publisher_is_asked_for_keyframes() -> None:
    bench, publisher, other = Bench(), Ear(), Ear()
    bench.place()
    connection, _ = bench.session.connect(publisher)
    bench.session.connect(other)
    bench.tell(camera_keyframe=stream_pb2.CameraKeyframe())
    connection.claim_camera()
    bench.tell(camera_keyframe=stream_pb2.CameraKeyframe())
    assert publisher.kinds.count("camera_keyframe") == 1
    assert "camera_keyframe" not in other.kinds


async def test_frames_are_handed_out_when_due_and_the_chunk_is_committed() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    subscription = connection.subscribe([media_pb2.CODEC_UNSPECIFIED, VP8], ear)
    assert subscription.codec == VP8
    assert [each.wanted for each in bench.link.of("output")] == [True]
    bench.chunk(1, 3)
    for number in range(3):
        bench.packet(1, number, key=number == 0)
    assert ear.frames == [], "nothing before its time"
    (commit,) = await bench.link.changes.until(lambda: bench.link.of("commit"))
    assert (commit.run, commit.chunk) == (1, 0)
    assert [each.frame for each in ear.frames] == [0, 1, 2]
    assert [each.buffered for each in bench.link.of("playout")] == [3]
    assert [(each.chunk, each.frame) for each in ear.told] == [(0, 0)]
    subscription.close()
    assert [each.wanted for each in bench.link.of("output")] == [True, False]


async def test_play_out_runs_without_viewers() -> None:
    bench = Bench()
    bench.place()
    bench.chunk(1, 2)
    (commit,) = await bench.link.changes.until(lambda: bench.link.of("commit"))
    assert (commit.run, commit.chunk) == (1, 0)


async def test_nothing_of_an_abandoned_run_or_an_old_epoch_goes_out() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    bench.chunk(1, 2)
    bench.packet(1, 0, key=True)
    bench.tell(abandoned=stream_pb2.RunAbandoned(next_run=2))
    bench.packet(1, 1, key=True)
    bench.chunk(2, 2)
    bench.packet(2, 0, key=True, epoch=0)
    bench.packet(2, 0, key=True)
    bench.packet(2, 1)
    (commit,) = await bench.link.changes.until(lambda: bench.link.of("commit"))
    assert commit.run == 2
    assert [(each.run, each.frame) for each in ear.frames] == [(2, 0), (2, 1)]


async def test_a_new_actor_is_told_what_is_watched() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    bench.link.lose()
    bench.place(link=FakeLink("actor-2"))
    (demand,) = bench.link.of("output")
    assert (demand.wanted, demand.keyframe, demand.output.codec) == (True, True, VP8)


async def test_chunks_that_are_told_again_go_on_where_play_out_stopped() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    bench.chunk(1, 2)
    bench.packet(1, 0, key=True)
    bench.packet(1, 1)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    bench.chunk(1, 2, chunk=1, first=2)
    bench.link.lose()
    bench.place(link=FakeLink("actor-2"))
    bench.chunk(1, 2)
    bench.chunk(1, 2, chunk=1, first=2)
    bench.packet(1, 2, key=True)
    bench.packet(1, 3)
    await bench.link.changes.until(lambda: len(bench.link.of("commit")) == 2)
    assert [each.chunk for each in bench.link.of("commit")] == [0, 1], "the first was lost"
    assert [each.frame for each in ear.frames] == [0, 1, 2, 3]


async def test_codecs_that_are_not_made_here_are_refused() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    with pytest.raises(BadOfferError):
        connection.subscribe([media_pb2.CODEC_UNSPECIFIED], ear)


async def test_a_session_that_ends_plays_no_more() -> None:
    pacing = Pacing()
    bench, other = Bench(pacing=pacing), Bench(pacing=pacing)
    bench.place()
    other.place()
    bench.chunk(1, 2)
    other.chunk(1, 2)
    bench.session.close("enough")
    known = len(bench.link.sent)
    await other.link.changes.until(lambda: other.link.of("commit"))
    assert len(bench.link.sent) == known


async def test_a_new_gateway_goes_on_in_the_middle_of_a_chunk_and_commits_it() -> None:
    bench, ear = Bench(), Ear()
    bench.place(1, 2)
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    # What the actor says to who takes part when nobody was left: its chunk from the first
    # frame on that was not due when the gateway before was lost.
    bench.chunk(4, 2, chunk=7, first=199)
    bench.chunk(4, 3, chunk=8, first=201)
    (first, second) = bench.link.of("playout")
    assert (first.run, first.next_frame, first.buffered) == (4, 199, 2)
    assert (second.next_frame, second.buffered) == (199, 5)
    for number in range(199, 204):
        bench.packet(4, number, key=number == 199)
    await bench.link.changes.until(lambda: len(bench.link.of("commit")) == 2)
    assert [(each.run, each.chunk) for each in bench.link.of("commit")] == [(4, 7), (4, 8)]
    assert [each.frame for each in ear.frames] == list(range(199, 204))


async def test_a_new_gateway_commits_at_once_a_chunk_of_which_nothing_is_left() -> None:
    bench = Bench()
    bench.place(1, 2)
    bench.chunk(4, 0, chunk=7, first=201)
    assert [(each.run, each.chunk) for each in bench.link.of("commit")] == [(4, 7)]
    assert [each.next_frame for each in bench.link.of("playout")] == [201]


async def test_the_picture_that_holds_is_given_to_viewers_and_to_who_comes_later() -> None:
    bench, ear, late = Bench(), Ear(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    bench.chunk(1, 1)
    bench.packet(1, 0, key=True)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    bench.packet(1, 0, key=True, held=True)
    connection.subscribe([VP8], late)
    assert [(each.frame, each.held) for each in ear.frames] == [(0, False), (0, True)]
    assert [(each.frame, each.held) for each in late.frames] == [(0, True)]
    assert ear.frames[0].timestamp_us < ear.frames[1].timestamp_us


async def test_packets_may_come_before_their_announcement() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    bench.packet(1, 0, key=True)
    bench.packet(1, 1)
    assert ear.frames == []
    bench.chunk(1, 2)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    assert [each.frame for each in ear.frames] == [0, 1]


async def test_frames_that_are_here_before_their_chunk_need_no_start_buffer() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    for run in range(1, 12):
        bench.packet(run, 0, key=True)
        bench.chunk(run, 1)
    due_in_us = [each.due_in_us for each in bench.link.of("playout") if each.buffered]
    assert due_in_us[0] == pytest.approx(FIRST_TRANSIT_S * 1e6, abs=1_000)
    assert due_in_us[-1] < 4_000


async def test_an_actor_hears_of_a_clock_that_was_set_anew() -> None:
    bench = Bench()
    bench.place()
    bench.chunk(1, 2000)
    bench.session._showing.play(asyncio.get_running_loop().time() + 1.0)
    (before, after) = bench.link.of("playout")
    assert (before.next_frame, after.next_frame) == (0, 1)
    assert after.due_in_us == pytest.approx(1e6 / FRAME_RATE, abs=1)


async def test_of_a_clock_that_goes_on_as_it_was_an_actor_hears_together_with_the_rest() -> None:
    bench = Bench()
    bench.place()
    far, near = 2 * int(SOON_S * FRAME_RATE), 1
    bench.chunk(1, near)
    bench.chunk(1, far, chunk=1, first=near)
    bench.chunk(1, 1, chunk=2, first=near + far)
    urgent = [
        urgent
        for request, urgent in zip(bench.link.sent, bench.link.urgent, strict=True)
        if request.WhichOneof("request") == "playout"
    ]
    assert urgent == [True, True, False], "the first is new, the second is due soon"


async def test_a_viewer_that_stays_poor_is_given_a_rung_of_its_own() -> None:
    bench, ear, rich = Bench(), Ear(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    poor = connection.subscribe([VP8], ear)
    connection.subscribe([VP8], rich)
    bench.chunk(1, 3)
    bench.packet(1, 0, key=True)
    poor.estimate(400_000)
    bench.session._showing.play(asyncio.get_running_loop().time() + 4.0)
    demand = bench.link.of("output")[-1]
    assert (demand.output.rung, demand.wanted, demand.keyframe) == (1, True, True)
    assert demand.bitrate == 400_000


async def test_who_publishes_anew_is_not_measured_by_the_frames_of_another() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    connection.camera(frame(0, key=True))
    connection.release_camera()
    bench.chunk(1, 1)
    bench.packet(1, 0, key=True)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    assert [told.source_to_emit_us for told in ear.told] == [0]


async def test_viewers_are_told_how_long_camera_and_command_took() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    bench.state(1, mode=command_pb2.MODE_LIVE)
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    connection.camera(frame(0, key=True))
    bench.tell(
        chunk=stream_pb2.ChunkReady(
            run=1, frames=1, frame_rate=FRAME_RATE, answers_command=True, command_age_us=700_000
        )
    )
    bench.packet(1, 0, key=True)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    (told,) = ear.told
    assert told.source_to_emit_us > 0
    assert told.command_to_emit_us > 700_000
    assert told.rung == 0


async def test_a_clip_has_no_camera_to_measure_from() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    bench.state(1, mode=command_pb2.MODE_FILE)
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    connection.camera(frame(0, key=True))
    bench.chunk(1, 1)
    bench.packet(1, 0, key=True)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    assert [told.source_to_emit_us for told in ear.told] == [0]


async def test_packets_of_rungs_and_codecs_that_are_not_made_are_dropped() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    for output in (stream_pb2.Output(codec=VP8, rung=2), stream_pb2.Output()):
        bench.link.packet(
            stream_pb2.VideoPacket(
                session_id=SESSION, epoch=1, run=1, keyframe=True, held=True, output=output
            )
        )
    assert ear.frames == []


async def test_what_was_missed_while_the_actor_was_away_reaches_every_connection() -> None:
    bench, ear = Bench(), Ear()
    bench.place(1, 2)
    bench.session.connect(ear)
    heard = len(ear.messages)
    bench.link.lose()
    bench.place(1, 2, 3, 4, link=FakeLink("actor-2"))
    assert [message.revision for message in ear.messages[heard:]] == [3, 4]


async def test_a_chunk_whose_last_frame_is_on_its_way_is_committed_when_it_has_come() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    bench.chunk(1, 2)
    bench.packet(1, 0, key=True)
    await ear.changes.until(lambda: ear.frames)
    bench.session._showing.play(asyncio.get_running_loop().time() + 0.01)
    assert bench.link.of("commit") == [], "who dies now has to make it again"
    bench.packet(1, 1)
    assert [each.chunk for each in bench.link.of("commit")] == [0]


async def test_a_chunk_whose_last_frame_does_not_come_is_committed_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(showing, "LATE_S", 0.01)
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    connection.subscribe([VP8], ear)
    bench.chunk(1, 2)
    bench.packet(1, 0, key=True)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    assert len(ear.frames) == 1
