"""TLS on the public doors: HTTP and gRPC, renewed without a restart, and clients' certificates."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from gateway import accepting
from gateway.doors import DoorFiles, Doors
from gateway.grpc_api.server import GrpcIngress
from gateway.http import HttpServer
from gateway.settings import GatewaySettings, exposed
from sana_gateway import Client, RetryPolicy, UnavailableError
from scheduler.core.errors import ConfigurationError
from scheduler.process.certificates import make
from scheduler.process.config import load_settings
from scheduler.process.tls import AUTHORITY, CERTIFICATE, KEY, NAME
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.integration

NAMED = (("grpc.ssl_target_name_override", NAME),)


def certificates(folder: Path) -> DoorFiles:
    """Makes a set of its own authority; returns its files."""
    make(folder, days=1, now=dt.datetime.now(dt.UTC))
    return DoorFiles(folder / CERTIFICATE, folder / KEY)


@pytest.fixture
def files(tmp_path: Path) -> DoorFiles:
    return certificates(tmp_path / "first")


@pytest.fixture
def shown(files: DoorFiles) -> Doors:
    return Doors(files)


class Gateway:
    """The HTTP and gRPC servers of a gateway, over a hub that is none."""

    def __init__(self, doors: Doors) -> None:
        services = replace(fake_services(FakeHub()), doors=doors)
        self.http, self.grpc = HttpServer(services), GrpcIngress(services)

    async def __aenter__(self) -> Self:
        await self.http.start()
        await self.grpc.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.grpc.stop(0.0)
        await self.http.stop()

    async def get(self, context: ssl.SSLContext) -> int:
        """Returns the status of a request over HTTPS."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.http.url}/livez", ssl=context, server_hostname=NAME) as answer,
        ):
            return answer.status

    async def health(self, credentials: grpc.ChannelCredentials | None) -> Any:
        """Makes a call over gRPC."""
        channel = (
            grpc.aio.insecure_channel(self.grpc.address)
            if credentials is None
            else grpc.aio.secure_channel(self.grpc.address, credentials, options=NAMED)
        )
        async with channel:
            stub = health_pb2_grpc.HealthStub(channel)
            return await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)


def trusting(folder: Path, own: Path | None = None) -> ssl.SSLContext:
    """Returns what a client over HTTP believes, and shows."""
    context = ssl.create_default_context(cafile=folder / AUTHORITY)
    if own is not None:
        context.load_cert_chain(own / CERTIFICATE, own / KEY)
    return context


def credentials(folder: Path, own: Path | None = None) -> grpc.ChannelCredentials:
    """Returns what a client over gRPC believes, and shows."""
    believed = (folder / AUTHORITY).read_bytes()
    if own is None:
        return grpc.ssl_channel_credentials(believed)
    return grpc.ssl_channel_credentials(
        believed, (own / KEY).read_bytes(), (own / CERTIFICATE).read_bytes()
    )


@pytest.fixture
async def gateway(shown: Doors) -> AsyncIterator[Gateway]:
    async with Gateway(shown) as running:
        yield running


async def test_both_doors_speak_tls_and_nothing_else(gateway: Gateway, tmp_path: Path) -> None:
    first = tmp_path / "first"
    assert gateway.http.url.startswith("https://127.0.0.1:")
    assert await gateway.get(trusting(first)) == 200
    assert await gateway.health(credentials(first))
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(gateway.http.url.replace("https", "http") + "/livez")
    with pytest.raises(grpc.aio.AioRpcError):
        await gateway.health(None)


async def test_a_client_that_believes_another_authority_is_not_deceived(
    gateway: Gateway, tmp_path: Path
) -> None:
    certificates(tmp_path / "other")
    with pytest.raises(aiohttp.ClientSSLError):
        await gateway.get(trusting(tmp_path / "other"))
    with pytest.raises(grpc.aio.AioRpcError):
        await gateway.health(credentials(tmp_path / "other"))


def renew(files: DoorFiles, by: DoorFiles) -> None:
    for old, new in ((files.certificate, by.certificate), (files.key, by.key)):
        os.replace(new, old)  # noqa: PTH105 - as a renewal does


async def test_a_renewed_certificate_is_shown_without_a_restart(
    gateway: Gateway, files: DoorFiles, tmp_path: Path
) -> None:
    connected = aiohttp.ClientSession()
    context = trusting(tmp_path / "first")
    url = f"{gateway.http.url}/livez"
    async with connected, connected.get(url, ssl=context, server_hostname=NAME):
        renew(files, certificates(tmp_path / "second"))
        assert await gateway.get(trusting(tmp_path / "second")) == 200
        assert await gateway.health(credentials(tmp_path / "second"))
        with pytest.raises(aiohttp.ClientSSLError):
            await gateway.get(trusting(tmp_path / "first"))
        with pytest.raises(grpc.aio.AioRpcError):
            await gateway.health(credentials(tmp_path / "first"))


async def test_a_half_written_set_is_not_shown(
    gateway: Gateway, files: DoorFiles, tmp_path: Path
) -> None:
    second = certificates(tmp_path / "second")
    files.certificate.write_bytes(second.certificate.read_bytes())
    with capture_logs() as log:
        assert await gateway.get(trusting(tmp_path / "first")) == 200
        assert await gateway.health(credentials(tmp_path / "first"))
    assert [each["event"] for each in log] == ["door.certificate_kept"], "once"
    files.key.write_bytes(second.key.read_bytes())
    assert await gateway.get(trusting(tmp_path / "second")) == 200


@pytest.fixture
async def guarded(files: DoorFiles, tmp_path: Path) -> AsyncIterator[Gateway]:
    certificates(tmp_path / "clients")
    ca = tmp_path / "ca.pem"
    ca.write_bytes((tmp_path / "clients" / AUTHORITY).read_bytes())
    async with Gateway(Doors(replace(files, client_ca=ca))) as running:
        yield running


async def test_with_an_authority_of_clients_those_without_its_certificate_are_not_heard(
    guarded: Gateway, tmp_path: Path
) -> None:
    first, clients = tmp_path / "first", tmp_path / "clients"
    assert await guarded.get(trusting(first, clients)) == 200
    assert await guarded.health(credentials(first, clients))
    certificates(tmp_path / "other")
    for own in (None, tmp_path / "other"):
        with pytest.raises(aiohttp.ClientError):
            await guarded.get(trusting(first, own))
        with pytest.raises(grpc.aio.AioRpcError):
            await guarded.health(credentials(first, own))


async def test_the_authority_of_clients_is_renewed_too(guarded: Gateway, tmp_path: Path) -> None:
    first = tmp_path / "first"
    certificates(tmp_path / "next")
    os.replace(tmp_path / "next" / AUTHORITY, tmp_path / "ca.pem")  # noqa: PTH105
    assert await guarded.get(trusting(first, tmp_path / "next")) == 200
    assert await guarded.health(credentials(first, tmp_path / "next"))
    with pytest.raises(aiohttp.ClientError):
        await guarded.get(trusting(first, tmp_path / "clients"))


async def test_a_handshake_that_does_not_come_to_its_end_is_given_up(
    shown: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "HANDSHAKE_S", 0.05)
    async with Gateway(shown) as running:
        host, _, port = running.http.url.removeprefix("https://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()


async def test_the_python_client_checks_whom_it_speaks_to(tmp_path: Path) -> None:
    made = {"named": ["127.0.0.1"], "another": ["gateway.example.org"]}
    for name, hosts in made.items():
        make(tmp_path / name, days=1, now=dt.datetime.now(dt.UTC), hosts=hosts)
        files = DoorFiles(tmp_path / name / CERTIFICATE, tmp_path / name / KEY)
        patience = RetryPolicy(window=0.2)
        async with (
            Gateway(Doors(files)) as running,
            Client(
                running.grpc.address, credentials=credentials(tmp_path / name), policy=patience
            ) as client,
        ):
            if name == "named":
                assert not (await client.describe_pool()).actors
            else:
                with pytest.raises(UnavailableError):
                    await client.describe_pool()


@pytest.mark.parametrize("broken", ["missing", "no PEM", "another key", "no authority"])
def test_files_that_cannot_be_used_keep_the_gateway_from_starting(
    files: DoorFiles, tmp_path: Path, broken: str
) -> None:
    match broken:
        case "missing":
            files.key.unlink()
        case "no PEM":
            files.certificate.write_text("certificate")
        case "another key":
            files = replace(files, key=certificates(tmp_path / "other").key)
        case "no authority":
            ca = tmp_path / "ca.pem"
            ca.write_text("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
            files = replace(files, client_ca=ca)
    with pytest.raises(ConfigurationError) as refused:
        Doors(files)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "warnings"),
    [
        ({"host": "0.0.0.0", "auth": "api-key"}, 2),
        ({"host": "0.0.0.0", "auth": "api-key", "ingress": ("reactor",)}, 1),
        ({"host": "127.0.0.1", "auth": "api-key"}, 0),
        ({"host": "0.0.0.0", "auth": "none"}, 0),
    ],
)
def test_keys_in_the_clear_beyond_this_host_are_warned_of(
    said: dict[str, Any], warnings: int, shown: Doors
) -> None:
    settings = load_settings(GatewaySettings, overrides=said)
    with capture_logs() as log:
        Doors().warn(*exposed(settings))
    assert [each["event"] for each in log] == ["door.in_the_clear"] * warnings
    with capture_logs() as log:
        shown.warn(*exposed(settings))
    assert not log, "not with TLS"
