"""A session on its actor: what it tells whom, and what it does with windows and outputs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest

from model_actor.engine.participants import JOURNAL_BYTES
from model_actor.engine.showing import Showing
from model_actor.engine.tracing import Answers
from model_actor.plugin import Frames, Stage, WindowTask
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.geometry import Geometry
from scheduler.core.prompts import Share
from scheduler.core.run import WindowPlan
from tests.unit.model_actor.session_bench import CLIP_FRAMES, SIZE, Bench, Gateway, Inverter

pytestmark = pytest.mark.unit


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched(Bench()) as bench:
        yield bench


@contextlib.asynccontextmanager
async def benched(bench: Bench) -> AsyncIterator[Bench]:
    """Lets a bench compute."""
    computing = asyncio.create_task(bench.compute.run(lambda: [bench.session]))
    yield bench
    computing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await computing
    await bench.session.close("test over")
    await bench.compute.close()
    bench.encoders.close()


async def test_a_gateway_that_opens_is_sent_the_journal_and_then_a_state(bench: Bench) -> None:
    first, second = Gateway(bench), Gateway(bench, "g2")
    bench.session.open(first)
    bench.command(first, command_pb2.Command(set_seed=command_pb2.SetSeed(seed=5)))
    bench.session.open(second)
    opened = second.told[0].opened
    assert opened.epoch == 3
    assert [m.revision for m in opened.journal] == list(range(1, len(opened.journal) + 1))
    assert opened.journal[-1].state.seed == 5
    assert second.messages[0].state.seed == 5


async def test_a_clip_is_played_to_its_end_in_chunks_of_9_24_24_3(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(gateway.has("generation_complete"))
    done = [m.chunk_complete for m in gateway.messages if m.HasField("chunk_complete")]
    assert [chunk.frames_emitted for chunk in done] == [9, 24, 24, 3]
    assert [chunk.chunk_index for chunk in done] == [0, 1, 2, 3]
    final = gateway.messages[-1].state
    assert (final.started, final.has_video, final.current_chunk) == (False, True, 4)
    async with asyncio.timeout(30):
        await bench.ledger.given_back.wait()
    assert bench.ledger.log == ["book", "unbook"], "compute is given back at the end"


async def test_a_prompt_lands_in_a_later_window(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(gateway.has("generation_started"))
    bench.command(gateway, command_pb2.Command(set_prompt=command_pb2.SetPrompt(prompt="two")))
    await gateway.until(gateway.has("generation_complete"))
    assert bench.model.prompts[0] == "one"
    assert bench.model.prompts[-1] == "two"
    done = [m.chunk_complete for m in gateway.messages if m.HasField("chunk_complete")]
    active = [chunk.active_prompt for chunk in done]
    assert active[0] == "one"
    assert active[-1] == "two"


async def test_a_command_that_the_model_does_not_have_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    info = bench.session._info
    few = tuple(name for name in info.commands if name != "set_seed")
    monkeypatch.setattr(bench.session, "_info", dataclasses.replace(info, commands=few))
    bench.command(gateway, command_pb2.Command(set_seed=command_pb2.SetSeed(seed=5)))
    (refused,) = [each.command_error for each in gateway.messages if each.HasField("command_error")]
    assert (refused.command, refused.code) == (
        "set_seed",
        message_pb2.REJECT_REASON_UNKNOWN_COMMAND,
    )
    assert gateway.messages[-1].state.seed == 0
    bench.command(gateway, command_pb2.Command(set_mode=command_pb2.SetMode(mode="MODE_FILE")))
    assert gateway.messages[-1].state.mode == command_pb2.MODE_FILE


async def test_a_refusal_reaches_the_asker_alone_and_its_gateway_alone(bench: Bench) -> None:
    asking, other = Gateway(bench), Gateway(bench, "g2")
    bench.session.open(asking)
    bench.session.open(other)
    bench.command(asking, command_pb2.Command(pause=command_pb2.Pause()), connection_id=1007)
    told = [each.message for each in asking.told]
    refused = [each for each in told if each.message.HasField("command_error")]
    assert [each.connection_id for each in refused] == [1007]
    assert refused[0].message.command_error.code == message_pb2.REJECT_REASON_WRONG_PHASE
    assert "command_error" not in other.kinds()
    ack = asking.told[-1].ack
    assert (ack.connection_id, ack.accepted) == (1007, False)


async def test_the_command_id_goes_to_the_askers_gateway_alone(bench: Bench) -> None:
    asking, other = Gateway(bench), Gateway(bench, "g2")
    bench.session.open(asking)
    bench.session.open(other)
    prompt = command_pb2.SetPrompt(prompt="p")
    sent = bench.command(asking, command_pb2.Command(set_prompt=prompt))
    accepted = [m for m in asking.messages if m.HasField("prompt_accepted")]
    assert accepted[0].command_id == sent
    assert [m.command_id for m in other.messages if m.HasField("prompt_accepted")] == [""]


async def test_a_repeated_command_is_acknowledged_and_changes_nothing(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    prompt = command_pb2.SetPrompt(prompt="p")
    for _ in range(2):
        bench.command(gateway, command_pb2.Command(command_id="same", set_prompt=prompt))
    assert gateway.kinds().count("prompt_accepted") == 1
    assert [each.ack.command_id for each in gateway.told if each.HasField("ack")] == ["same"] * 2


async def test_a_refused_clip_leaves_the_session_as_it_was(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.workers.refusal = "a clip must have at least 33 frames"
    file = command_pb2.FileRef(upload_id="u1")
    bench.command(gateway, command_pb2.Command(set_video=command_pb2.SetVideo(video=file)))
    await gateway.until(gateway.has("command_error"))
    error = next(m.command_error for m in gateway.messages if m.HasField("command_error"))
    assert error.code == message_pb2.REJECT_REASON_BAD_VIDEO
    assert "33 frames" in error.reason
    assert not gateway.messages[-1].state.has_video


async def test_a_clip_that_replaces_another_releases_it(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted", 2))
    async with asyncio.timeout(30):
        await bench.workers.clips[0].closed.wait()
    assert not bench.workers.clips[1].closed.is_set()


async def test_a_failing_model_ends_the_run_and_not_the_session(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.model.fail_at = 1
    bench.stage_clip(gateway, prompt="secret words")
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(gateway.has("command_error"))
    error = next(m.command_error for m in gateway.messages if m.HasField("command_error"))
    assert error.code == message_pb2.REJECT_REASON_MODEL_FAILED
    assert "secret" not in error.reason
    assert any(each.HasField("abandoned") for each in gateway.told)
    bench.model.fail_at = None
    bench.start(gateway)
    await gateway.until(gateway.has("generation_complete"))


async def test_no_compute_is_a_refusal_that_says_when_to_come_again(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.ledger.book_now = False
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(gateway.has("command_error"))
    error = next(m.command_error for m in gateway.messages if m.HasField("command_error"))
    assert error.code == message_pb2.REJECT_REASON_NO_CAPACITY
    assert error.retry_after_s == 7.0
    assert not gateway.messages[-1].state.started


async def test_without_a_gateway_no_window_is_dispatched(bench: Bench) -> None:
    gateway = Gateway(bench, plays=False)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.session.leave("g1")
    assert not bench.session.has_gateway("g1")
    bench.start(gateway)
    again = Gateway(bench, "g2")
    assert bench.session.candidate(0.0, 0.1) is None
    bench.session.open(again)
    await again.until(again.has("generation_complete"))


async def test_reset_voids_the_run_under_way(bench: Bench) -> None:
    gateway = Gateway(bench, plays=False)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(gateway.has("generation_started"))
    bench.command(gateway, command_pb2.Command(reset=command_pb2.Reset()))
    at = gateway.kinds().index("generation_reset")
    abandoned = next(each.abandoned for each in gateway.told if each.HasField("abandoned"))
    bench.command(gateway, command_pb2.Command(set_seed=command_pb2.SetSeed(seed=1)))
    await asyncio.sleep(0)
    assert set(gateway.kinds()[at + 1 :]) == {"state"}
    assert abandoned.next_run > 1
    assert not gateway.messages[-1].state.has_video


async def test_an_output_is_encoded_once_for_all_gateways_and_starts_with_a_keyframe(
    bench: Bench,
) -> None:
    first, second = Gateway(bench), Gateway(bench, "g2", plays=False)
    bench.session.open(first)
    bench.session.open(second)
    wanted = stream_pb2.OutputDemand(
        output=stream_pb2.Output(codec=media_pb2.CODEC_VP8), wanted=True
    )
    bench.session.demand("g1", wanted)
    bench.session.demand("g2", wanted)
    bench.stage_clip(first)
    await first.until(first.has("video_accepted"))
    first._plays = False
    bench.start(first)
    await first.until(lambda: any(each.HasField("chunk") for each in first.told))
    bench.session.playout("g1", stream_pb2.Playout(run=1, next_frame=0, due_in_us=0))
    await first.until(lambda: len(first.packets) >= 9)
    await second.until(lambda: len(second.packets) >= 9)
    assert [packet.frame for packet in first.packets[:9]] == list(range(9))
    assert first.packets[0].keyframe
    assert not any(packet.keyframe for packet in first.packets[1:9])
    assert [p.data for p in second.packets[:9]] == [p.data for p in first.packets[:9]]
    assert {packet.epoch for packet in first.packets} == {3}


async def test_a_joiner_gets_a_keyframe_of_the_held_picture(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(gateway.has("generation_complete"))
    wanted = stream_pb2.OutputDemand(
        output=stream_pb2.Output(codec=media_pb2.CODEC_H264), wanted=True, keyframe=True
    )
    bench.session.demand("g1", wanted)
    await gateway.until(lambda: bool(gateway.packets))
    packet = gateway.packets[0]
    assert (packet.held, packet.keyframe, packet.frame) == (True, True, CLIP_FRAMES - 1)


async def test_after_a_reset_the_picture_that_holds_is_the_one_on_the_screens(
    bench: Bench,
) -> None:
    gateway = Gateway(bench, plays=False)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(lambda: any(each.HasField("chunk") for each in gateway.told))
    # The gateway's clock stands in the middle of a chunk, which is never committed.
    bench.session.playout("g1", stream_pb2.Playout(run=1, next_frame=5, due_in_us=60_000_000))
    assert bench.session.store.held is None
    bench.command(gateway, command_pb2.Command(reset=command_pb2.Reset()))
    assert bench.session.store.held is not None
    assert bench.session.store.held.frame == 4


async def test_a_gateway_without_room_is_given_a_keyframe_next(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(gateway.has("generation_complete"))
    gateway.room = False
    wanted = stream_pb2.OutputDemand(
        output=stream_pb2.Output(codec=media_pb2.CODEC_VP8), wanted=True, keyframe=True
    )
    bench.session.demand("g1", wanted)
    async with asyncio.timeout(30):
        await gateway.refused.wait()
    gateway.room = True
    await gateway.until(lambda: bool(gateway.packets))
    assert gateway.packets[0].keyframe


async def test_a_gateway_that_joins_later_is_told_of_the_chunks_that_wait(bench: Bench) -> None:
    first, second = Gateway(bench, plays=False), Gateway(bench, "g2")
    bench.session.open(first)
    bench.stage_clip(first)
    await first.until(first.has("video_accepted"))
    bench.start(first)
    await first.until(lambda: sum(each.HasField("chunk") for each in first.told) >= 2)
    bench.session.leave("g1")
    bench.session.open(second)
    await second.until(second.has("generation_complete"))
    announced = [each.chunk.chunk for each in second.told if each.HasField("chunk")]
    assert announced == [0, 1, 2, 3]


async def test_a_commit_answers_for_the_chunks_before_it(bench: Bench) -> None:
    gateway = Gateway(bench, plays=False)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(lambda: sum(each.HasField("chunk") for each in gateway.told) >= 2)
    run = next(each.chunk.run for each in gateway.told if each.HasField("chunk"))
    bench.session.commit("g1", stream_pb2.Commit(run=run, chunk=1))
    done = [m.chunk_complete.chunk_index for m in gateway.messages if m.HasField("chunk_complete")]
    assert done == [0, 1]
    assert bench.session.store.held is not None
    assert bench.session.store.held.frame == 32


async def test_a_clip_that_breaks_off_ends_the_run_with_an_answer(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.workers.clips[0].broken_from = 33
    bench.start(gateway)
    await gateway.until(gateway.has("command_error"))
    assert gateway.messages[-1].state.started is False
    bench.workers.clips[0].broken_from = None
    bench.start(gateway)
    await gateway.until(gateway.has("generation_complete"))


async def test_a_probe_that_fails_in_an_unforeseen_way_is_answered(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.workers.broken = True
    file = command_pb2.FileRef(upload_id="u1")
    bench.command(gateway, command_pb2.Command(set_video=command_pb2.SetVideo(video=file)))
    await gateway.until(gateway.has("command_error"))


async def test_a_failure_after_the_frames_are_out_harms_no_other_window(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.model.fail_commit = True
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(gateway.has("command_error"))
    bench.model.fail_commit = False
    bench.start(gateway)
    await gateway.until(gateway.has("generation_complete"))


async def test_a_gateway_that_becomes_the_owner_answers_for_what_it_has_shown(
    bench: Bench,
) -> None:
    owner, other = Gateway(bench, plays=False), Gateway(bench, "g2")
    bench.session.open(owner)
    bench.session.open(other)
    bench.stage_clip(owner)
    await owner.until(owner.has("video_accepted"))
    bench.start(owner)
    await owner.until(lambda: sum(each.HasField("chunk") for each in owner.told) >= 2)
    assert "chunk_complete" not in owner.kinds(), "only the owner's commits count"
    bench.session.leave("g1")
    await other.until(other.has("generation_complete"))


async def test_a_session_that_has_ended_takes_nothing_up_again(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(gateway.has("generation_started"))
    await bench.session.close("over")
    told = len(gateway.told)
    bench.command(gateway, command_pb2.Command(start=command_pb2.Start()))
    plan = WindowPlan(1, 1, 33, 24, 24, (), "p", 0, last=False)
    bench.session.finish_window(plan, np.zeros((24, 96, 64), np.uint8), (0,) * 24, None, Answers())  # type: ignore[arg-type]
    bench.session.fail_window(plan)
    assert len(gateway.told) == told
    assert bench.session.candidate(0.0, 0.1) is None


async def test_the_journal_a_gateway_is_sent_stays_small(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    for number in range(200):
        prompt = command_pb2.SetPrompt(prompt=chr(0x4E00 + number) * 9_999)
        bench.command(gateway, command_pb2.Command(set_prompt=prompt))
    late = Gateway(bench, "g2")
    bench.session.open(late)
    opened = late.told[0].opened
    assert opened.ByteSize() < JOURNAL_BYTES * 1.1
    assert opened.journal[-1].HasField("state")


async def test_a_packet_carries_the_time_of_the_source_frame_it_answers(bench: Bench) -> None:
    gateway = Gateway(bench, plays=False)
    bench.session.open(gateway)
    bench.session.demand(
        "g1",
        stream_pb2.OutputDemand(output=stream_pb2.Output(codec=media_pb2.CODEC_VP8), wanted=True),
    )
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.start(gateway)
    await gateway.until(lambda: any(each.HasField("chunk") for each in gateway.told))
    bench.session.playout("g1", stream_pb2.Playout(run=1, next_frame=0, buffered=33))
    await gateway.until(lambda: len(gateway.packets) >= 9)
    # The bench's clip says that frame n is presented at n microseconds.
    assert [(each.frame, each.source_us) for each in gateway.packets[:9]] == [
        (number, number) for number in range(9)
    ]


# -- prompts ------------------------------------------------------------------------------


def transition(prompt: str, chunks: int) -> command_pb2.Command:
    return command_pb2.Command(
        set_prompt=command_pb2.SetPrompt(prompt=prompt, transition_chunks=chunks)
    )


def declare(bench: Bench, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    info = dataclasses.replace(bench.session._info, **changes)
    monkeypatch.setattr(bench.session, "_info", info)


async def test_a_model_that_changes_prompts_at_once_refuses_a_transition(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.command(gateway, transition("one", 2))
    (refused,) = [each.command_error for each in gateway.messages if each.HasField("command_error")]
    assert (refused.command, refused.code) == ("set_prompt", message_pb2.REJECT_REASON_BAD_ARGUMENT)
    assert "transition_chunks" in refused.reason
    assert not gateway.messages[-1].state.has_prompt
    bench.command(gateway, transition("one", 0))
    assert gateway.messages[-1].state.has_prompt


async def test_a_transition_reaches_the_model_window_by_window(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(bench, monkeypatch, prompt_transitions=True)
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.model.at_generate[0] = lambda: bench.command(gateway, transition("two", 1))
    bench.start(gateway)
    await gateway.until(gateway.has("generation_complete"))
    assert bench.model.prompts == ["one", "two", "two"]
    assert bench.model.mixtures == [(), (Share("one", 0.5),), ()]


async def test_a_prompt_that_comes_before_the_model_looks_at_it_lands_in_the_window(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = (Stage("encode", 1.0), *bench.model.info.stages)
    info = dataclasses.replace(bench.model.info, stages=stages)
    monkeypatch.setattr(type(bench.model), "info", info)
    gateway = Gateway(bench, plays=False)
    bench.session.open(gateway)
    bench.stage_clip(gateway)
    await gateway.until(gateway.has("video_accepted"))
    bench.model.at_encode[0] = lambda: bench.command(gateway, transition("two", 0))
    bench.start(gateway)
    await gateway.until(lambda: any(each.HasField("chunk") for each in gateway.told))
    assert bench.model.prompts[0] == "two"
    first = next(at for at, each in enumerate(gateway.told) if each.HasField("chunk"))
    before = [each.snapshot.snapshot for each in gateway.told[:first] if each.HasField("snapshot")]
    snapshot = before[-1]
    assert snapshot.run.kept.prompts == ["two"], "who goes on elsewhere makes it the same way"
    assert [each.prompt for each in snapshot.run.unshown] == ["two", "two"]
    assert gateway.told[first].chunk.answers_command


async def test_prompts_are_given_to_the_model_to_read_when_they_are_set(bench: Bench) -> None:
    gateway = Gateway(bench)
    bench.session.open(gateway)
    bench.command(gateway, transition("one", 0))
    bench.command(gateway, transition(" ", 0))
    async with asyncio.timeout(20):
        while not bench.model.read:
            await bench.compute.call(lambda: None)
    assert bench.model.read == ["one"], "and not one that was refused"


async def test_frames_that_are_owed_carry_the_times_of_their_own_source(bench: Bench) -> None:
    plans = [
        WindowPlan(1, 0, 0, 33, 17, (), "", 0, last=False, owed=16),
        WindowPlan(1, 1, 33, 24, 24, (), "", 0, last=False, carried=16, owed=16),
        WindowPlan(1, 2, 57, 24, 40, (), "", 0, last=True, carried=16),
    ]
    times: list[int] = []
    for plan in plans:
        own = range(plan.first_frame, plan.first_frame + plan.source_frames)
        made = bench.session._source_times(plan, tuple(own))
        assert len(made) == plan.made
        times += made
    assert times == list(range(81))
    bench.session._owed_us = ()
    step = 1e6 / bench.session._info.frame_rate
    own = tuple(round(index * step) for index in range(100, 124))
    elsewhere = bench.session._source_times(plans[1], own)
    expected = [round(index * step) for index in range(84, 108)]
    assert list(elsewhere) == pytest.approx(expected, abs=1)


class Ahead(Inverter):
    """Looks ahead: the last 16 frames of a window come with the next one."""

    info = dataclasses.replace(Inverter.info, geometry=Geometry(lag=16))

    def __init__(self) -> None:
        super().__init__()
        self.owed = np.empty((0, SIZE * 3 // 2, SIZE), np.uint8)

    def stage(self, name: str, batch: list[WindowTask]) -> None:
        super().stage(name, batch)
        (task,) = batch
        if name == "generate" and task.result is not None:
            made = np.concatenate((self.owed, task.result)) if task.index else task.result
            task.result = made if task.last else made[:-16]
            self.owed = made[-16:]


async def test_a_model_that_looks_ahead_answers_every_frame_in_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[tuple[int, int, int]] = []
    finished = Showing.finished

    def noted(
        self: Showing, plan: WindowPlan, frames: Frames, source_us: Sequence[int], *rest: Any
    ) -> list[stream_pb2.ChunkReady]:
        greys = [255 - int(each[0, 0]) for each in frames[: plan.frames]]
        of_run = range(plan.answers_from, plan.answers_from + plan.frames)
        shown.extend(zip(of_run, greys, source_us[: plan.frames], strict=True))
        return finished(self, plan, frames, source_us, *rest)

    monkeypatch.setattr(Showing, "finished", noted)
    async with benched(Bench(Ahead())) as bench:
        gateway = Gateway(bench)
        bench.session.open(gateway)
        bench.stage_clip(gateway)
        await gateway.until(gateway.has("video_accepted"))
        bench.start(gateway)
        await gateway.until(gateway.has("generation_complete"))
    done = [m.chunk_complete for m in gateway.messages if m.HasField("chunk_complete")]
    assert [chunk.frames_emitted for chunk in done] == [17, 24, 19]
    assert shown == [(frame, frame, frame) for frame in range(CLIP_FRAMES)]
