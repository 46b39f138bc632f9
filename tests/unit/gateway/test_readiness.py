"""Startup, liveness and readiness of a gateway, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.grpc_api import server
from gateway.http import HttpServer
from gateway.readiness import Readiness
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Gateway:
    """What a gateway is asked about."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.readiness = Readiness(lambda: self.served)


def test_a_gateway_is_ready_from_its_first_model_until_it_is_told_to_stop() -> None:
    gateway = Gateway()
    readiness = gateway.readiness
    assert readiness.why_not_started == readiness.why_not_ready == "the servers do not listen yet"
    readiness.started = True
    assert readiness.why_not_started == ""
    assert readiness.why_not_ready == "no model is served yet"
    gateway.served.append("painter")
    assert readiness.why_not_ready == ""
    readiness.draining = True
    assert readiness.why_not_ready == "this gateway is being drained"
    assert readiness.why_not_started == ""


@pytest.fixture
async def site() -> AsyncIterator[tuple[Gateway, str, aiohttp.ClientSession]]:
    gateway = Gateway()
    services = replace(fake_services(FakeHub()), readiness=gateway.readiness)
    http = HttpServer(services)
    await http.start()
    async with aiohttp.ClientSession() as client:
        yield gateway, http.url, client
    await http.stop()


async def test_probes_over_http_are_apart(
    site: tuple[Gateway, str, aiohttp.ClientSession],
) -> None:
    gateway, url, client = site

    async def told() -> list[int]:
        answers = []
        for probe in ("livez", "startupz", "readyz"):
            async with client.get(f"{url}/{probe}") as answer:
                answers.append(answer.status)
        return answers

    assert await told() == [200, 503, 503]
    gateway.readiness.started = True
    assert await told() == [200, 200, 503]
    gateway.served.append("painter")
    assert await told() == [200, 200, 200]
    gateway.readiness.draining = True
    assert await told() == [200, 200, 503]


async def test_probes_over_grpc_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOOK_S", 0.01)
    gateway = Gateway()
    gateway.readiness.started = True
    services = replace(fake_services(FakeHub()), readiness=gateway.readiness)
    async with (
        grpc_gateway(services) as address,
        grpc.aio.insecure_channel(address) as channel,
        asyncio.timeout(30),
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "liveness", "startup", "sana_gateway.v1.EventService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == SERVING
        watching = stub.Watch(health_pb2.HealthCheckRequest(service="readiness"))
        while (told := (await watching.read()).status) != SERVING:
            if told == NOT_SERVING:
                gateway.served.append("painter")
        gateway.readiness.draining = True
        assert (await watching.read()).status == NOT_SERVING
        watching.cancel()
