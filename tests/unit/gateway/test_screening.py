"""What calls pass before their handlers, over HTTP and gRPC: origin, rates, and credentials."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import http, screening
from gateway.grpc_api import interceptors
from gateway.ingress import IngressServices, IngressSettings
from gateway.limits.buckets import Rate
from gateway.limits.calls import CallRates
from gateway.limits.settings import RateSettings
from gateway.limits.turns import Turns
from gateway.origins import Origins
from sana_gateway.v1 import session_pb2, session_pb2_grpc
from scheduler.core.errors import LimitError, UnauthenticatedError
from scheduler.core.ids import Principal
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

APP, EVIL = "https://app.example.com", "https://evil.example.org"
OFF = dict.fromkeys(
    ("create", "exchange", "upload", "signal", "command", "address", "failures"), "off"
)
NEVER = Rate(1e-9, 1)
GOOD = {"Authorization": "Bearer good"}


class Door:
    """Knows one token, and remembers what it was asked to prepare."""

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.asked = 0

    async def prepare(self, token: str) -> None:
        self.prepared.append(token)

    def authenticate(self, token: str | None) -> Principal:
        self.asked += 1
        if token != "good":
            raise UnauthenticatedError("the token is unknown")
        return Principal("tenant", frozenset({"session"}))


def services(
    door: Door | None = None, origins: Origins | None = None, **rates: Any
) -> IngressServices:
    settings = IngressSettings(grpc_address="127.0.0.1:0", http_address="127.0.0.1:0")
    settings = dataclasses.replace(settings, origins=origins or Origins())
    made = fake_services(FakeHub(), settings=settings)
    # One that does not move: what is used up stays so.
    counted = CallRates(RateSettings(**(OFF | rates)), lambda: 1000.0) if rates else None
    return dataclasses.replace(made, auth=door or Door(), rates=counted)


Client = Callable[..., AbstractAsyncContextManager[aiohttp.ClientSession]]


@pytest.fixture
async def serving() -> Client:
    @asynccontextmanager
    async def serve(made: IngressServices) -> AsyncIterator[aiohttp.ClientSession]:
        async def create(request: web.Request) -> web.Response:
            http.caller(made, request)
            return web.Response(text="made")

        async def exchange(_: web.Request) -> web.Response:
            raise UnauthenticatedError("the API key is not valid")

        async def full(_: web.Request) -> web.Response:
            raise LimitError("no more", retry_after_s=7.0, quota="stored")

        server = http.HttpServer(made)
        server.add_routes(
            [web.post("/sessions", create), web.post("/tokens", exchange), web.get("/full", full)]
        )
        await server.start()
        try:
            async with aiohttp.ClientSession(server.url) as client:
                yield client
        finally:
            await server.stop()

    return serve


async def test_a_caller_that_creates_too_much_is_told_when_to_come_back(serving: Client) -> None:
    async with serving(services(create="1/h:2")) as client:
        for status in (200, 200, 429):
            async with client.post("/sessions", headers=GOOD) as answer:
                assert answer.status == status
        assert answer.headers["Retry-After"] == "3600"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_what_was_used_up_is_named(serving: Client) -> None:
    async with serving(services()) as client, client.get("/full") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        assert (await answer.json())["quota"] == "stored"


async def test_wrong_credentials_are_not_looked_at_for_ever(serving: Client) -> None:
    door = Door()
    async with serving(services(door, failures="1/h:3")) as client:
        for path in ("/sessions", "/tokens", "/sessions"):
            async with client.post(path, headers={"Authorization": "Bearer bad"}) as answer:
                assert answer.status == 401
        asked = door.asked
        for headers in ({}, {"Authorization": "Bearer bad"}, GOOD):
            async with client.post("/sessions", headers=headers) as answer:
                assert answer.status == 429
                assert (await answer.json())["quota"] == "rate_failures"
        assert door.asked == asked
        # Whoever watches over the service is not stopped by that.
        for path in ("/livez", "/metrics"):
            async with client.get(path) as answer:
                assert answer.status == 200


async def test_tokens_are_made_only_so_often_for_an_address(serving: Client) -> None:
    async with serving(services(exchange="1/h:1")) as client:
        for status in (401, 429):
            async with client.post("/tokens") as answer:
                assert answer.status == status


async def test_what_is_refused_waits_for_its_turn_and_what_is_good_does_not(
    serving: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "REFUSED", NEVER)
    async with serving(services()) as client:
        refused = [asyncio.create_task(client.post("/sessions")) for _ in range(2)]
        refused += [asyncio.create_task(client.get("/nothing")) for _ in range(2)]
        await asyncio.wait(refused, return_when=asyncio.FIRST_COMPLETED)
        async with client.post("/sessions", headers=GOOD) as answer:
            assert answer.status == 200
        async with client.get("/livez") as answer:
            assert answer.status == 200
        assert sum(each.done() for each in refused) == 1
        for each in refused:
            each.cancel()
        await asyncio.gather(*refused, return_exceptions=True)


async def test_when_too_many_wait_to_be_refused_their_connections_are_closed(
    serving: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "Turns", partial(Turns, most_waiting=0))
    monkeypatch.setattr(screening, "REFUSED", NEVER)
    async with serving(services()) as client:
        async with client.post("/sessions") as answer:
            assert answer.status == 401
        with pytest.raises(aiohttp.ClientError):
            await client.post("/sessions")


async def test_metrics_are_told_only_so_often(
    serving: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "Turns", partial(Turns, most_waiting=0))
    monkeypatch.setattr(http, "SCRAPES", NEVER)
    async with serving(services()) as client:
        for status in (200, 429):
            async with client.get("/metrics") as answer:
                assert answer.status == status


async def test_a_token_is_prepared_before_it_is_judged(serving: Client) -> None:
    door = Door()
    async with serving(services(door)) as client:
        async with client.post("/sessions", headers=GOOD) as answer:
            assert answer.status == 200
        async with client.post("/sessions") as answer:
            assert answer.status == 401
    assert door.prepared == ["good"]


async def test_a_page_of_another_origin_is_answered_nothing(serving: Client) -> None:
    door = Door()
    async with serving(services(door, Origins(frozenset({APP})))) as client:
        for origin, status in ((APP, 200), (EVIL, 403), (None, 200)):
            headers = GOOD if origin is None else {**GOOD, "Origin": origin}
            async with client.post("/sessions", headers=headers) as answer:
                assert answer.status == status
                allowed = answer.headers.get("Access-Control-Allow-Origin")
                assert allowed == (APP if origin == APP else None)
                assert answer.headers["Vary"] == "Origin"
        assert door.asked == 2


async def test_a_page_that_may_not_call_is_told_so_by_its_preflight(serving: Client) -> None:
    async with serving(services(origins=Origins(frozenset({APP})))) as client:
        for origin, allowed in ((APP, True), (EVIL, False)):
            async with client.options("/sessions", headers={"Origin": origin}) as answer:
                assert answer.status == 204
                assert ("Access-Control-Allow-Origin" in answer.headers) is allowed
                assert ("Access-Control-Allow-Headers" in answer.headers) is allowed


# gRPC


async def refusal(stub: Any, token: str) -> grpc.aio.AioRpcError:
    metadata = (("authorization", f"Bearer {token}"),)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.CreateSession(
            session_pb2.CreateSessionRequest(model="painter"), metadata=metadata
        )
    return refused.value


@asynccontextmanager
async def grpc_stub(made: IngressServices) -> AsyncIterator[Any]:
    async with (
        grpc_gateway(made) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield session_pb2_grpc.SessionServiceStub(channel)


async def test_grpc_says_which_quota_and_when_to_come_back() -> None:
    async with grpc_stub(services(create="1/h:1")) as stub:
        metadata = (("authorization", "Bearer good"),)
        await stub.CreateSession(
            session_pb2.CreateSessionRequest(model="painter"), metadata=metadata
        )
        error = await refusal(stub, "good")
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    found: dict[str, Any] = {}
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.QuotaFailure,
        error_details_pb2.RetryInfo,
    ):
        for packed in status.details:
            detail = kind()
            if packed.Unpack(detail):
                found[kind.__name__] = detail
    assert found["ErrorInfo"].metadata["quota"] == "rate_create"
    assert found["QuotaFailure"].violations[0].subject == "rate_create"
    assert found["RetryInfo"].retry_delay.seconds == 3600


async def test_wrong_credentials_over_grpc_are_counted_too() -> None:
    door = Door()
    async with grpc_stub(services(door, failures="1/h:2")) as stub:
        codes = [(await refusal(stub, "bad")).code() for _ in range(3)]
    assert codes == [
        *[grpc.StatusCode.UNAUTHENTICATED] * 2,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ]
    assert door.asked == 2
    assert door.prepared == ["bad"] * 2


async def test_calls_of_nobody_wait_for_their_turn_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interceptors, "REFUSED", NEVER)
    async with grpc_stub(services()) as stub:
        refused = [asyncio.create_task(refusal(stub, "bad")) for _ in range(3)]
        await asyncio.wait(refused, return_when=asyncio.FIRST_COMPLETED)
        request = session_pb2.CreateSessionRequest(model="painter")
        await stub.CreateSession(request, metadata=(("authorization", "Bearer good"),))
        assert sum(each.done() for each in refused) == 1
        for each in refused:
            each.cancel()
        await asyncio.gather(*refused, return_exceptions=True)


async def test_calls_of_nobody_make_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(interceptors, "TRACER", provider.get_tracer("test"))
    async with grpc_stub(services()) as stub:
        assert (await refusal(stub, "bad")).code() is grpc.StatusCode.UNAUTHENTICATED
        request = session_pb2.CreateSessionRequest(model="painter")
        await stub.CreateSession(request, metadata=(("authorization", "Bearer good"),))
    assert [each.name for each in exporter.get_finished_spans()] == ["gateway.create_session"]
