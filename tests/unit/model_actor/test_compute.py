"""The compute loop: stages, batches, failures, and what sessions are told of them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import ClassVar, cast

import numpy as np
import pytest

from model_actor.engine import compute as module
from model_actor.engine.compute import Compute, ModelHangsError
from model_actor.engine.tracing import Answers, WindowTiming
from model_actor.media.frames import FrameBlock
from model_actor.plugin import (
    FewerSteps,
    Frames,
    Model,
    ModelInfo,
    SessionOptions,
    Stage,
    WindowTask,
)
from scheduler.core.chunks import Candidate
from scheduler.core.geometry import Geometry
from scheduler.core.quality import FULL, Quality
from scheduler.core.run import WindowPlan

pytestmark = pytest.mark.unit

GEOMETRY = Geometry(first_window=3, window=2, chunk=2)
SIZE = 4


class Recorder:
    """A model that writes down its calls and fails where it is told to."""

    info: ClassVar[ModelInfo] = ModelInfo(
        name="recorder",
        summary="Writes down.",
        stages=(
            Stage("encode", 1),
            Stage("generate", 1),
            Stage("commit", 1, off_latency_path=True),
        ),
        width=SIZE,
        height=SIZE,
        geometry=GEOMETRY,
        max_batch=3,
        degraded_steps=(FewerSteps(1, 0.5),),
    )

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails: set[tuple[str, str]] = set()
        """Stages that fail, by their session."""
        self.bad: set[str] = set()
        """Sessions whose results are none."""
        self.steps: dict[str, int] = {}
        """With how many steps a session's last window was made."""
        self.prompts: dict[str, list[str]] = {}
        """The prompts that each stage was given."""
        self.on_stage: Callable[[str], None] = lambda _: None
        self.unreadable = ""

    def configure(self, options: dict[str, str]) -> None: ...

    def load(self) -> None: ...

    def open(self, options: SessionOptions) -> object:
        return options.session_id

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        names = [str(task.session) for task in batch]
        self.calls.append(f"{name} {'+'.join(names)}")
        self.prompts.setdefault(name, []).extend(task.prompt for task in batch)
        self.on_stage(name)
        self.steps.update((str(task.session), task.steps) for task in batch)
        if any((name, session) in self.fails for session in names):
            raise ValueError(name)
        if name == "generate":
            for task in batch:
                task.result = task.source[:1] if task.session in self.bad else 255 - task.source

    def snapshot(self, session: object) -> bytes:
        self.calls.append(f"snapshot {session}")
        return b""

    def restore(self, options: SessionOptions, snapshot: bytes) -> object:
        return options.session_id

    def close(self, session: object) -> None: ...

    def read_prompt(self, prompt: str) -> None:
        self.calls.append(f"read {prompt}")
        if prompt == self.unreadable:
            raise ValueError(prompt)


class FakeSession:
    """A session with windows to do, one after another."""

    def __init__(self, bench: Bench, key: str, *, windows: int = 1, index: int = 1) -> None:
        self.state: object = key
        self.quality = FULL
        self.closed = False
        self.told: list[str] = []
        self.released = 0
        self.costs: list[float] = []
        self.due_in = 100.0
        self.prompt: str | None = None
        """What a client sets between the stages."""
        self.answers: Answers | None = None
        self._bench = bench
        self._left = windows
        self._index = index

    def candidate(self, now: float, cost_s: float) -> Candidate | None:
        self.costs.append(cost_s)
        if self.closed or not self._left:
            return None
        first = self._index == 0
        return Candidate(
            key=str(self.state),
            ready_at=now,
            deadline=now + self.due_in,
            live=True,
            cost_s=cost_s,
            ahead=0,
            first=first,
            steps=self.quality.steps,
        )

    def begin_window(self) -> tuple[WindowPlan, FrameBlock, WindowTiming, Answers]:
        count = GEOMETRY.window_size(self._index)
        first = GEOMETRY.window_start(self._index)
        plan = WindowPlan(1, self._index, first, count, count, (), "", 0, last=False)
        self._left -= 1
        self._index += 1
        frames = np.zeros((count, SIZE * 3 // 2, SIZE), np.uint8)
        return plan, FrameBlock(frames, (0,) * count, self._release), WindowTiming(0, 0), Answers()

    def _release(self) -> None:
        self.released += 1

    source_clip = ""

    def latch(self, plan: WindowPlan) -> tuple[WindowPlan, Answers] | None:
        if self.prompt is None:
            return None
        prompt, self.prompt = self.prompt, None
        return replace(plan, prompt=prompt), Answers(arrived_at=5.0)

    def finish_window(
        self,
        plan: WindowPlan,
        frames: Frames,
        source_us: tuple[int, ...],
        timing: WindowTiming,
        answers: Answers,
    ) -> None:
        assert len(frames) == len(source_us)
        self.answers = answers
        self._say(f"finished {plan.index}")

    def fail_window(self, plan: WindowPlan) -> None:
        self._say(f"failed {plan.index}")

    def settled(self, plan: WindowPlan) -> None:
        self._say(f"settled {plan.index}")

    def _say(self, what: str) -> None:
        self.told.append(what)
        self._bench.model.calls.append(f"{what} {self.state}")
        self._bench.changed.set()


class Bench:
    """A compute loop with sessions."""

    def __init__(self) -> None:
        self.model = Recorder()
        self.compute = Compute(cast(Model, self.model))
        self.sessions: list[FakeSession] = []
        self.changed = asyncio.Event()

    def add(self, key: str, *, windows: int = 1, index: int = 1) -> FakeSession:
        self.sessions.append(FakeSession(self, key, windows=windows, index=index))
        return self.sessions[-1]

    def batches_pay(self, *sizes: int) -> None:
        self.compute.cost.observe(0.1)
        for size in sizes:
            self.compute.cost.observe(0.11, size=size)

    async def until(self, *told: str) -> None:
        """Lets the loop run until each of these was told to some session."""
        async with asyncio.timeout(20):
            while not set(told) <= {what for each in self.sessions for what in each.told}:
                self.changed.clear()
                await self.changed.wait()

    async def ends(self, count: int) -> None:
        """Lets the loop run until so many windows have ended."""
        async with asyncio.timeout(20):
            while count > sum(
                what.startswith(("settled", "failed"))
                for each in self.sessions
                for what in each.told
            ):
                self.changed.clear()
                await self.changed.wait()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.compute.run(lambda: self.sessions))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.compute.close()


async def test_a_session_is_told_of_its_frames_and_then_of_the_end_of_all_stages() -> None:
    bench = Bench()
    session = bench.add("a")
    async with bench.running():
        await bench.ends(1)
    assert bench.model.calls == [
        "encode a",
        "generate a",
        "finished 1 a",
        "commit a",
        "settled 1 a",
    ]
    assert session.released == 1
    assert bench.compute.windows == 1


async def test_what_is_asked_when_a_window_settles_comes_before_the_next_stage() -> None:
    bench = Bench()

    class Snapshots(FakeSession):
        def settled(self, plan: WindowPlan) -> None:
            taken.append(bench.compute.call(bench.model.snapshot, self.state))
            super().settled(plan)

    taken: list[asyncio.Future[bytes]] = []
    bench.sessions.append(Snapshots(bench, "a", windows=2))
    async with bench.running():
        await bench.ends(2)
        await asyncio.gather(*taken)
    assert bench.model.calls.index("snapshot a") < bench.model.calls.index("encode a", 1)


async def test_windows_are_batched_where_it_pays() -> None:
    bench = Bench()
    bench.batches_pay(2)
    for key in "ab":
        bench.add(key)
    async with bench.running():
        await bench.ends(2)
    assert bench.model.calls[:2] == ["encode a+b", "generate a+b"]
    assert bench.model.calls[2:5] == ["finished 1 a", "finished 1 b", "commit a+b"]
    assert bench.compute.windows == 2


async def test_first_windows_are_not_batched_with_others() -> None:
    bench = Bench()
    bench.batches_pay(2, 3)
    bench.add("a", index=0)
    bench.add("b")
    bench.add("c")
    async with bench.running():
        await bench.ends(3)
    assert {"generate a", "generate b+c"} <= set(bench.model.calls)


async def test_windows_with_fewer_steps_are_not_batched_with_others() -> None:
    bench = Bench()
    bench.batches_pay(2, 3)
    for key in "abc":
        bench.add(key)
    bench.sessions[0].quality = Quality(1.0, 1)
    async with bench.running():
        await bench.ends(3)
    assert {"generate a", "generate b+c"} <= set(bench.model.calls)
    assert bench.model.steps == {"a": 1, "b": 0, "c": 0}
    assert 1 in bench.compute.cost.fewer_s


async def test_what_first_windows_cost_counts_in_the_order() -> None:
    bench = Bench()
    for _ in range(4):
        bench.compute.cost.observe(0.1)
        bench.compute.cost.observe(0.1, size=2)
        bench.compute.cost.observe(0.1, size=3)
        bench.compute.cost.observe(5.0, first=True)
    bench.add("a", index=0).due_in = -math.inf
    bench.add("b").due_in = 3.0
    async with bench.running():
        await bench.ends(2)
    generated = [call for call in bench.model.calls if call.startswith("generate")]
    assert generated == ["generate b", "generate a"]


async def test_a_size_is_tried_once_a_window_alone_was_measured() -> None:
    bench = Bench()
    for key in "ab":
        bench.add(key, windows=2)
    async with bench.running():
        await bench.ends(4)
    generated = [call for call in bench.model.calls if call.startswith("generate")]
    assert generated == ["generate a", "generate a+b", "generate b"]


async def test_no_size_is_tried_where_somebody_is_late() -> None:
    bench = Bench()
    for key in "ab":
        bench.add(key, windows=2).due_in = -1.0
    async with bench.running():
        await bench.ends(4)
    assert not any("+" in call for call in bench.model.calls)


@pytest.mark.parametrize("stage", ["encode", "generate", "commit"])
async def test_of_a_batch_that_fails_only_the_faulty_window_fails(stage: str) -> None:
    bench = Bench()
    bench.batches_pay(2, 3)
    good, bad, other = (bench.add(key) for key in "abc")
    bench.model.fails.add((stage, "b"))
    async with bench.running():
        await bench.ends(3)
    assert good.told == other.told == ["finished 1", "settled 1"]
    assert bad.told == (["finished 1"] if stage == "commit" else []) + ["failed 1"]
    assert [each.released for each in bench.sessions] == [1, 1, 1]
    tries = [call for call in bench.model.calls if call.startswith(f"{stage} ")]
    assert tries == [f"{stage} {who}" for who in ("a+b+c", "a", "b", "c")]
    assert bench.compute.windows == 2


async def test_a_window_alone_is_tried_once() -> None:
    bench = Bench()
    session = bench.add("a")
    bench.model.fails.add(("generate", "a"))
    async with bench.running():
        await bench.ends(1)
    assert session.told == ["failed 1"]
    assert session.released == 1
    assert bench.model.calls.count("generate a") == 1
    assert bench.compute.windows == 0


async def test_a_bad_result_fails_its_own_window_and_no_other_is_made_twice() -> None:
    bench = Bench()
    bench.batches_pay(2)
    good, bad = (bench.add(key) for key in "ab")
    bench.model.bad.add("b")
    async with bench.running():
        await bench.ends(2)
    assert good.told == ["finished 1", "settled 1"]
    assert bad.told == ["failed 1"]
    assert "commit a" in bench.model.calls
    assert bench.model.calls.count("generate a+b") == 1


async def test_a_session_that_ends_meanwhile_is_left_out() -> None:
    bench = Bench()
    bench.batches_pay(2)

    class Ends(FakeSession):
        def _say(self, what: str) -> None:
            super()._say(what)
            self.closed = True

    bench.sessions.append(Ends(bench, "a"))
    bench.add("b")
    async with bench.running():
        await bench.until("settled 1")
    assert "commit b" in bench.model.calls
    assert bench.sessions[0].told == ["finished 1"]
    assert [each.released for each in bench.sessions] == [1, 1]


async def test_the_loop_goes_on_after_a_failure() -> None:
    bench = Bench()
    bench.add("a")
    bench.model.fails.add(("generate", "a"))
    async with bench.running():
        await bench.ends(1)
        session = bench.add("b")
        bench.compute.wake()
        await bench.ends(2)
    assert session.told == ["finished 1", "settled 1"]


async def test_a_call_of_the_model_that_never_returns_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HANGS_S", 0.1)
    monkeypatch.setattr(module, "HANGS_WINDOWS", 0.0)
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    compute, freed = Compute(Recorder()), threading.Event()
    watching = asyncio.create_task(compute.watch())
    await compute.call(lambda: None)
    called = compute.call(freed.wait)
    try:
        with pytest.raises(ModelHangsError):
            await watching
    finally:
        freed.set()
        await called
        await compute.close()


async def test_a_model_that_rests_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    async def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(module, "HANGS_S", 0.0)
    monkeypatch.setattr(module, "HANGS_WINDOWS", 0.0)
    compute = Compute(Recorder())
    await compute.call(lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "sleep", look)
        with pytest.raises(asyncio.CancelledError):
            await compute.watch()
    assert len(looks) == 3
    await compute.close()


# -- prompts ------------------------------------------------------------------------------


async def test_a_prompt_that_is_set_while_a_window_is_encoded_still_lands_in_it() -> None:
    bench = Bench()
    session = bench.add("a")

    def on_stage(name: str) -> None:
        if name == "encode":
            session.prompt = "late"

    bench.model.on_stage = on_stage
    async with bench.running():
        await bench.ends(1)
    assert bench.model.prompts == {"encode": [""], "generate": ["late"], "commit": ["late"]}
    assert session.answers == Answers(arrived_at=5.0), "the window answers it"


async def test_a_prompt_that_is_set_while_a_window_is_generated_waits_for_the_next() -> None:
    bench = Bench()
    session = bench.add("a", windows=2)

    def on_stage(name: str) -> None:
        if name == "generate" and not session.told:
            session.prompt = "late"

    bench.model.on_stage = on_stage
    async with bench.running():
        await bench.ends(2)
    assert bench.model.prompts["generate"] == ["", "late"]
    assert bench.model.prompts["commit"] == ["", "late"]


async def test_a_prompt_is_read_when_it_is_set_and_not_when_a_window_needs_it() -> None:
    bench = Bench()
    async with bench.running():
        bench.compute.read_prompt("a", "a sea")
        await read(bench, "a sea")
        bench.add("a")
        bench.compute.wake()
        await bench.ends(1)
    assert bench.model.calls[:2] == ["read a sea", "encode a"]


async def test_between_two_windows_one_prompt_is_read() -> None:
    bench = Bench()
    bench.add("a", windows=3)
    for number in range(3):
        bench.compute.read_prompt(f"s{number}", f"prompt {number}")
    async with bench.running():
        await bench.ends(3)
        await read(bench, "prompt 2")
    order = [call for call in bench.model.calls if call.startswith(("read", "generate"))]
    assert order == [
        "read prompt 0", "generate a", "read prompt 1", "generate a", "read prompt 2", "generate a"
    ]  # fmt: skip


async def test_of_a_session_only_the_newest_prompt_is_read() -> None:
    bench = Bench()
    for number in range(50):
        bench.compute.read_prompt("a", f"prompt {number}")
    bench.compute.read_prompt("b", "other")
    async with bench.running():
        await read(bench, "other")
    assert bench.model.calls == ["read prompt 49", "read other"]


async def test_a_prompt_that_cannot_be_read_harms_nobody() -> None:
    bench = Bench()
    bench.model.unreadable = "bad"
    bench.compute.read_prompt("a", "bad")
    session = bench.add("b")
    async with bench.running():
        await bench.ends(1)
        bench.compute.read_prompt("a", "good")
        await read(bench, "good")
    assert session.told == ["finished 1", "settled 1"]


async def read(bench: Bench, prompt: str) -> None:
    """Lets the loop run until the model has read a prompt."""
    async with asyncio.timeout(20):
        while f"read {prompt}" not in bench.model.calls:
            # Behind it on the one thread.
            await bench.compute.call(lambda: None)
            await asyncio.sleep(0)
