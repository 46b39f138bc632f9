"""Mutual TLS between our processes: who has no certificate of the service is not heard."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import Mock

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from gateway import placement
from gateway.placement import PlacementClient
from model_actor.enrolment import Enrolment
from sana_gateway_internal.v1 import placement_pb2, placement_pb2_grpc
from scheduler.core.errors import ConfigurationError
from scheduler.process.certificates import make
from scheduler.process.tls import AUTHORITY, KEY, Identity, Wires

pytestmark = pytest.mark.integration

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certificates") / "own"
    make(made, days=1, now=NOW)
    return made


async def begin(wires: Wires, address: str = "127.0.0.1:0") -> tuple[grpc.aio.Server, str]:
    """Starts a server that answers health checks; returns where it listens, too."""
    serving = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), serving)  # type: ignore[attr-defined]
    port = wires.listen(serving, address)
    await serving.start()
    return serving, f"127.0.0.1:{port}"


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[str]:
    serving, address = await begin(Wires(folder))
    yield address
    await serving.stop(None)


async def check(channel: grpc.aio.Channel) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    return int(answer.status)


async def ask(channel: grpc.aio.Channel) -> int:
    async with channel:
        return await check(channel)


async def refused(channel: grpc.aio.Channel) -> bool:
    try:
        await ask(channel)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


async def test_a_role_with_a_certificate_of_the_service_is_served(
    server: str, folder: Path
) -> None:
    assert await ask(Wires(folder).dial(server)) == health_pb2.HealthCheckResponse.SERVING


async def test_who_speaks_in_the_clear_is_refused(server: str) -> None:
    assert await refused(Wires().dial(server))


async def test_who_trusts_the_service_but_shows_nothing_is_refused(
    server: str, folder: Path
) -> None:
    trusting = grpc.ssl_channel_credentials(Identity.read(folder).authority)
    named = (("grpc.ssl_target_name_override", "sana-gateway"),)
    assert await refused(grpc.aio.secure_channel(server, trusting, options=named))


async def test_a_certificate_of_another_authority_is_refused(server: str, tmp_path: Path) -> None:
    make(tmp_path / "foreign", days=1, now=NOW)
    assert await refused(Wires(tmp_path / "foreign").dial(server))


async def test_an_expired_certificate_is_refused(server: str, tmp_path: Path) -> None:
    make(tmp_path / "old", days=1, now=NOW - dt.timedelta(days=2))
    assert await refused(Wires(tmp_path / "old").dial(server))


async def test_a_renewed_set_is_taken_without_a_restart(tmp_path: Path) -> None:
    own, new = tmp_path / "own", tmp_path / "new"
    make(own, days=1, now=NOW)
    make(new, days=1, now=NOW)
    serving, address = await begin(Wires(own))
    try:
        assert await refused(Wires(new).dial(address))
        await asyncio.to_thread(shutil.copytree, new, own, dirs_exist_ok=True)
        assert await ask(Wires(new).dial(address)) == health_pb2.HealthCheckResponse.SERVING
    finally:
        await serving.stop(None)


async def test_a_line_that_stands_is_dialled_with_the_renewed_certificate(tmp_path: Path) -> None:
    own = tmp_path / "own"
    make(own, days=1, now=NOW)
    make(tmp_path / "new", days=1, now=NOW)
    serving, address = await begin(Wires(own))
    line = Wires(own).line(address)
    try:
        assert await check(line.channel) == health_pb2.HealthCheckResponse.SERVING
        await asyncio.to_thread(shutil.copytree, tmp_path / "new", own, dirs_exist_ok=True)
        assert not await line.renew(), "the connection still stands"
        await serving.stop(None)
        serving, _ = await begin(Wires(own), address)
        async with asyncio.timeout(20):
            while not await line.renew():
                with pytest.raises(grpc.aio.AioRpcError):
                    await check(line.channel)
            assert await check(line.channel) == health_pb2.HealthCheckResponse.SERVING
        assert not await line.renew()
    finally:
        await line.close()
        await serving.stop(None)


class Scheduler(placement_pb2_grpc.PlacementServicer):
    """Notes who has reached it."""

    def __init__(self) -> None:
        self.asked, self.enrolled = asyncio.Event(), asyncio.Event()

    async def DescribePool(self, *_: object) -> placement_pb2.DescribePoolResponse:  # noqa: N802
        self.asked.set()
        return placement_pb2.DescribePoolResponse()

    async def Enroll(  # noqa: N802
        self, requests: AsyncIterator[placement_pb2.EnrollRequest], _: object
    ) -> AsyncIterator[placement_pb2.EnrollResponse]:
        async for _request in requests:
            self.enrolled.set()
        yield placement_pb2.EnrollResponse()


async def scheduler(folder: Path, address: str) -> tuple[Scheduler, grpc.aio.Server, str]:
    """Starts a scheduler that shows the certificate of a folder."""
    servicer = Scheduler()  # type: ignore[abstract] # the rest is refused
    serving = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    placement_pb2_grpc.add_PlacementServicer_to_server(servicer, serving)
    port = Wires(folder).listen(serving, address)
    await serving.start()
    return servicer, serving, f"127.0.0.1:{port}"


async def test_gateways_and_actors_come_back_to_a_scheduler_whose_set_was_renewed_with_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "retry_pause", lambda _: 0.05)
    own = tmp_path / "own"
    make(own, days=1, now=NOW)
    make(tmp_path / "new", days=1, now=NOW)
    first, serving, address = await scheduler(own, "127.0.0.1:0")
    actor = Mock()
    actor.register.return_value = placement_pb2.Register(actor_id="a")
    actor.heartbeat.return_value = placement_pb2.Heartbeat()
    gateway, enrolment = (
        PlacementClient(address, "g", Wires(own)),
        Enrolment(address, actor, Wires(own)),
    )
    running = [
        asyncio.create_task(each)
        for each in (gateway.run_presence(dict, Mock()), gateway.run_poll(), enrolment.run())
    ]
    try:
        async with asyncio.timeout(40):
            await asyncio.gather(first.asked.wait(), first.enrolled.wait())
            await asyncio.to_thread(shutil.copytree, tmp_path / "new", own, dirs_exist_ok=True)
            await serving.stop(None)
            second, serving, _ = await scheduler(own, address)
            await asyncio.gather(second.asked.wait(), second.enrolled.wait())
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await gateway.close()
        await enrolment.close()
        await serving.stop(None)


async def test_a_set_is_replaced_host_by_host_while_all_believe_both_authorities(
    tmp_path: Path,
) -> None:
    sets = [tmp_path / "old", tmp_path / "new"]
    for each in sets:
        make(each, days=1, now=NOW)
    both = b"".join((each / AUTHORITY).read_bytes() for each in sets)
    for each in sets:
        (each / AUTHORITY).write_bytes(both)
    for here, there in sets, reversed(sets):
        serving, address = await begin(Wires(here))
        try:
            assert await ask(Wires(there).dial(address)) == health_pb2.HealthCheckResponse.SERVING
        finally:
            await serving.stop(None)


async def test_the_old_set_serves_on_while_a_new_one_is_half_written(tmp_path: Path) -> None:
    own, new = tmp_path / "own", tmp_path / "new"
    make(own, days=1, now=NOW)
    make(new, days=1, now=NOW)
    wires = Wires(own)
    serving, address = await begin(wires)
    try:
        shutil.copy(new / KEY, own / KEY)
        assert await ask(wires.dial(address)) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(ConfigurationError, match=r"tls\.key .* not the key of tls\.crt"):
            Wires(own)
    finally:
        await serving.stop(None)


@pytest.mark.parametrize(
    ("address", "warned"), [("127.0.0.1:0", False), ("[::1]:0", False), ("0.0.0.0:0", True)]
)
async def test_listening_to_other_hosts_in_the_clear_is_warned_of(
    address: str, *, warned: bool, folder: Path
) -> None:
    for wires, expected in (Wires(), warned), (Wires(folder), False):
        with capture_logs() as logged:
            wires.listen(grpc.aio.server(), address)
        assert [line["event"] for line in logged] == ["wire.in_the_clear"] * expected


async def test_a_unix_socket_is_plain_and_not_warned_of(folder: Path, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/socket"
    with capture_logs() as logged:
        serving, _ = await begin(Wires(folder), address)
    try:
        assert await ask(Wires().dial(address)) == health_pb2.HealthCheckResponse.SERVING
    finally:
        await serving.stop(None)
    assert logged == []


def test_an_incomplete_folder_is_refused_with_what_to_do(folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(folder, half)
    (half / KEY).unlink()
    with pytest.raises(ConfigurationError, match=r"tls\.key.*certs"):
        Wires(half)


def test_certificates_are_not_overwritten_and_only_their_owner_reads_them(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="already"):
        make(folder, days=1, now=NOW)
    assert (folder / KEY).stat().st_mode & 0o077 == 0
