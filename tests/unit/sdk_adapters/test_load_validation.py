"""That the report says what happened: services of known timing, seen by users, reported.

Everything goes the whole way, from single frames to the values of a report.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Any

import pytest

from sdk_adapters.harness.generator import Target, messages
from sdk_adapters.harness.generator.generator import verdict
from sdk_adapters.harness.generator.process import Driver
from sdk_adapters.harness.generator.watching import Watching, Window
from sdk_adapters.harness.plan import Act, PlannedVisit, Step
from sdk_adapters.harness.records import Measured, SessionRecord
from sdk_adapters.harness.report import model
from sdk_adapters.harness.report.build import Facts, build
from sdk_adapters.harness.report.model import LoadReport
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services
from tests.unit.sdk_adapters.load_runs import measured, record, scenario, second

pytestmark = pytest.mark.unit

CHUNK = 24
PERIOD_S = 1 / 24
ADDED_S = 0.2
BEGIN_S, END_S = 100.0, 400.0
START_S = 110.0
SAME = pytest.approx


@dataclass(frozen=True)
class Service:
    """What a service does to a session's frames."""

    first_s: float = 0.5
    """From `start` to the first frame, without the way."""
    chunk_s: float = 0.0
    """What every chunk takes longer than it plays: the next one waits for it."""
    way_s: float = 0.05
    """From the service to the user."""
    late_chunk: int = -1
    """A chunk that comes 200 ms late; the next ones are in time."""
    dropped: Collection[int] = ()
    repeated: Collection[int] = ()
    held: Collection[int] = ()
    """Frames that are shown again on purpose, when nothing else is there to show."""
    hangs_at: float = END_S + 1e6
    stream_clock: float = 0.0
    """What the clock of the stream shows when the run of the test begins."""
    chunks: int = 20


@dataclass
class Seen:
    """One session as a user saw it."""

    offset: float = 0.0
    """By which the clock of this generator process is ahead."""
    values: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.record = record(0, values={}, counts={}, began_s=START_S - BEGIN_S)
        self.record.counts.clear()
        late = self.record.add
        self.window = Window(BEGIN_S + self.offset, END_S + self.offset)
        self.watching = Watching(
            self.record, self.window, self._add, lambda value: late("frame_lateness", value)
        )

    def _add(self, metric: str, value: float, at: float) -> None:
        if self.window.begin <= at < self.window.end:
            self.record.add(metric, value)

    def watch(self, service: Service) -> None:
        """Starts a session, asks for another prompt in every chunk, and leaves after the last."""
        watching, first_at = self.watching, START_S + service.first_s + service.way_s
        watching.starts(START_S + self.offset)
        for chunk in range(service.chunks):
            begin = first_at + chunk * (CHUNK * PERIOD_S + service.chunk_s)
            begin += ADDED_S * (chunk == service.late_chunk)
            if begin > service.hangs_at:
                break
            self._chunk(service, chunk, begin)
            if chunk:
                watching.chunk_complete(chunk, f"prompt {chunk - 1}", begin + 1.0 + self.offset)
            # Half way through its playing, as the service sends it: taken for the next chunk.
            sent = begin - service.way_s + CHUNK * PERIOD_S / 2
            watching.prompted(f"prompt {chunk}", chunk, sent + self.offset)

    def _chunk(self, service: Service, chunk: int, begin: float) -> None:
        watching = self.watching
        for index in range(CHUNK):
            number, at = chunk * CHUNK + index, begin + index * PERIOD_S + self.offset
            due = service.stream_clock + number * PERIOD_S
            if number not in service.dropped:
                watching.frame(at, 1, number, due, 1000)
            if number in service.repeated:
                watching.frame(at + 0.001, 1, number, due, 1000)
            if number in service.held:
                watching.frame(at + 0.02, 1, number, due + 0.3, 1000)
            if not index:
                watching.chunk(1, chunk, number, 0, at)
                # Captured a while before it was edited, by the clock of the same process.
                watching.glass(at - service.way_s - 0.8, at)


def reported(service: Service, *, ends: float = 350.0, offset: float = 0.0) -> LoadReport:
    """Watches a session, and reports."""
    seen = Seen(offset)
    seen.watch(service)
    seen.watching.close(ends + offset)
    run = measured(seen.record, measured_s=(0.0, END_S - BEGIN_S), seconds=[second(20.0)])
    return build(run, scenario(), Facts())


def shown(report: LoadReport, metric: str, statistic: str = "p50") -> float:
    value = getattr(report.metrics[metric].value, statistic)
    assert isinstance(value, float | int)
    return value


def differs(metric: str, before: LoadReport, after: LoadReport, statistic: str = "p50") -> float:
    """Returns by how much a metric grew, in milliseconds."""
    return shown(after, metric, statistic) - shown(before, metric, statistic)


def numbers(result: model.Result) -> dict[str, float]:
    return result.value.model_dump(exclude={"kind"})


def no_later(after: float) -> Any:
    # Two percentiles of about a second, each right to half a percent.
    return SAME(after, abs=12)


# -- 200 ms are 200 ms ---------------------------------------------------------------------

WELL = Service()
STAYED_S = START_S + 0.55 + 20.0
"""When a session at a service that is well has seen all."""


def test_a_service_that_is_well_has_a_clean_report() -> None:
    report = reported(WELL, ends=STAYED_S)
    assert shown(report, "chunk_interval") == no_later(1000)
    assert shown(report, "prompt_to_pixels") == no_later(550)
    assert shown(report, "start_to_first_frame") == no_later(550)
    assert shown(report, "glass_to_glass") == no_later(850)
    assert shown(report, "frame_lateness", "max") == no_later(0)
    assert shown(report, "clean_sessions", "share") == 1


def test_chunks_that_take_200_ms_longer_are_200_ms_further_apart() -> None:
    before = reported(WELL, ends=STAYED_S)
    after = reported(Service(chunk_s=ADDED_S), ends=STAYED_S + 19 * ADDED_S)
    for metric in ("chunk_interval", "chunk_jitter", "prompt_to_pixels"):
        assert differs(metric, before, after) == no_later(200), metric
    assert differs("start_to_first_frame", before, after) == no_later(0)
    assert shown(after, "freezes", "total") == 19
    assert shown(after, "frozen", "part") == SAME(19 * (ADDED_S + PERIOD_S), rel=0.01)
    assert shown(after, "frames_lost", "total") == 0


def test_a_way_that_is_200_ms_longer_delays_what_users_wait_for_and_nothing_else() -> None:
    before = reported(WELL, ends=STAYED_S)
    after = reported(Service(way_s=0.05 + ADDED_S), ends=STAYED_S + ADDED_S)
    for metric in ("start_to_first_frame", "prompt_to_pixels", "glass_to_glass"):
        assert differs(metric, before, after) == no_later(200), metric
    for metric in ("chunk_interval", "chunk_jitter", "frame_lateness"):
        assert differs(metric, before, after) == no_later(0), metric
    assert shown(after, "clean_sessions", "share") == 1


def test_one_chunk_that_is_200_ms_late_is_so_once() -> None:
    report = reported(Service(late_chunk=7), ends=STAYED_S)
    assert shown(report, "chunk_interval", "max") == no_later(1200)
    assert shown(report, "chunk_interval", "min") == no_later(800)
    assert shown(report, "chunk_interval") == no_later(1000)
    assert shown(report, "frame_lateness", "max") == no_later(200)
    assert shown(report, "freezes", "total") == 1
    assert shown(report, "frozen", "part") == SAME(ADDED_S + PERIOD_S, rel=0.01)


# -- frames count once ---------------------------------------------------------------------

PLACES = [0, 1, CHUNK - 1, CHUNK, 5 * CHUNK + 11]
FAULTS = ("frames_lost", "frames_repeated")


@pytest.mark.parametrize("place", PLACES)
def test_a_dropped_frame_is_lost_once_and_no_freeze(place: int) -> None:
    report = reported(Service(dropped={place}), ends=STAYED_S)
    assert [shown(report, each, "total") for each in FAULTS] == [1, 0]
    assert shown(report, "freezes", "total") == 0
    assert shown(report, "frames_shown", "total") == 20 * CHUNK - 1
    assert shown(report, "clean_sessions", "share") == 0


def test_a_hundred_dropped_frames_in_a_row_are_a_hundred_lost_and_one_freeze() -> None:
    report = reported(Service(dropped=range(100, 200)), ends=STAYED_S)
    assert [shown(report, each, "total") for each in FAULTS] == [100, 0]
    assert shown(report, "freezes", "total") == 1


@pytest.mark.parametrize("place", PLACES)
def test_a_repeated_frame_is_repeated_once_and_not_lost(place: int) -> None:
    report = reported(Service(repeated={place}), ends=STAYED_S)
    assert [shown(report, each, "total") for each in FAULTS] == [0, 1]
    assert shown(report, "frames_shown", "total") == 20 * CHUNK


@pytest.mark.parametrize("place", PLACES)
def test_a_picture_that_is_held_is_no_repeat(place: int) -> None:
    report = reported(Service(held={place}), ends=STAYED_S)
    assert [shown(report, each, "total") for each in FAULTS] == [0, 0]
    assert shown(report, "clean_sessions", "share") == 1


# -- clocks --------------------------------------------------------------------------------


def test_the_clock_of_the_stream_is_in_no_value() -> None:
    plain = reported(Service(late_chunk=3), ends=STAYED_S).metrics
    for stream_clock in (-7e5, 0.25, 4e9):
        service = Service(late_chunk=3, stream_clock=stream_clock)
        metrics = reported(service, ends=STAYED_S).metrics
        assert metrics.keys() == plain.keys()
        # A large clock has fewer digits left for what is behind the point.
        for name, result in metrics.items():
            assert numbers(result) == SAME(numbers(plain[name]), rel=0.006, abs=0.01), name


@pytest.mark.parametrize("offset", [-90.0, 0.3, 5e5])
def test_the_clock_of_a_generator_process_is_in_no_value(offset: float) -> None:
    # Processes share a clock and are told one beginning; were it not so, only the time of
    # what happened would be wrong, and no latency.
    plain = reported(Service(late_chunk=3), ends=STAYED_S).metrics
    metrics = reported(Service(late_chunk=3), ends=STAYED_S, offset=offset).metrics
    assert metrics.keys() == plain.keys()
    for name, result in metrics.items():
        assert numbers(result) == SAME(numbers(plain[name]), rel=0.006, abs=0.01), name


# -- what never came -----------------------------------------------------------------------


def test_a_service_that_hangs_is_frozen_to_the_end_of_what_is_measured() -> None:
    # The user is still there when the run has ended.
    report = reported(Service(chunks=1000, hangs_at=200.0), ends=END_S + 0.4)
    last = START_S + 0.55 + 90 - PERIOD_S
    assert shown(report, "freezes", "total") == 1
    assert shown(report, "frozen", "part") == SAME(END_S - last, abs=0.1)
    assert shown(report, "frozen", "share") > 0.6
    # Nor is the prompt forgotten that nobody answered.
    assert shown(report, "prompt_to_pixels", "max") == SAME((END_S - last) * 1e3, rel=0.02)


@pytest.mark.parametrize("ends", [300.0, END_S + 0.4])
def test_a_start_that_nothing_follows_counts_with_what_it_waited(ends: float) -> None:
    seen = Seen()
    seen.watching.starts(START_S)
    seen.watching.close(ends)
    report = build(measured(seen.record, measured_s=(0.0, 300.0)), scenario(), Facts())
    waited_s = min(ends, END_S) - START_S
    assert shown(report, "start_to_first_frame", "max") == SAME(waited_s * 1e3, rel=0.006)


# -- a generator that stands ---------------------------------------------------------------

STALL_S = 0.4


@dataclass
class Told:
    """What a process of the generator tells."""

    records: list[SessionRecord] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, message: object) -> None:
        if isinstance(message, messages.Ended):
            self.records.append(message.record)
            self.ended.set()


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """A gateway that answers at once."""
    async with grpc_gateway(fake_services(FakeHub())) as made:
        yield made


async def test_a_generator_that_stands_hides_nothing(address: str) -> None:
    """Coordinated omission: who came too late has waited all the same."""
    arrives_s, starts_s = 0.2, 2.0
    visit = PlannedVisit(
        number=0,
        process=0,
        arrival_s=arrives_s,
        leave_s=starts_s + 1.0,
        wire="grpc",
        codec="h264",
        network="clean",
        decoded=False,
        live=False,
        steps=(Step(starts_s, Act.START, "a prompt"),),
    )
    job = messages.Job(
        process=0,
        target=Target((address,)),
        visits=(visit,),
        model="painter",
        measured_s=(0.0, 600.0),
        clip=b"a clip",
        camera={},
    )
    told, stop = Told(), asyncio.Event()
    epoch = time.monotonic()
    driving = asyncio.create_task(Driver(job, told.add).drive(epoch, stop))
    for moment in (arrives_s, starts_s):
        # The loop stands from just before something is to happen.
        asyncio.get_running_loop().call_at(epoch + moment - 0.01, time.sleep, STALL_S)
    async with asyncio.timeout(60):
        await told.ended.wait()
    stop.set()
    done = await driving
    (seen,) = told.records

    stood_ms = (STALL_S - 0.05) * 1e3
    run = Measured("", (0.0, 600.0), [seen], lag_p99_ms={0: done.lag_p99_ms})
    run.invalid += verdict(run, most_cpu=0.85, most_lag_ms=50.0)
    report = build(run, scenario(), Facts())
    assert shown(report, "join", "min") >= stood_ms
    assert shown(report, "command_ack", "max") >= stood_ms
    assert not report.validity.valid
    assert "generator process 0 ran" in report.validity.reasons[0]
