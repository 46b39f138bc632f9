"""Outputs: which frame is encoded when, and as what. Time is virtual, so that it is exact."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from model_actor.engine.outputs import (
    HOLD_S,
    KEYFRAME_INTERVAL_S,
    LEAD_S,
    REFINEMENTS,
    SKIP_AFTER_S,
)
from model_actor.media.codec import Codec
from tests.unit.model_actor.output_bench import (
    BITRATE,
    CODECS,
    RATE,
    Packets,
    Session,
    running,
)
from tests.unit.model_actor.virtual import now, virtual

pytestmark = pytest.mark.unit


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
@pytest.mark.parametrize("codec", CODECS)
async def test_another_frame_rate_begins_with_an_encoder_for_it(codec: Codec) -> None:
    session = Session()
    session.add(24)
    session.plays(rate=16.0)
    with running(session, codec, rate=16.0) as bench:
        await asyncio.sleep(0.5)
        bench.output.pace(RATE)
        session.plays(bench.output.position[1])
        bench.output.wake()
        await asyncio.sleep(3.0)
    assert bench.frames == list(range(24))
    assert len(bench.keyframes) == 2
    assert bench.output.settings.frame_rate == RATE


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
        await asyncio.sleep(0.99)
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
async def test_a_run_that_begins_in_its_middle_is_shown_from_its_first_frame() -> None:
    session = Session()
    with running(session) as bench:
        session.add(24, first=128)
        session.plays(128)
        await asyncio.sleep(2 * LEAD_S)
        bench.output.wake()
        await asyncio.sleep(2.0)
    assert [each.frame.frame for each in bench.made if not each.held] == list(range(128, 152))
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
        await asyncio.sleep(0.99)
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
async def test_on_a_held_picture_a_request_gets_a_keyframe_of_it_at_once(codec: Codec) -> None:
    session = Session()
    session.add(9)
    session.plays()
    with running(session, codec) as bench:
        await asyncio.sleep(2.0)
        session.store.shown(1, 8)
        bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(0.001)
        assert len(bench.made) == 10, "the last keyframe is long ago"
        for _ in range(3):
            bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(5.0)
    held = bench.made[9:]
    keyframes = [each for each in held if each.encoded.keyframe]
    assert {each.frame.frame for each in held} == {8}
    assert all(each.held for each in held)
    assert len(keyframes) == 2
    gap = keyframes[1].started_at - keyframes[0].finished_at
    assert gap == pytest.approx(KEYFRAME_INTERVAL_S)
    assert not any(each.held for each in bench.made[:9])


@pytest.mark.parametrize("codec", CODECS)
@virtual
async def test_a_picture_that_begins_to_hold_gets_one_keyframe_and_frames_that_mend_it(
    codec: Codec,
) -> None:
    session = Session()
    session.add(24)
    session.plays()
    with running(session, codec) as bench:
        await asyncio.sleep(24 / RATE + LEAD_S)
        session.store.shown(1, 23)
        bench.output.wake()
        shown_at = now()
        await asyncio.sleep(10.0)
    held = bench.made[24:]
    assert [each.encoded.keyframe for each in held] == [True] + [False] * REFINEMENTS
    assert all(each.held and each.frame.frame == 23 for each in held)
    assert held[0].started_at == pytest.approx(shown_at + HOLD_S)
    gaps = [later.started_at - earlier.finished_at for earlier, later in itertools.pairwise(held)]
    assert gaps == pytest.approx([1 / RATE] * REFINEMENTS)


@virtual
async def test_a_run_shorter_than_the_keyframe_interval_holds_with_its_keyframe_once_allowed() -> (
    None
):
    session = Session()
    session.add(3)
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(3 / RATE + LEAD_S)
        session.store.shown(1, 2)
        bench.output.wake()
        await asyncio.sleep(5.0)
    first, held = bench.made[0], bench.made[3]
    assert held.held
    assert held.encoded.keyframe
    assert held.started_at - first.finished_at == pytest.approx(KEYFRAME_INTERVAL_S)


@virtual
async def test_a_chunk_that_is_a_little_late_makes_no_picture_hold() -> None:
    session = Session()
    session.add(24)
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(24 / RATE + LEAD_S)
        session.store.shown(1, 23)
        bench.output.wake()
        await asyncio.sleep(HOLD_S - 0.01)
        session.add(24, first=24)
        session.plays(24, at=0.05)
        bench.output.wake()
        await asyncio.sleep(0.5)
    assert not any(each.held for each in bench.made)
    assert bench.keyframes == [0]


@virtual
async def test_what_was_abandoned_after_the_picture_held_makes_it_hold_anew() -> None:
    session = Session()
    session.add(24)
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(24 / RATE + LEAD_S)
        session.store.shown(1, 23)
        bench.output.wake()
        await asyncio.sleep(3.0)
        session.store.abandon(2)
        session.add(24, run=2)
        session.plays(run=2, at=0.2)
        bench.output.wake()
        await asyncio.sleep(0.21)
        session.store.abandon(3)
        bench.output.wake()
        await asyncio.sleep(3.0)
    keyframes = [(each.frame.run, each.frame.frame, each.held) for each in bench.made]
    keyframes = [
        which for which, each in zip(keyframes, bench.made, strict=True) if each.encoded.keyframe
    ]
    assert keyframes == [(1, 0, False), (1, 23, True), (2, 0, False), (1, 23, True)]


@virtual
async def test_an_old_picture_is_not_shown_again_where_the_clock_knows_no_newer_one() -> None:
    session = Session()
    session.add(9)
    session.add(24, first=9)
    # The clock stands at the end of the first chunk, as it did before the second was announced.
    session.plays(end=9)
    with running(session) as bench:
        await asyncio.sleep(9 / RATE + LEAD_S)
        session.store.shown(1, 8)
        await asyncio.sleep(24 / RATE)
        assert bench.frames == list(range(33))
        bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(2 * HOLD_S)
    assert not any(each.held for each in bench.made)


@virtual
async def test_an_old_picture_is_not_shown_again_while_newer_frames_are_on_their_way() -> None:
    session = Session()
    session.add(9)
    session.add(24, first=9)
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(9 / RATE + LEAD_S)
        session.store.shown(1, 8)
        await asyncio.sleep(22 / RATE)
        assert bench.frames[-1] == 32, "all is encoded, the last frames are not yet due"
        bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(0.02)
        assert not any(each.held for each in bench.made)
        await asyncio.sleep(0.1)
        session.store.shown(1, 32)
        bench.output.wake()
        await asyncio.sleep(0.01)
    assert bench.made[-1].held
    assert bench.made[-1].frame.frame == 32


@pytest.mark.parametrize("rate", [16.0, 24.0])
@virtual
async def test_a_request_is_answered_within_150_ms_whenever_it_comes(rate: float) -> None:
    for phase in range(10):
        session = Session()
        session.add(48)
        session.plays(rate=rate)
        with running(session, rate=rate) as bench:
            await asyncio.sleep(0.99 + phase / 10 / rate)
            bench.output.demand(keyframe=True, bitrate=BITRATE * 2)
            asked_at = now()
            await asyncio.sleep(1.0)
        answer = next(m for m in bench.made if m.started_at >= asked_at)
        assert answer.encoded.keyframe
        assert answer.due_at - asked_at < 0.14


@virtual
async def test_the_encoder_of_a_run_was_opened_before_its_first_frame_was_there() -> None:
    session = Session()
    with running(session) as bench:
        await asyncio.sleep(0.1)
        assert bench.threads.jobs == ["open_spare", "open"]
        for run in (1, 2):
            session.store.abandon(run)
            session.add(9, run=run)
            session.plays(run=run)
            before = len(bench.threads.jobs)
            bench.output.wake()
            await asyncio.sleep(0.001)
            jobs = bench.threads.jobs[before : before + 2]
            assert jobs == ["encode", "open_spare"], "nothing had to be opened first"
            await asyncio.sleep(1.0)
    assert bench.threads.jobs.count("open") == 3, "one for each run, and a spare"


@virtual
async def test_frames_that_are_overdue_are_encoded_back_to_back() -> None:
    session = Session()
    session.plays()
    with running(session) as bench:
        await asyncio.sleep(0.3)
        session.add(12)
        bench.output.wake()
        ready_at = now()
        await asyncio.sleep(1.0)
    late = [each for each in bench.made if each.due_at < ready_at + LEAD_S]
    assert len(late) > 5
    assert all(each.started_at == ready_at for each in late)


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
    assert [each.frame.frame for each in bench.made if not each.held] == list(range(33))
    assert {each.frame.frame for each in bench.made if each.held} == {8}
    assert bench.frames[-24:] == list(range(9, 33))


@virtual
@pytest.mark.parametrize("recorded", [True, False])
async def test_what_follows_a_held_picture_is_a_keyframe_where_it_is_recorded(
    recorded: bool,
) -> None:
    session = Session()
    session.add(9)
    session.plays()
    with running(session, Codec.H264) as bench:
        bench.output.recorded = recorded
        await asyncio.sleep(2.0)
        session.store.shown(1, 8)
        bench.output.wake()
        await asyncio.sleep(2.0)
        assert bench.made[-1].held
        session.add(24, first=9)
        session.plays(9, at=LEAD_S)
        bench.output.wake()
        await asyncio.sleep(2.0)
    fresh = [each.frame.frame for each in bench.made if not each.held and each.encoded.keyframe]
    assert fresh == ([0, 9] if recorded else [0])
    assert [each.frame.frame for each in bench.made if not each.held] == list(range(33))


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
    assert bench.threads.jobs == []


@pytest.mark.parametrize("codec", CODECS)
@virtual
async def test_an_encoder_that_fails_is_replaced_and_begins_with_a_keyframe(codec: Codec) -> None:
    session = Session()
    session.add(72)
    session.plays()
    with running(session, codec) as bench:
        await asyncio.sleep(0.99)
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
        before, bench.threads.failures = bench.threads.encoded, 2
        bench.output.demand(keyframe=True, bitrate=0)
        await asyncio.sleep(KEYFRAME_INTERVAL_S * 2 + 0.01)
    assert bench.threads.encoded == before + 3
    assert bench.made[-1].held
