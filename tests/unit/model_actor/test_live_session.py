"""A session on its actor: what it tells whom, and what it does with windows and outputs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np
import pytest
from opentelemetry.context import Context

from model_actor.engine.compute import Compute
from model_actor.engine.live_session import (
    JOURNAL_BYTES,
    EngineServices,
    LiveSession,
    Placement,
)
from model_actor.media.errors import ClipFailedError, ClipRefusedError
from model_actor.media.frames import FrameBlock
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import Model, ModelInfo, SessionOptions, Stage, WindowTask
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.ids import Principal
from scheduler.core.run import WindowPlan

pytestmark = pytest.mark.unit

SIZE = 64
CLIP_FRAMES = 60


class Inverter:
    """A model that inverts, and fails when it is told to."""

    info: ClassVar[ModelInfo] = ModelInfo(
        name="inverter",
        summary="inverts",
        stages=(Stage("generate", 5.0), Stage("commit", 0.0, off_latency_path=True)),
        width=SIZE,
        height=SIZE,
    )

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.fail_at: int | None = None
        self.fail_commit = False

    def configure(self, options: dict[str, str]) -> None: ...

    def load(self) -> None: ...

    def open(self, options: SessionOptions) -> object:
        return options.session_id

    def stage(self, name: str, batch: list[WindowTask]) -> None:
        task = batch[0]
        if name == "commit":
            if self.fail_commit:
                raise ValueError(task.prompt)
            return
        if task.index == self.fail_at:
            raise ValueError(task.prompt)
        self.prompts.append(task.prompt)
        task.result = 255 - task.source

    def snapshot(self, session: object) -> bytes:
        return b""

    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        return options.session_id

    def close(self, session: object) -> None: ...


@dataclass
class Facts:
    width: int = 320
    height: int = 240
    num_frames: int = CLIP_FRAMES


class FakeClip:
    """A clip whose frame n is grey n."""

    facts = Facts()

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.broken_from: int | None = None

    async def read(self, first: int, count: int) -> FrameBlock:
        if self.broken_from is not None and first >= self.broken_from:
            raise ClipFailedError("a clip that was accepted can be decoded no further")
        numbers = np.minimum(np.arange(first, first + count), CLIP_FRAMES - 1).astype(np.uint8)
        frames = np.broadcast_to(numbers[:, None, None], (count, SIZE * 3 // 2, SIZE)).copy()
        return FrameBlock(frames, tuple(range(first, first + count)), lambda: None)

    async def close(self) -> None:
        self.closed.set()


class FakeWorkers:
    """Opens fake clips; refuses when it is told to."""

    def __init__(self) -> None:
        self.refusal: str | None = None
        self.broken = False
        self.clips: list[FakeClip] = []
        self.cameras = 0

    async def open_clip(self, fd: int, **_: Any) -> FakeClip:
        if self.refusal is not None:
            raise ClipRefusedError(self.refusal)
        if self.broken:
            raise OSError("too many open files")
        self.clips.append(FakeClip())
        return self.clips[-1]


class FakeStorage:
    """Has every upload."""

    async def fetch(self, key: str, into: int) -> int:
        return 0


@dataclass
class FakeLedger:
    """Books at once, unless it is told not to."""

    book_now: bool = True
    log: list[str] = field(default_factory=list)
    given_back: asyncio.Event = field(default_factory=asyncio.Event)

    async def book(self, session_id: str, epoch: int) -> tuple[bool, float]:
        self.log.append("book")
        return self.book_now, 7.0

    async def unbook(self, session_id: str, epoch: int) -> None:
        self.log.append("unbook")
        self.given_back.set()


class Gateway:
    """A gateway that plays every chunk at once."""

    def __init__(self, bench: Bench, gateway_id: str = "g1", *, plays: bool = True) -> None:
        self._bench = bench
        self._gateway_id = gateway_id
        self._plays = plays
        self.told: list[stream_pb2.ControlResponse] = []
        self.packets: list[stream_pb2.VideoPacket] = []
        self.room = True
        self.refused = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def gateway_id(self) -> str:
        return self._gateway_id

    def control(self, response: stream_pb2.ControlResponse) -> None:
        copy = stream_pb2.ControlResponse()
        copy.CopyFrom(response)
        self.told.append(copy)
        self._changed.set()
        if self._plays and copy.HasField("chunk"):
            asyncio.get_running_loop().call_soon(self._play, copy.chunk)

    def media(self, packet: stream_pb2.VideoPacket) -> bool:
        if self.room:
            self.packets.append(packet)
            self._changed.set()
        else:
            self.refused.set()
        return self.room

    def _play(self, chunk: stream_pb2.ChunkReady) -> None:
        session = self._bench.session
        report = stream_pb2.Playout(run=chunk.run, next_frame=chunk.first_frame + chunk.frames)
        session.playout(self._gateway_id, report)
        commit = stream_pb2.Commit(run=chunk.run, chunk=chunk.chunk)
        session.commit(self._gateway_id, commit)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for what is told next, until a condition holds."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @property
    def messages(self) -> list[message_pb2.Message]:
        return [each.message.message for each in self.told if each.HasField("message")]

    def kinds(self) -> list[str]:
        return [str(message.WhichOneof("payload")) for message in self.messages]

    def has(self, kind: str, count: int = 1) -> Callable[[], bool]:
        return lambda: self.kinds().count(kind) >= count


class Bench:
    """One session, one model, one or more gateways."""

    def __init__(self) -> None:
        self.model = Inverter()
        self.workers = FakeWorkers()
        self.ledger = FakeLedger()
        self.compute = Compute(cast(Model, self.model))
        self.encoders = ThreadPoolExecutor(1)
        services = EngineServices(
            info=self.model.info,
            workers=cast(DecodeWorkers, self.workers),
            storage=cast(Any, FakeStorage()),
            encoders=self.encoders,
            ledger=self.ledger,
            wake_compute=self.compute.wake,
            bitrate=300_000,
            start_wait_s=5.0,
        )
        placement = Placement("s1", 3, Principal("t", frozenset()), "inverter", Context())
        self.session = LiveSession(placement, services, "state")
        self._ids = 0

    def command(
        self, gateway: Gateway, command: command_pb2.Command, connection_id: int = 1002
    ) -> str:
        self._ids += 1
        command.command_id = command.command_id or f"c{self._ids}"
        self.session.command(
            gateway.gateway_id,
            stream_pb2.SessionCommand(connection_id=connection_id, command=command),
        )
        return command.command_id

    def stage_clip(self, gateway: Gateway, prompt: str = "one") -> None:
        file = command_pb2.FileRef(upload_id="u1")
        mode = command_pb2.SetMode(mode=command_pb2.MODE_FILE)
        self.command(gateway, command_pb2.Command(set_mode=mode))
        self.command(gateway, command_pb2.Command(set_video=command_pb2.SetVideo(video=file)))
        self.command(gateway, command_pb2.Command(set_prompt=command_pb2.SetPrompt(prompt=prompt)))

    def start(self, gateway: Gateway) -> str:
        return self.command(gateway, command_pb2.Command(start=command_pb2.Start()))


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
    bench.encoders.shutdown()


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
    async with asyncio.timeout(5):
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
    async with asyncio.timeout(5):
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
    async with asyncio.timeout(10):
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
    bench.session.finish_window(plan, np.zeros((24, 96, 64), np.uint8), (0,) * 24, None, [])  # type: ignore[arg-type]
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
