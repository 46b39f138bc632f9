"""Gateways that come, share a session, and are lost: its clock, its chunks, its camera."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from model_actor.engine.outputs import LEAD_S
from sana_gateway.v1 import command_pb2, media_pb2
from sana_gateway_internal.v1 import stream_pb2
from tests.unit.model_actor.session_bench import CLIP_FRAMES, Bench, FakeCamera, Gateway

pytestmark = pytest.mark.unit

VP8 = media_pb2.CODEC_VP8


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    computing = asyncio.create_task(bench.compute.run(lambda: [bench.session]))
    yield bench
    computing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await computing
    await bench.session.close("test over")
    await bench.compute.close()
    bench.encoders.close()


def announced(gateway: Gateway) -> list[tuple[int, int, int]]:
    """Returns (chunk, first frame, frames) of what a gateway was told of, in order."""
    chunks = [each.chunk for each in gateway.told if each.HasField("chunk")]
    return [(chunk.chunk, chunk.first_frame, chunk.frames) for chunk in chunks]


async def first_window(bench: Bench, gateway: Gateway) -> None:
    """Plays the clip until a gateway that commits nothing was told of the first window."""
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(lambda: len(announced(gateway)) == 2)


def stands_at(bench: Bench, gateway: Gateway, frame: int) -> None:
    """The gateway's clock will show a frame in a minute, and none before."""
    report = stream_pb2.Playout(run=1, next_frame=frame, due_in_us=60_000_000, buffered=33 - frame)
    bench.session.playout(gateway.gateway_id, report)


def watch(bench: Bench, gateway: Gateway) -> None:
    wanted = stream_pb2.OutputDemand(
        output=stream_pb2.Output(codec=VP8), wanted=True, keyframe=True
    )
    bench.session.demand(gateway.gateway_id, wanted)


async def test_the_next_gateway_goes_on_at_the_first_frame_that_was_not_shown(
    bench: Bench,
) -> None:
    lost, adopting = Gateway(bench, plays=False), Gateway(bench, "g2", plays=False)
    await first_window(bench, lost)
    stands_at(bench, lost, 5)
    bench.session.leave("g1")
    bench.session.open(adopting)
    watch(bench, adopting)
    assert announced(adopting) == [(0, 5, 4), (1, 9, 24)]
    await adopting.until(lambda: len(adopting.packets) >= 3)
    # The gateway's own word of its clock; its start buffer is over.
    bench.session.playout("g2", stream_pb2.Playout(run=1, next_frame=5, due_in_us=0, buffered=28))
    await adopting.until(lambda: len(adopting.packets) >= 20)
    shown = [packet for packet in adopting.packets if not packet.held]
    frames = [packet.frame for packet in shown]
    # On a busy machine those that would come too late are left out.
    assert (frames[0], frames) == (5, sorted(set(frames)))
    assert adopting.packets[0].keyframe


async def test_a_session_that_was_adopted_is_played_to_its_end(bench: Bench) -> None:
    lost, adopting = Gateway(bench, plays=False), Gateway(bench, "g2")
    await first_window(bench, lost)
    stands_at(bench, lost, 12)
    bench.session.leave("g1")
    bench.session.open(adopting)
    await adopting.until(adopting.has("generation_complete"))
    # Chunk 0 was shown to its end by the lost gateway: nobody is to show it again.
    assert announced(adopting)[0] == (1, 12, 21)
    done = [m.chunk_complete for m in adopting.messages if m.HasField("chunk_complete")]
    assert [chunk.chunk_index for chunk in done] == [0, 1, 2, 3]
    assert sum(chunk.frames_emitted for chunk in done) == CLIP_FRAMES


async def test_a_session_is_adopted_when_nothing_waits(bench: Bench) -> None:
    lost, adopting = Gateway(bench), Gateway(bench, "g2")
    bench.session.open(lost)
    bench.stage_clip(lost)
    await lost.until(lost.has("video_accepted"))
    bench.start(lost)
    await lost.until(lost.has("chunk_complete", 2))
    bench.session.leave("g1")
    bench.session.open(adopting)
    await adopting.until(adopting.has("generation_complete"))


async def test_who_joins_in_mid_run_is_told_of_what_is_not_yet_due(bench: Bench) -> None:
    owner, other = Gateway(bench, plays=False), Gateway(bench, "g2", plays=False)
    await first_window(bench, owner)
    stands_at(bench, owner, 11)
    bench.session.open(other)
    assert announced(other) == [(1, 11, 22)]


async def test_only_the_owners_clock_and_commits_count(bench: Bench) -> None:
    owner, other = Gateway(bench, plays=False), Gateway(bench, "g2", plays=False)
    await first_window(bench, owner)
    stands_at(bench, owner, 3)
    bench.session.open(other)
    clock = bench.session.clock
    bench.session.playout("g2", stream_pb2.Playout(run=1, next_frame=30, due_in_us=0))
    bench.session.commit("g2", stream_pb2.Commit(run=1, chunk=0))
    assert bench.session.clock == clock
    assert "chunk_complete" not in owner.kinds()
    bench.session.commit("g1", stream_pb2.Commit(run=1, chunk=0))
    assert "chunk_complete" in other.kinds()


async def test_the_heir_owns_the_clock_from_its_first_word(bench: Bench) -> None:
    owner, heir = Gateway(bench, plays=False), Gateway(bench, "g2", plays=False)
    await first_window(bench, owner)
    stands_at(bench, owner, 3)
    bench.session.open(heir)
    bench.session.leave("g1")
    # It is told again of all that waits, also of what it may have shown already.
    assert announced(heir) == [(0, 3, 6), (1, 9, 24), (0, 0, 9), (1, 9, 24)]
    bench.session.playout("g2", stream_pb2.Playout(run=1, next_frame=8, due_in_us=0, buffered=25))
    assert bench.session.clock is not None
    assert bench.session.clock.next_frame == 8
    bench.session.commit("g2", stream_pb2.Commit(run=1, chunk=0))
    assert "chunk_complete" in heir.kinds()


async def test_a_gateway_that_comes_again_is_the_last_in_line(bench: Bench) -> None:
    first, second = Gateway(bench, plays=False), Gateway(bench, "g2", plays=False)
    await first_window(bench, first)
    bench.session.open(second)
    bench.session.leave("g1")
    bench.session.open(first)
    bench.session.commit("g1", stream_pb2.Commit(run=1, chunk=0))
    assert "chunk_complete" not in first.kinds()


async def test_frames_are_encoded_before_any_gateway_has_answered(bench: Bench) -> None:
    gateway = Gateway(bench, plays=False)
    bench.session.open(gateway)
    watch(bench, gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(lambda: bool(gateway.packets))
    packet = gateway.packets[0]
    assert (packet.run, packet.frame, packet.keyframe) == (1, 0, True)


async def test_a_report_sets_when_the_next_window_is_wanted(bench: Bench) -> None:
    gateway = Gateway(bench, plays=False)
    await first_window(bench, gateway)
    now = asyncio.get_running_loop().time()
    stands_at(bench, gateway, 9)
    candidate = bench.session.candidate(now, 0.05)
    while candidate is None:  # the window is still being read
        await asyncio.sleep(0)
        candidate = bench.session.candidate(now, 0.05)
    assert candidate.deadline == pytest.approx(now + 60 + 24 / 24 - LEAD_S, abs=5)
    assert candidate.ahead == 24
    bench.session.playout("g1", stream_pb2.Playout(run=1, next_frame=33, due_in_us=-1, underruns=1))
    await gateway.until(lambda: len(announced(gateway)) == 3)


# -- the camera ---------------------------------------------------------------------------------


def publishes(bench: Bench, gateway: Gateway, *, published: bool = True) -> None:
    status = stream_pb2.CameraStatus(published=published)
    bench.session.camera_status(gateway.gateway_id, status)


def send(bench: Bench, gateway: Gateway, data: bytes, timestamp_us: int) -> None:
    packet = stream_pb2.CameraPacket(codec=VP8, keyframe=True, timestamp_us=timestamp_us, data=data)
    bench.session.camera_packet(gateway.gateway_id, packet)


async def live(bench: Bench, *gateways: Gateway) -> FakeCamera:
    """Starts a live run on the first gateway's camera; returns its decoder."""
    for gateway in gateways:
        bench.session.open(gateway)
        publishes(bench, gateway)
    prompt = command_pb2.SetPrompt(prompt="p")
    bench.command(gateways[0], command_pb2.Command(set_prompt=prompt))
    bench.start(gateways[0])
    send(bench, gateways[0], b"wake", 0)
    async with asyncio.timeout(30):
        return await bench.workers.cameras.get()


async def test_only_the_first_publishers_packets_count(bench: Bench) -> None:
    first, second = Gateway(bench), Gateway(bench, "g2")
    camera = await live(bench, first, second)
    send(bench, first, b"a", 1)
    send(bench, second, b"b", 2)
    assert [packet.data for packet in camera.packets] == [b"a"]
    publishes(bench, second, published=False)
    send(bench, first, b"c", 3)
    assert [packet.data for packet in camera.packets] == [b"a", b"c"]
    assert [packet.discontinuity for packet in camera.packets] == [False, False]


@pytest.mark.parametrize("how", ["unpublished", "gone"])
async def test_the_second_publisher_counts_when_the_first_has_left(bench: Bench, how: str) -> None:
    first, second = Gateway(bench), Gateway(bench, "g2")
    camera = await live(bench, first, second)
    send(bench, first, b"a", 1)
    if how == "gone":
        bench.session.leave("g1")
    else:
        publishes(bench, first, published=False)
    assert any(each.HasField("camera_keyframe") for each in second.told)
    send(bench, first, b"late", 2)
    send(bench, second, b"b", 3)
    assert [packet.data for packet in camera.packets] == [b"a", b"b"]
    assert camera.packets[1].discontinuity, "another camera's frames do not follow on"


async def test_the_publisher_alone_is_asked_for_a_keyframe(bench: Bench) -> None:
    first, second = Gateway(bench), Gateway(bench, "g2")
    camera = await live(bench, first, second)
    camera.ask_keyframe()
    assert any(each.HasField("camera_keyframe") for each in first.told)
    assert not any(each.HasField("camera_keyframe") for each in second.told)


# -- what a chunk answers -----------------------------------------------------------------------


async def ages(gateway: Gateway) -> list[tuple[int, bool, bool]]:
    """Returns (chunk, whether it answers a command, whether it says since when)."""
    await gateway.until(gateway.has("generation_complete"))
    chunks = [each.chunk for each in gateway.told if each.HasField("chunk")]
    return [(each.chunk, each.answers_command, each.command_age_us > 0) for each in chunks]


async def test_the_first_chunk_answers_start_and_a_later_one_the_prompt(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(gateway.has("generation_started"))
    bench.command(gateway, command_pb2.Command(set_prompt=command_pb2.SetPrompt(prompt="two")))
    answers = await ages(gateway)
    assert answers[:2] == [(0, True, True), (1, False, False)]
    assert sum(answered for _, answered, _ in answers) == 2
    assert all(answered == aged for _, answered, aged in answers)


async def test_refused_and_repeated_commands_are_answered_by_no_chunk(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    started = bench.start(gateway)
    await gateway.until(gateway.has("generation_started"))
    bench.command(gateway, command_pb2.Command(start=command_pb2.Start()))
    bench.command(gateway, command_pb2.Command(command_id=started, start=command_pb2.Start()))
    bench.command(gateway, command_pb2.Command(set_prompt=command_pb2.SetPrompt(prompt="")))
    answers = await ages(gateway)
    assert [chunk for chunk, answered, _ in answers if answered] == [0]
