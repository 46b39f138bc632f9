"""Visits against a gateway over fakes: what they do, when, and what becomes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.ports import EncodedFrame
from sana_gateway.v1 import media_pb2, message_pb2
from scheduler.core.errors import NoCapacityError
from scheduler.scenario.load import Camera as CameraSpec
from sdk_adapters.harness.generator import Target, messages, source
from sdk_adapters.harness.generator import visit as driven
from sdk_adapters.harness.generator.chunks import CENSORED_S
from sdk_adapters.harness.generator.doors import Door, Line, Seat
from sdk_adapters.harness.generator.process import Driver
from sdk_adapters.harness.generator.watching import Watching
from sdk_adapters.harness.plan import Act, PlannedVisit, Step
from sdk_adapters.harness.records import Outcome, Second, SessionRecord
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services
from tests.fakes.session import FakeSession, FakeSubscription

pytestmark = pytest.mark.unit

WAIT_S = 30.0
LONG_S = 600.0
H264 = media_pb2.CODEC_H264


@dataclass
class Told:
    """What a driver tells, and a way to wait for it."""

    messages: list[object] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, message: object) -> None:
        self.messages.append(message)
        self._more.set()

    @property
    def records(self) -> list[SessionRecord]:
        return [each.record for each in self.messages if isinstance(each, messages.Ended)]

    @property
    def seconds(self) -> list[Second]:
        return [each for each in self.messages if isinstance(each, Second)]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._more.clear()
                await self._more.wait()


@dataclass
class Site:
    """A gateway over fakes, and a driver of visits to it."""

    hub: FakeHub
    addresses: tuple[str, ...]
    doors: dict[str, Door] | None = None
    clock: Callable[[], float] = time.monotonic
    told: Told = field(default_factory=Told)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def drives(
        self, *visits: PlannedVisit, camera: Iterable[source.Reel] = ()
    ) -> asyncio.Task[messages.Done]:
        """Begins to drive visits."""
        job = messages.Job(
            process=3,
            target=Target(self.addresses),
            visits=visits,
            model="painter",
            measured_s=(0.0, LONG_S),
            clip=b"a clip",
            camera={each.codec: each for each in camera},
        )
        self.driver = driver = Driver(job, self.told.add, doors=self.doors, clock=self.clock)
        return asyncio.create_task(driver.drive(self.clock(), self.stop))

    async def ended(self, driving: asyncio.Task[messages.Done]) -> SessionRecord:
        """Waits for the first visit to end by itself, and ends the rest."""
        await self.told.until(lambda: self.told.records)
        self.stop.set()
        await driving
        return self.told.records[0]

    async def frames(self, count: int) -> None:
        """Waits until the visits that are there have so many frames."""
        async with asyncio.timeout(WAIT_S):
            # Nothing tells of single frames: that would cost what it is to measure.
            while sum(_came(each.watching) for each in self.driver.visits) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def commands(self, *names: str) -> None:
        """Waits until the newest session was told just this, in this order."""
        await self.hub.until(lambda: self.hub.sessions and said(self.hub.session) == list(names))

    async def viewer(self, number: int = 1) -> FakeSubscription:
        """Waits for the viewer of the newest session."""

        def open_viewers() -> list[FakeSubscription]:
            if len(self.hub.sessions) < number:
                return []
            connections = self.hub.session.open_connections
            return [each for made in connections for each in made.subscriptions if not each.closed]

        return (await self.hub.until(open_viewers, WAIT_S))[0]


def _came(watching: Watching) -> int:
    return watching.frames + len(watching.arrivals)


def said(session: FakeSession) -> list[str]:
    """Returns the names of the commands to a session, repeats left out."""
    seen: dict[str, str] = {}
    for connection in session.connections:
        for command in connection.commands:
            seen[command.command_id] = command.WhichOneof("command")  # type: ignore[union-attr]
    return list(seen.values())


def visit(*steps: tuple[float, Act], number: int = 0, at: float = 0.0, leave: float = LONG_S,
          **changed: Any) -> PlannedVisit:  # fmt: skip
    fields: dict[str, Any] = {
        "number": number,
        "process": 0,
        "arrival_s": at,
        "leave_s": leave,
        "wire": "grpc",
        "codec": "h264",
        "network": "clean",
        "decoded": False,
        "live": False,
        "steps": tuple(Step(at, act, "a prompt") for at, act in steps),
    }
    return PlannedVisit(**{**fields, **changed})


def frame(number: int, *, run: int = 1, held: bool = False) -> EncodedFrame:
    return EncodedFrame(
        data=b"x" * 100,
        keyframe=True,
        codec=H264,
        timestamp_us=number * 41_667,
        run=run,
        chunk=number // 24,
        frame=number,
        source_us=0,
        held=held,
    )


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def site(hub: FakeHub) -> AsyncIterator[Site]:
    async with grpc_gateway(fake_services(hub)) as address:
        made = Site(hub, (address,))
        yield made
        made.stop.set()


async def test_a_visit_stages_a_clip_plays_and_leaves(site: Site, hub: FakeHub) -> None:
    driving = site.drives(visit((0.0, Act.START), leave=0.5))
    record = await site.ended(driving)
    assert record.outcome is Outcome.COMPLETED
    assert said(hub.session) == ["set_mode", "set_video", "set_prompt", "start"]
    assert hub.closed
    assert (record.process, record.number, record.wire) == (3, 0, "grpc")
    assert record.session_id == hub.session.session_id
    for metric in ("admission_wait", "join", "join_request", "join_gpu_wait"):
        assert record.values[metric].count == 1
    assert record.values["command_ack"].count == 4
    assert len(record.trace_ids) == 4
    assert record.trace_ids[0] in "".join(
        each for made in hub.session.connections for each in made.traceparents
    )


async def test_steps_are_done_in_their_order(site: Site) -> None:
    steps = ((0.0, Act.START), (0.2, Act.PROMPT), (0.3, Act.PAUSE), (0.4, Act.RESUME))
    site.drives(visit(*steps))
    await site.commands(
        "set_mode", "set_video", "set_prompt", "start", "set_prompt", "pause", "resume"
    )


async def test_prompts_are_unlike_one_another(site: Site, hub: FakeHub) -> None:
    site.drives(visit((0.0, Act.START), (0.1, Act.PROMPT), (0.2, Act.PROMPT)))
    await hub.until(lambda: hub.sessions and said(hub.session).count("set_prompt") == 3)
    (connection,) = [each for each in hub.session.connections if each.commands]
    prompts = {
        command.set_prompt.prompt
        for command in connection.commands
        if command.WhichOneof("command") == "set_prompt"  # type: ignore[union-attr]
    }
    assert len(prompts) == 3


async def test_arrivals_wait_for_nobody(site: Site, hub: FakeHub) -> None:
    hub.ready = False
    site.drives(*(visit(number=number, at=0.05 * number) for number in range(5)))
    await hub.until(lambda: len(hub.sessions) == 5)
    await site.told.until(lambda: site.told.seconds and site.told.seconds[-1].waiting == 5)


async def test_who_is_not_admitted_in_time_gives_up(site: Site, hub: FakeHub) -> None:
    hub.ready = False
    record = await site.ended(site.drives(visit(leave=0.3)))
    assert (record.outcome, record.failure) == (Outcome.TURNED_AWAY, "gave_up")
    assert record.values["admission_wait"].count == 1
    assert hub.closed


async def test_who_still_waits_when_the_run_ends_has_waited_so_long(
    site: Site, hub: FakeHub
) -> None:
    hub.ready = False
    driving = site.drives(visit())
    await hub.until(lambda: hub.sessions and hub.session.open_connections)
    site.stop.set()
    await driving
    (record,) = site.told.records
    assert record.outcome is Outcome.CUT
    assert record.values["admission_wait"].count == 1


async def test_who_is_turned_away_is_so_by_the_pool(site: Site, hub: FakeHub) -> None:
    hub.create_error = NoCapacityError("full", retry_after_s=1.0)
    record = await site.ended(site.drives(visit()))
    assert (record.outcome, record.failure) == (Outcome.TURNED_AWAY, "no_capacity")
    await site.told.until(lambda: sum(each.failures for each in site.told.seconds) == 1)


async def test_a_session_that_ends_by_itself_is_lost(site: Site, hub: FakeHub) -> None:
    driving = site.drives(visit((0.0, Act.START)))
    await hub.until(lambda: hub.sessions and "start" in said(hub.session))
    hub.session.end("the actor is gone")
    record = await site.ended(driving)
    assert (record.outcome, record.failure) == (Outcome.LOST, "session_closed")


async def test_a_refused_command_counts_and_is_tried_again(site: Site, hub: FakeHub) -> None:
    driving = site.drives(visit((0.3, Act.START)))
    await hub.until(lambda: hub.sessions and "set_video" in said(hub.session))
    hub.session.refuse["start"] = message_pb2.CommandError(command="start", retry_after_s=0.1)
    await hub.until(lambda: said(hub.session).count("start") == 2)
    hub.session.refuse.clear()
    await hub.until(lambda: hub.session.state.started)
    site.stop.set()
    await driving
    (record,) = site.told.records
    assert record.counts["commands_refused"] >= 2
    assert record.outcome is Outcome.CUT


@pytest.mark.parametrize("waited_s", [1.0, 20.0])
async def test_a_command_that_is_never_answered_counts_with_what_it_waited(
    hub: FakeHub, waited_s: float
) -> None:
    ahead_s = [0.0]
    async with grpc_gateway(fake_services(hub)) as address:
        site = Site(hub, (address,), clock=lambda: time.monotonic() + ahead_s[0])
        driving = site.drives(visit((0.0, Act.START)))
        await hub.until(lambda: hub.sessions and "set_video" in said(hub.session))
        hub.session.on_command = lambda *_: None
        await hub.until(lambda: "start" in said(hub.session))
        ahead_s[0] = waited_s
        site.stop.set()
        await driving
    (record,) = site.told.records
    longest_ms = record.values["command_ack"].get_quantile_value(1.0)
    assert longest_ms is not None
    # A prompt and the start: short waits that the end of the run cuts are no waits.
    assert record.values["command_ack"].count == 2 + 2 * (waited_s > CENSORED_S)
    assert (longest_ms >= waited_s * 990) == (waited_s > CENSORED_S)


async def test_frames_and_what_is_told_of_them_are_measured(site: Site, hub: FakeHub) -> None:
    driving = site.drives(visit((0.0, Act.START)))
    viewer = (await site.viewer()).viewer
    await hub.until(lambda: "start" in said(hub.session))
    for count, number in enumerate((*range(24), 23, *range(26, 48))):
        viewer.frame(frame(number))
        viewer.frame(frame(number, held=True))
        if number % 24 == 0:
            viewer.stats(media_pb2.ViewerStats(run=1, chunk=number // 24, frame=number))
        await site.frames(count + (count < 24))
    await site.told.until(lambda: sum(each.frames for each in site.told.seconds) == 46)
    site.stop.set()
    await driving
    (record,) = site.told.records
    counts = record.counts
    assert (counts["frames_shown"], counts["frames_lost"], counts["frames_repeated"]) == (46, 2, 1)
    assert record.values["start_to_first_frame"].count == 1
    assert record.values["frame_lateness"].count == 46
    assert sum(each.lost for each in site.told.seconds) == 2
    assert "frame_lateness" in {name for each in site.told.seconds for name in each.values}


async def test_a_clip_that_has_ended_is_played_again(site: Site, hub: FakeHub) -> None:
    site.drives(visit((0.0, Act.START)))
    await hub.until(lambda: hub.sessions and hub.session.state.started)
    session = hub.session
    session.publish(generation_complete=message_pb2.GenerationComplete(total_chunks=2))
    session.state.started, session.state.phase = False, message_pb2.PHASE_IDLE
    session.publish(state=session.state)
    await hub.until(lambda: said(session).count("start") == 2)


async def test_a_session_goes_on_at_another_gateway(hub: FakeHub) -> None:
    services = fake_services(hub)
    async with grpc_gateway(services) as second:
        async with grpc_gateway(services) as first:
            site = Site(hub, (first, second))
            driving = site.drives(visit((0.0, Act.START), (1.0, Act.PROMPT)))
            viewer = (await site.viewer()).viewer
            await hub.until(lambda: "start" in said(hub.session))
            viewer.frame(frame(0))
            await site.told.until(lambda: sum(each.frames for each in site.told.seconds) == 1)
        other = (await site.viewer()).viewer
        other.frame(frame(1))
        await hub.until(lambda: said(hub.session).count("set_prompt") == 2)
        await site.told.until(lambda: sum(each.frames for each in site.told.seconds) == 2)
        site.stop.set()
        await driving
    (record,) = site.told.records
    assert record.outcome is Outcome.CUT
    assert record.values["reconnect"].count == 1
    assert record.counts["frames_lost"] == 0
    assert hub.closed, "the visit still could end its session"


async def test_a_visit_whose_gateway_never_answers_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driven, "RECONNECT_S", 0.6)
    site = Site(FakeHub(), ("127.0.0.1:1",))
    record = await site.ended(site.drives(visit()))
    assert (record.outcome, record.failure) == (Outcome.FAILED, "unavailable")


async def test_a_camera_is_published_and_gives_keyframes(site: Site, hub: FakeHub) -> None:
    reel = source.reel("h264", CameraSpec(width=160, height=88), seconds=3.0)
    site.drives(visit((0.0, Act.START), live=True), camera=[reel])
    await hub.until(lambda: hub.sessions and "start" in said(hub.session), WAIT_S)
    assert said(hub.session)[0] == "set_mode"

    def frames() -> list[Any]:
        return [each for made in hub.session.connections for each in made.frames]

    await hub.until(lambda: len(frames()) >= 3, WAIT_S)
    assert frames()[0].keyframe
    assert not frames()[1].keyframe
    times = [each.timestamp_us for each in frames()]
    assert times == sorted(times)
    assert abs(times[0] / 1e6 - time.monotonic()) < WAIT_S
    known = len(frames())
    publisher: Any = hub.session.publisher
    publisher.sink.camera_keyframe()
    await hub.until(lambda: any(each.keyframe for each in frames()[known:]), WAIT_S)


async def test_a_fault_of_ours_ends_its_own_visit_alone(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        async def prepare(self) -> None:
            pass

        async def connect(self, seat: Seat) -> Line:
            raise ZeroDivisionError

        async def close(self) -> None:
            pass

    class Quiet:
        async def prepare(self) -> None:
            pass

        async def connect(self, seat: Seat) -> Line:
            return self

        async def lost(self) -> None:
            await asyncio.Event().wait()

        async def close(self) -> None:
            pass

    site.doors = {"webrtc": Broken(), "grpc": Quiet()}
    driving = site.drives(visit(wire="webrtc"), visit(number=1, leave=0.5))
    await site.told.until(lambda: len(site.told.records) == 2)
    site.stop.set()
    await driving
    by_number = {each.number: each for each in site.told.records}
    assert by_number[0].outcome is Outcome.FAILED
    assert by_number[0].failure == "fault: ZeroDivisionError"
    assert by_number[1].outcome is Outcome.COMPLETED
    assert "ZeroDivisionError" in capsys.readouterr().err
