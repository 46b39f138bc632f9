"""Outputs: which frame is encoded when, and as what. Time is virtual, so that it is exact."""

from __future__ import annotations

import asyncio
import functools
import itertools
import selectors
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from model_actor.engine.clock import PlayoutClock
from model_actor.engine.outputs import (
    KEYFRAME_INTERVAL_S,
    LEAD_S,
    SKIP_AFTER_S,
    EncodedOutput,
    Output,
)
from model_actor.engine.store import FinishedWindow, FrameStore
from model_actor.media.codec import Codec
from model_actor.media.encoder import EncoderSettings

pytestmark = pytest.mark.unit

SIZE = 64
RATE = 24.0
BITRATE = 240_000
CODECS = list(Codec)


class Jumping(selectors.SelectSelector):
    """Never sleeps: where a loop would, its time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for somebody else"
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which a second takes no time."""

    def __init__(self) -> None:
        self._jumping = Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test in virtual time."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def body() -> None:
            await test(*arguments, **named)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(body())

    return run


class Inline(Executor):
    """Runs everything at once, on the caller; fails as often as it is told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        future: Future[Any] = Future()
        if self.failures:
            self.failures -= 1
            future.set_exception(ValueError("private words"))
        else:
            future.set_result(function(*args, **kwargs))
        return future


class Packets:
    """A session that brings packets of the size it is granted."""

    def __init__(self) -> None:
        self.asked: list[tuple[Codec, int, int]] = []

    def packet(self, codec: Codec, frame: int, size: int) -> bytes:
        self.asked.append((codec, frame, size))
        return bytes(size)


@dataclass
class Session:
    """What an output shows."""

    store: FrameStore = field(default_factory=FrameStore)
    clock: PlayoutClock | None = None
    state: object = "opaque"

    def add(self, count: int, run: int = 1, first: int = 0) -> None:
        numbers = np.arange(first, first + count).astype(np.uint8)
        frames = np.broadcast_to(numbers[:, None, None], (count, SIZE * 3 // 2, SIZE)).copy()
        self.store.add(
            FinishedWindow(run, first, frames, tuple(range(first, first + count)), ((0, first),))
        )

    def plays(self, frame: int = 0, *, at: float = LEAD_S, run: int = 1) -> None:
        """The gateway reports that a frame is due so many seconds from now."""
        self.clock = PlayoutClock(run, frame, now() + at, RATE)


@dataclass
class Bench:
    """An output of a session, and what it has made."""

    session: Session
    output: Output
    threads: Inline
    made: list[EncodedOutput] = field(default_factory=list)

    @property
    def frames(self) -> list[int]:
        return [each.frame.frame for each in self.made]

    @property
    def keyframes(self) -> list[int]:
        return [each.frame.frame for each in self.made if each.encoded.keyframe]


def now() -> float:
    return asyncio.get_running_loop().time()


@contextmanager
def running(session: Session, codec: Codec = Codec.VP8) -> Iterator[Bench]:
    made: list[EncodedOutput] = []
    threads = Inline()
    settings = EncoderSettings(codec, SIZE, SIZE, RATE, BITRATE)
    output = Output(settings, session, threads, lambda _, each: made.append(each))
    task = asyncio.create_task(output.run())
    try:
        yield Bench(session, output, threads, made)
    finally:
        assert not task.done(), "an output runs until it is cancelled"
        task.cancel()


@virtual
async def test_each_frame_is_encoded_once_in_order_and_just_before_it_is_due() -> None:
    session = Session()
    session.add(33)
    session.plays(at=1.0)
    with running(session) as bench:
        begin = now()
        await asyncio.sleep(1.0 - LEAD_S - 0.001)
        assert bench.made == []
        await asyncio.sleep(3.0)
    assert bench.frames == list(range(33))
    starts = [each.started_at - begin for each in bench.made]
    assert starts == pytest.approx([1.0 + n / RATE - LEAD_S for n in range(33)], abs=1e-6)
    assert bench.output.skipped == 0


@virtual
async def test_without_a_clock_nothing_is_encoded_and_a_clock_wakes_the_output() -> None:
    session = Session()
    session.add(3)
    with running(session) as bench:
        await asyncio.sleep(5.0)
        assert bench.made == []
        session.plays()
        bench.output.wake()
        await asyncio.sleep(1.0)
    assert bench.frames == [0, 1, 2]


@virtual
async def test_frames_that_come_late_are_encoded_when_they_come() -> None:
    session = Session()
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(0.3)
        session.add(12)
        bench.output.wake()
        await asyncio.sleep(0)
        await asyncio.sleep(1.0)
    assert bench.frames == list(range(12)), "less than half a second late: none is left out"
    assert bench.output.skipped == 0


@pytest.mark.parametrize("codec", CODECS)
@virtual
async def test_an_output_that_is_opened_in_the_middle_begins_at_what_is_due_with_a_keyframe(
    codec: Codec,
) -> None:
    session = Session()
    session.add(33)
    session.plays(20)
    with running(session, codec) as bench:
        await asyncio.sleep(1.0)
    assert bench.frames[0] in (20, 21)
    assert bench.frames == list(range(bench.frames[0], 33))
    assert bench.keyframes == bench.frames[:1]


@pytest.mark.parametrize("codec", CODECS)
@virtual
async def test_two_keyframes_are_at_least_half_a_second_apart_however_many_are_asked_for(
    codec: Codec,
) -> None:
    session = Session()
    session.add(120)
    session.plays()
    with running(session, codec) as bench:
        for _ in range(60):
            bench.output.demand(keyframe=True, bitrate=0)
            await asyncio.sleep(0.05)
    times = [each.finished_at for each in bench.made if each.encoded.keyframe]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(gaps) >= 4
    assert all(0.5 <= gap <= 0.5 + 1 / RATE + 1e-6 for gap in gaps)


@pytest.mark.parametrize("codec", CODECS)
@virtual
async def test_one_request_is_answered_by_one_keyframe(codec: Codec) -> None:
    session = Session()
    session.add(72)
    session.plays()
    with running(session, codec) as bench:
        await asyncio.sleep(1.0)
        bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(2.5)
    assert len(bench.keyframes) == 2
    assert bench.keyframes[0] == 0
    assert bench.keyframes[1] in (24, 25), "the next frame that is encoded"


@virtual
async def test_an_output_far_behind_the_clock_goes_on_at_what_is_due_now() -> None:
    session = Session()
    session.add(240)
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(1.0)
        seen = len(bench.made)
        session.plays(120)
        bench.output.wake()
        await asyncio.sleep(1.0)
    assert bench.frames[:seen] == list(range(seen))
    assert bench.frames[seen] in (120, 121)
    assert bench.output.skipped == bench.frames[seen] - seen
    assert bench.frames[seen:] == list(range(bench.frames[seen], bench.frames[-1] + 1))


@virtual
async def test_an_output_a_little_behind_the_clock_leaves_nothing_out() -> None:
    session = Session()
    session.add(240)
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(1.0)
        session.plays(round(RATE) + int((SKIP_AFTER_S - 0.1) * RATE))
        bench.output.wake()
        await asyncio.sleep(1.0)
    assert bench.frames == list(range(len(bench.frames)))
    assert bench.output.skipped == 0


@virtual
async def test_frames_shown_without_the_output_are_left_out_but_for_the_held_one() -> None:
    session = Session()
    session.add(24)
    session.add(24, first=24)
    session.plays(at=0.5)
    with running(session) as bench:
        session.store.shown(1, 23)
        session.store.release(1, 24)
        await asyncio.sleep(3.0)
    assert bench.frames == [23, *range(24, 48)]
    assert [each.held for each in bench.made] == [True] + [False] * 24
    assert bench.output.skipped == 24


@virtual
async def test_a_new_run_begins_at_its_first_frame_with_an_encoder_of_its_own() -> None:
    session = Session()
    session.add(240)
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(1.0)
        before = len(bench.made)
        session.store.abandon(2)
        session.add(9, run=2)
        session.plays(run=2)
        bench.output.wake()
        await asyncio.sleep(1.0)
    after = [(each.frame.run, each.frame.frame) for each in bench.made[before:]]
    assert after == [(2, frame) for frame in range(9)]
    assert bench.keyframes == [0, 0]


@virtual
async def test_a_replay_is_encoded_to_the_same_bytes() -> None:
    session = Session()
    with running(session) as bench:
        for run in (1, 2):
            session.store.abandon(run)
            session.add(9, run=run)
            session.plays(run=run)
            bench.output.wake()
            await asyncio.sleep(1.0)
    first, again = (
        [made.encoded.data for made in bench.made if made.frame.run == r] for r in (1, 2)
    )
    assert len(first) == 9
    assert first == again


@pytest.mark.parametrize("codec", CODECS)
@virtual
async def test_on_a_held_picture_a_request_gets_one_keyframe_of_it(codec: Codec) -> None:
    session = Session()
    session.add(9)
    session.plays()
    with running(session, codec) as bench:
        await asyncio.sleep(2.0)
        session.store.shown(1, 8)
        bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(0.01)
        assert len(bench.made) == 10, "at once: the last keyframe is long ago"
        for _ in range(3):
            bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(KEYFRAME_INTERVAL_S - 0.02)
        assert len(bench.made) == 10
        await asyncio.sleep(5.0)
    held = bench.made[9:]
    assert [each.frame.frame for each in held] == [8, 8]
    assert all(each.held and each.encoded.keyframe for each in held)
    assert held[1].started_at - held[0].finished_at == pytest.approx(KEYFRAME_INTERVAL_S)
    assert not any(each.held for each in bench.made[:9])


@virtual
async def test_a_held_picture_is_not_encoded_when_a_frame_follows_at_once() -> None:
    session = Session()
    session.add(9)
    session.add(24, first=9)
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(8.5 / RATE)
        session.store.shown(1, 8)
        bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(3.0)
    assert bench.frames == list(range(33))
    assert not any(each.held for each in bench.made)
    assert len(bench.keyframes) == 2


@virtual
async def test_the_picture_goes_on_after_it_was_held() -> None:
    session = Session()
    session.add(9)
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(2.0)
        session.store.shown(1, 8)
        bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(2.0)
        session.add(24, first=9)
        session.plays(9, at=LEAD_S)
        bench.output.wake()
        await asyncio.sleep(2.0)
    assert bench.frames == [*range(9), 8, *range(9, 33)]


@virtual
async def test_a_bitrate_holds_from_the_next_frame_until_another_is_wanted() -> None:
    packets = Packets()
    session = Session(state=packets)
    session.add(96)
    session.plays(at=LEAD_S)
    with running(session, Codec.H264) as bench:
        await asyncio.sleep(0.99)
        bench.output.demand(keyframe=False, bitrate=BITRATE * 4)
        await asyncio.sleep(1.0)
        bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(1.0)
    sizes = [size for _, _, size in packets.asked]
    small, large = BITRATE // 8 // 24, BITRATE * 4 // 8 // 24
    assert sizes[:24] == [small] * 24
    assert sizes[24:] == [large] * (len(sizes) - 24)
    assert len(sizes) > 60


@pytest.mark.parametrize("codec", CODECS)
@virtual
async def test_an_encoder_is_given_the_bitrate_too(codec: Codec) -> None:
    random = np.random.default_rng(5)
    session = Session()
    for first in range(0, 240, 24):
        session.add(24, first=first)
        noise = random.integers(0, 255, session.store._windows[-1].frames.shape, dtype=np.uint8)
        session.store._windows[-1].frames[:] = noise
    session.plays()
    with running(session, codec) as bench:
        await asyncio.sleep(4.0)
        changed = len(bench.made)
        bench.output.demand(keyframe=False, bitrate=BITRATE * 3)
        await asyncio.sleep(4.0)
    before = sum(len(each.encoded.data) for each in bench.made[changed - 48 : changed])
    after = sum(len(each.encoded.data) for each in bench.made[-48:])
    assert after > 1.8 * before


@virtual
async def test_packets_that_a_session_brings_are_keyframes_and_no_thread_makes_them() -> None:
    packets = Packets()
    session = Session(state=packets)
    session.add(33)
    session.plays(at=1.0)
    with running(session, Codec.H264) as bench:
        begin = now()
        await asyncio.sleep(3.0)
        session.store.shown(1, 32)
        bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(1.0)
    assert [frame for _, frame, _ in packets.asked] == [*range(33), 32]
    assert {codec for codec, _, _ in packets.asked} == {Codec.H264}
    assert all(each.encoded.keyframe for each in bench.made)
    assert [each.held for each in bench.made] == [False] * 33 + [True]
    assert bench.made[10].started_at - begin == pytest.approx(1.0 + 10 / RATE - LEAD_S)
    assert bench.threads.calls == 0


@pytest.mark.parametrize("codec", CODECS)
@virtual
async def test_an_encoder_that_fails_is_replaced_and_begins_with_a_keyframe(codec: Codec) -> None:
    session = Session()
    session.add(72)
    session.plays()
    with running(session, codec) as bench:
        await asyncio.sleep(1.0)
        before = len(bench.made)
        bench.threads.failures = 3
        await asyncio.sleep(1.0)
    assert bench.output.failed == 3
    assert bench.frames == [*range(before), *range(before + 3, bench.frames[-1] + 1)]
    assert before + 3 in bench.keyframes


@virtual
async def test_a_held_picture_that_cannot_be_encoded_is_tried_again_half_a_second_later() -> None:
    session = Session()
    session.add(9)
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(2.0)
        session.store.shown(1, 8)
        bench.threads.calls, bench.threads.failures = 0, 2
        bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(KEYFRAME_INTERVAL_S * 2 + 0.01)
    assert bench.threads.calls == 3
    assert bench.made[-1].held
