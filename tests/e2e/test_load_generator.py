"""The generator against the whole service: every wire, clips and cameras, pixels and numbers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

import pytest

from scheduler.scenario import scenario
from sdk_adapters.harness.generator import Target, messages, run, source
from sdk_adapters.harness.generator.doors.chromium import why_missing
from sdk_adapters.harness.generator.doors.webrtc import WebRtcLine
from sdk_adapters.harness.generator.process import Driver
from sdk_adapters.harness.plan import Act, Plan, PlannedVisit, Step, plan
from sdk_adapters.harness.records import Measured, Outcome, Second, SessionRecord
from tests.stack import Stack, serving

pytestmark = pytest.mark.e2e

SIZE = (160, 88)
SERVICE = ("--model", "simulated", "--backend", "in-process", "--model-option", "chunk_ms=50",
           "--model-option", f"size={SIZE[0]}x{SIZE[1]}")  # fmt: skip
SECONDS = 90.0
"""Longer than it takes on a machine that runs other tests beside this one."""
GRPC, WEBRTC, VP8 = ("grpc", "h264"), ("webrtc", "h264"), ("webrtc", "vp8")
KINDS = [
    # Wire, whether it is a camera, whether its pictures are decoded.
    *((GRPC, live, decoded) for live in (False, True) for decoded in (False, True)),
    (WEBRTC, False, True),
    (WEBRTC, True, False),
    (VP8, False, False),
    (VP8, True, True),
    *((("chromium", "h264"), live, False) for live in (False, True) if not why_missing()),
]
STEPS = (
    (0.2, Act.START),
    (4.0, Act.PROMPT),
    (7.0, Act.PAUSE),
    (11.0, Act.RESUME),
    (15.0, Act.PROMPT),
)


def planned(visits: Sequence[PlannedVisit], seconds: float = SECONDS) -> Plan:
    """Returns a plan of visits."""
    picture = {"width": SIZE[0], "height": SIZE[1]}
    made = plan(
        scenario.parse(
            {
                "name": "generator",
                "duration": seconds,
                "warm_up": 0,
                "workload": {"crowds": [{"at": 0, "sessions": 1, "over": 1}]},
                "load": {"clip": {"seconds": 30, **picture}, "camera": picture},
            },
            "test",
        )
    )
    return Plan(
        **{**{name: getattr(made, name) for name in Plan.__slots__}, "visits": tuple(visits)}
    )


def visit(number: int, wire: str, codec: str, *, live: bool, decoded: bool) -> PlannedVisit:
    at = 0.3 * number
    return PlannedVisit(
        number=number,
        process=number % 2,
        arrival_s=at,
        leave_s=at + 20.0,
        wire=wire,
        codec=codec,
        network="clean",
        decoded=decoded,
        live=live,
        steps=tuple(Step(at + offset, act, "a prompt") for offset, act in STEPS),
    )


@pytest.fixture(scope="module")
def driven() -> tuple[Measured, list[Second]]:
    """What was measured of every kind of visit, driven by two processes at the same time."""
    visits = [
        visit(number, *wire, live=live, decoded=decoded)
        for number, (wire, live, decoded) in enumerate(KINDS)
    ]
    seconds: list[Second] = []
    with serving(*SERVICE) as stack:
        measured = asyncio.run(_run_until_all_left(planned(visits), stack, seconds))
    return measured, seconds


async def _run_until_all_left(plan: Plan, stack: Stack, seconds: list[Second]) -> Measured:
    until = asyncio.Event()
    newest: dict[int, Second] = {}

    def observe(second: Second) -> None:
        seconds.append(second)
        newest[second.process] = second
        everybody_was_there = sum(each.frames for each in seconds) > len(plan.visits) * 48
        if everybody_was_there and not any(each.connected for each in newest.values()):
            until.set()

    return await run(plan, Target((stack.grpc_address,)), observe=observe, until=until)


def test_every_visit_comes_plays_and_leaves(driven: tuple[Measured, list[Second]]) -> None:
    measured, _ = driven
    assert [(each.number, each.failure) for each in measured.sessions] == [
        (number, "") for number in range(len(KINDS))
    ]
    assert {each.outcome for each in measured.sessions} <= {Outcome.COMPLETED, Outcome.CUT}
    assert {each.process for each in measured.sessions} == {0, 1}
    assert len({each.session_id for each in measured.sessions}) == len(measured.sessions)
    assert measured.events == []


def test_every_visit_has_its_metrics(driven: tuple[Measured, list[Second]]) -> None:
    measured, _ = driven
    for each in measured.sessions:
        expected = {
            "admission_wait", "join", "join_request", "join_gpu_wait", "command_ack", "frame_rate",
            "bitrate", "start_to_first_frame", "frame_lateness", "chunk_interval", "chunk_jitter",
            "prompt_to_pixels", "pause_to_resume",
        }  # fmt: skip
        if each.wire != "grpc":
            expected |= {"join_ice", "join_dtls"}
        if each.live and each.wire != "chromium":
            expected |= {"glass_to_glass"}
        found = {name for name, values in each.values.items() if values.count}
        assert expected <= found, (each.number, each.wire, each.live, expected - found)
        assert each.counts["frames_shown"] > 48
        assert each.counts["playing_s"] > 1.0
        assert "commands_refused" not in each.counts
        assert each.trace_ids


def test_pictures_tell_what_they_were_made_of(driven: tuple[Measured, list[Second]]) -> None:
    measured, _ = driven
    for each in measured.sessions:
        assert each.counts["by_pixels"] == each.decoded, (each.number, each.wire)
        assert each.counts["glass_by_pixels"] == (each.decoded and each.live), each.number
        assert not {"pictures_unreadable", "pictures_foreign"} & each.counts.keys()


def test_a_camera_frame_takes_at_least_the_window_it_waits_in(
    driven: tuple[Measured, list[Second]],
) -> None:
    measured, _ = driven
    for each in measured.sessions:
        if "glass_to_glass" in each.values:
            # A window of 24 frames is there when its last has come; the first waited a second.
            glass = each.values["glass_to_glass"]
            assert glass.get_quantile_value(0.0) > 500.0, (each.number, each.wire)
            assert glass.get_quantile_value(0.5) < 10_000.0


def test_seconds_add_up_to_the_sessions(driven: tuple[Measured, list[Second]]) -> None:
    measured, seconds = driven
    assert sum(each.frames for each in seconds) >= sum(
        each.counts["frames_shown"] for each in measured.sessions
    )
    assert {each.process for each in seconds} == {0, 1}
    assert max(each.playing for each in seconds) > 1
    assert measured.measuring_cpu_s > 0.0
    assert measured.lag_p99_ms.keys() == {0, 1}


def test_packets_that_were_lost_are_asked_for_again(
    simulated: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"dropped": 0, "again": 0}
    take, draw = WebRtcLine._rtp, random.Random(7)

    def lossy(line: WebRtcLine, data: memoryview, start: int, end: int, at: float) -> None:
        again = data[start + 1] & 0x7F == line._again_type
        if not again and draw.random() < 0.1:
            seen["dropped"] += 1
        else:
            seen["again"] += again
            take(line, data, start, end, at)

    monkeypatch.setattr(WebRtcLine, "_rtp", lossy)
    monkeypatch.setattr(WebRtcLine, "_burst", lambda *_: 0)
    record = asyncio.run(
        _driven_here(simulated, visit(0, "webrtc", "h264", live=False, decoded=False))
    )
    assert seen["dropped"] > 3
    assert seen["again"] > 0
    assert record.counts["frames_shown"] > 48
    # Most came in time; how many does not depend on us alone.
    assert record.counts["frames_lost"] < seen["dropped"]


async def _driven_here(stack: Stack, planned_visit: PlannedVisit) -> SessionRecord:
    """Drives a visit in this process until it has seen three seconds of frames."""
    plan = planned([planned_visit])
    told: list[object] = []
    job = messages.Job(
        process=0,
        target=Target((stack.grpc_address,)),
        visits=plan.visits,
        model="simulated",
        measured_s=(0.0, 600.0),
        clip=source.clip(plan.load.clip),
        camera={},
    )
    stop = asyncio.Event()

    def tell(message: object) -> None:
        told.append(message)
        if sum(each.frames for each in told if isinstance(each, Second)) > 72:
            stop.set()

    async with asyncio.timeout(SECONDS):
        await Driver(job, tell).drive(time.monotonic(), stop)
    (record,) = (each.record for each in told if isinstance(each, messages.Ended))
    return record


def test_a_run_ends_early_when_it_is_told_to(simulated: Stack) -> None:
    async def cut_short() -> Measured:
        until = asyncio.Event()

        def observe(second: Second) -> None:
            if second.connected:
                until.set()

        visits = [visit(0, "grpc", "h264", live=False, decoded=False)]
        target = Target((simulated.grpc_address,))
        return await run(planned(visits, 600.0), target, observe=observe, until=until)

    measured = asyncio.run(cut_short())
    record: SessionRecord
    (record,) = measured.sessions
    assert record.outcome is Outcome.CUT
    assert 0.0 < measured.measured_s[1] < 300.0
