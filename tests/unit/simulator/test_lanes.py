"""Chunks in time: played, and extrapolated."""

from __future__ import annotations

from random import Random

import pytest

from scheduler.core.ids import ActorId, SessionId
from scheduler.scenario.pool import ModelCosts
from scheduler.simulator import lanes
from scheduler.simulator.lanes import ByMix, ChunkClock, Chunks, EveryChunk, rhythm_of

pytestmark = pytest.mark.unit

RHYTHM = rhythm_of(ModelCosts(chunk_ms=280, chunk_jitter_ms=3))
GPU = ActorId("gpu")


def start(clock: ChunkClock, session: str, now: float, *, live: bool = True) -> float:
    return clock.start(GPU, SessionId(session), now, live=live, first=True)


def shuffle(clock: ChunkClock, gpus: int, seconds: float, most: int) -> Chunks:
    """Starts and stops sessions at random, at most so many on each GPU."""
    random = Random(8)
    running: dict[ActorId, list[SessionId]] = {ActorId(f"g{n}"): [] for n in range(gpus)}
    now = 0.0
    number = 0
    while (now := now + random.expovariate(gpus / 20)) < seconds:
        gpu = random.choice(list(running))
        if running[gpu] and (len(running[gpu]) == most or random.random() < 0.4):
            clock.stop(gpu, running[gpu].pop(random.randrange(len(running[gpu]))), now)
        else:
            number += 1
            session = SessionId(f"s{number}")
            running[gpu].append(session)
            clock.start(gpu, session, now, live=random.random() < 0.7, first=random.random() < 0.5)
    return clock.total(seconds)


def test_a_session_alone_has_one_chunk_a_second_and_none_late() -> None:
    clock = ByMix(RHYTHM)
    start(clock, "a", 0.0)
    chunks = clock.total(600.0)
    assert (round(chunks.made), chunks.late) == (600, 0)


def test_a_stopped_session_has_no_more_chunks() -> None:
    clock = ByMix(RHYTHM)
    start(clock, "a", 0.0)
    clock.stop(GPU, SessionId("a"), 100.0)
    assert clock.total(600.0).made == pytest.approx(100)


def test_an_overloaded_gpu_is_late_all_the_time() -> None:
    clock = ByMix(RHYTHM)
    for number in range(5):
        start(clock, f"s{number}", float(number))
    before = clock.total(100.0)
    after = clock.total(200.0)
    assert (after.late - before.late) / (after.made - before.made) > 0.5


def test_a_first_window_waits_as_long_as_it_did_before_in_the_same_mix() -> None:
    clock = ByMix(RHYTHM)
    start(clock, "a", 0.0)
    clock.stop(GPU, SessionId("a"), 10.0)
    assert start(clock, "b", 20.0) == pytest.approx(RHYTHM.first_cost_s, rel=0.02)


def test_no_more_is_played_than_tells_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "ENOUGH", 100)
    clock = ByMix(RHYTHM)
    chunks = shuffle(clock, gpus=10, seconds=4000, most=3)
    assert clock.played == 100
    played = shuffle(EveryChunk(RHYTHM), gpus=10, seconds=4000, most=3)
    assert chunks.made == pytest.approx(played.made, rel=0.04)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_extrapolated_chunks_are_as_late_as_played_ones(most: int) -> None:
    played = shuffle(EveryChunk(RHYTHM), gpus=4, seconds=2400, most=most)
    extrapolated = shuffle(ByMix(RHYTHM), gpus=4, seconds=2400, most=most)
    assert extrapolated.made == pytest.approx(played.made, rel=0.04)
    assert extrapolated.late / extrapolated.made == pytest.approx(
        played.late / played.made, abs=0.005
    )
