"""Times as a visit measures them over a real gateway, on a clock that the test winds.

The clock of the generator is weeks ahead of the service's, and jumps by minutes where the
service is to be slow: a value that holds anything else shows it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from gateway import ports
from gateway.ports import EncodedFrame
from sana_gateway.v1 import media_pb2
from scheduler.core.ids import Principal
from scheduler.scenario.load import Camera as CameraSpec
from sdk_adapters.harness.generator import Target, messages, source
from sdk_adapters.harness.generator.doors import Line, Seat
from sdk_adapters.harness.generator.process import Driver
from sdk_adapters.harness.generator.visit import Visit
from sdk_adapters.harness.plan import Act, PlannedVisit, Step
from sdk_adapters.harness.records import SessionRecord
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services
from tests.fakes.session import FakeConnection, FakeSession, FakeSubscription

pytestmark = pytest.mark.unit

WEEKS_S = 3e6
WAIT_S = 60.0
CREATE_S, ADMIT_S, ICE_S, DTLS_S, MEDIA_S, ANSWER_S = 700.0, 1100.0, 300.0, 500.0, 200.0, 1300.0
START_S, GLASS_S = 1700.0, 2300.0


@dataclass
class Clock:
    """The generator's clock."""

    ahead_s: float = WEEKS_S
    began: float = field(default_factory=time.monotonic)

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s

    def wind(self, seconds: float) -> None:
        """So much time passes."""
        self.ahead_s += seconds

    def took(self, record: SessionRecord, metric: str, seconds: float, share: float) -> bool:
        """Whether a value is so many seconds, and what the test itself took at most.

        Args:
            record: What was measured.
            metric: Of which.
            seconds: What was injected.
            share: Of the values, the one that so many are not above.
        """
        value_ms = record.values[metric].get_quantile_value(share)
        assert value_ms is not None
        test_ms = (time.monotonic() - self.began) * 1e3
        # Percentiles are right to half a percent.
        return seconds * 990 <= value_ms <= seconds * 1010 + test_ms


class SlowHub(FakeHub):
    """Takes its time to make a session, and to place it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(ready=False)
        self._clock = clock

    async def create(self, principal: Principal, model: str, request_id: str = "") -> FakeSession:
        self._clock.wind(CREATE_S)
        session = await super().create(principal, model, request_id)
        session.on_command = self._slowly
        return session

    def _slowly(self, connection: FakeConnection, command: ports.CommandLike) -> None:
        if command.WhichOneof("command") == "set_mode":  # type: ignore[union-attr]
            self._clock.wind(ANSWER_S)
        connection.session.respond(connection, command)


class SlowDoor:
    """Takes its time to connect; tells what of it was ICE and DTLS."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def prepare(self) -> None:
        pass

    async def connect(self, seat: Seat) -> Line:
        self._clock.wind(MEDIA_S)
        for metric, seconds in (("join_ice", ICE_S), ("join_dtls", DTLS_S)):
            self._clock.wind(seconds)
            seat.add(metric, seconds * 1e3, self._clock())
        return self

    async def lost(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


@dataclass
class Ended:
    """Waits for the visit to end."""

    records: list[SessionRecord] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, message: object) -> None:
        if isinstance(message, messages.Ended):
            self.records.append(message.record)
            self._more.set()

    async def one(self) -> SessionRecord:
        """Returns what was measured of it."""
        async with asyncio.timeout(WAIT_S):
            await self._more.wait()
        return self.records[0]


def job(address: str, *steps: Step, live: bool, leave_s: float) -> messages.Job:
    reel = source.reel("h264", CameraSpec(width=160, height=88), seconds=2.0)
    planned = PlannedVisit(
        number=0,
        process=0,
        arrival_s=0.0,
        leave_s=leave_s,
        wire="grpc",
        codec="h264",
        network="clean",
        decoded=False,
        live=live,
        steps=steps,
    )
    return messages.Job(
        process=0,
        target=Target((address,)),
        visits=(planned,),
        model="painter",
        measured_s=(0.0, 1e9),
        clip=b"a clip",
        camera={"h264": reel},
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(clock: Clock) -> SlowHub:
    return SlowHub(clock)


@pytest.fixture
async def address(hub: SlowHub) -> AsyncIterator[str]:
    async with grpc_gateway(fake_services(hub)) as address:
        yield address


async def test_every_part_of_a_join_is_what_it_took_and_in_no_other(
    clock: Clock, hub: SlowHub, address: str
) -> None:
    told, stop = Ended(), asyncio.Event()
    work = job(address, live=False, leave_s=60.0)
    driver = Driver(work, told.add, clock=clock, doors={"grpc": SlowDoor(clock)})
    driving = asyncio.create_task(driver.drive(clock(), stop))
    await hub.until(lambda: hub.sessions and hub.session.open_connections, WAIT_S)
    clock.wind(ADMIT_S)
    hub.session.place()
    record = await told.one()
    stop.set()
    await driving
    expected = {
        "admission_wait": CREATE_S + ADMIT_S,
        "join_gpu_wait": ADMIT_S,
        "join_request": CREATE_S + MEDIA_S,
        "join_ice": ICE_S,
        "join_dtls": DTLS_S,
        "join": CREATE_S + ADMIT_S + MEDIA_S + ICE_S + DTLS_S,
    }
    for metric, seconds in expected.items():
        assert record.values[metric].count == 1
        assert clock.took(record, metric, seconds, 1.0), metric
    # One answer took its time, the others none.
    assert record.values["command_ack"].count == 2
    assert clock.took(record, "command_ack", ANSWER_S, 1.0)
    assert clock.took(record, "command_ack", 0.0, 0.0)


async def test_first_frames_and_edited_pictures_know_nothing_of_the_distance_of_two_clocks(
    clock: Clock, hub: SlowHub, address: str
) -> None:
    hub.ready = True
    told, stop = Ended(), asyncio.Event()
    work = job(address, Step(0.0, Act.START, "a prompt"), live=True, leave_s=1e9)
    driver = Driver(work, told.add, clock=clock)
    driving = asyncio.create_task(driver.drive(clock(), stop))
    subscription = await hub.until(lambda: _subscriptions(hub), WAIT_S)
    await hub.until(lambda: hub.session.state.started, WAIT_S)
    clock.wind(START_S)
    for number in range(2):
        # The service hands back the times that the camera gave: those of the generator's clock.
        captured_us = await _captured(hub, since_s=clock())
        clock.wind(GLASS_S)
        subscription[0].viewer.frame(_frame(number, captured_us))
        async with asyncio.timeout(WAIT_S):
            while sum(_came(each) for each in driver.visits) <= number:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    stop.set()
    await driving
    (record,) = told.records
    assert clock.took(record, "start_to_first_frame", START_S + GLASS_S, 1.0)
    assert record.values["glass_to_glass"].count == 2
    for share in (0.0, 1.0):
        assert clock.took(record, "glass_to_glass", GLASS_S, share)


def _subscriptions(hub: FakeHub) -> list[FakeSubscription]:
    made = [each for session in hub.sessions.values() for each in session.open_connections]
    return [each for connection in made for each in connection.subscriptions]


async def _captured(hub: FakeHub, *, since_s: float) -> int:
    """Waits for a camera frame that was captured after a moment; returns when that was."""

    def captured() -> list[int]:
        frames = [each for made in hub.session.connections for each in made.frames]
        return [each.timestamp_us for each in frames if each.timestamp_us / 1e6 >= since_s]

    found: list[int] = await hub.until(captured, WAIT_S)
    return found[-1]


def _came(visit: Visit) -> int:
    return visit.watching.frames + len(visit.watching.arrivals)


def _frame(number: int, captured_us: int) -> EncodedFrame:
    return EncodedFrame(
        data=b"x" * 100,
        keyframe=True,
        codec=media_pb2.CODEC_H264,
        timestamp_us=number * 41_667,
        run=1,
        chunk=0,
        frame=number,
        source_us=captured_us,
    )
