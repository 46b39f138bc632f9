"""The gRPC server: sessions, callers, errors, garbage, health, stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from gateway.auth import OPERATOR, SESSION
from gateway.grpc_api.errors import CODES
from gateway.grpc_api.server import MESSAGE_BYTES, GrpcIngress
from gateway.ingress import IngressSettings
from sana_gateway.v1 import pool_pb2, pool_pb2_grpc, session_pb2, session_pb2_grpc
from scheduler.core import errors
from scheduler.core.ids import Principal
from tests.fakes.grpc_gateway import failure, grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

if TYPE_CHECKING:
    Stub = session_pb2_grpc.SessionServiceAsyncStub

SERVICE = "/sana_gateway.v1.SessionService/"
POOL = pool_pb2.DescribePoolResponse(actors=[pool_pb2.Actor(actor_id="a", model="painter")])


class Tokens:
    """Knows two tokens."""

    def authenticate(self, token: str | None) -> Principal:
        match token:
            case "user":
                return Principal("tenant-a", frozenset({SESSION}))
            case "operator":
                return Principal("tenant-b", frozenset({SESSION, OPERATOR}))
        raise errors.UnauthenticatedError("the token is unknown")


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def address(hub: FakeHub) -> AsyncIterator[str]:
    async with grpc_gateway(fake_services(hub, pool=POOL)) as address:
        yield address


@pytest.fixture
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Stub:
    return session_pb2_grpc.SessionServiceStub(channel)


def reason_of(error: Any) -> str:
    status = rpc_status.from_call(error)
    for packed in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if packed.Unpack(info):
            return str(info.reason)
    return ""


async def test_a_session_is_created_found_and_closed(hub: FakeHub, stub: Stub) -> None:
    created = await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
    session_id = created.session.session_id
    assert created.session.status == session_pb2.SESSION_STATUS_READY
    assert created.session.capabilities.width == 1280
    found = await stub.GetSession(session_pb2.GetSessionRequest(session_id=session_id))
    assert found.session == created.session
    close = session_pb2.CloseSessionRequest(session_id=session_id)
    await stub.CloseSession(close)
    await stub.CloseSession(close)
    assert hub.sessions[session_id].end_reason
    again = await stub.GetSession(session_pb2.GetSessionRequest(session_id=session_id))
    assert again.session.status == session_pb2.SESSION_STATUS_CLOSED


async def test_repeating_a_request_id_returns_the_session_already_made(
    hub: FakeHub, stub: Stub
) -> None:
    request = session_pb2.CreateSessionRequest(model="painter", request_id="r")
    first, second = await stub.CreateSession(request), await stub.CreateSession(request)
    assert first.session.session_id == second.session.session_id
    assert len(hub.sessions) == 1


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
async def test_every_refusal_has_its_code_on_the_wire(
    hub: FakeHub, stub: Stub, kind: type[errors.RequestError]
) -> None:
    hub.create_error = (
        errors.UnknownModelError(("painter",))
        if kind is errors.UnknownModelError
        else kind("refused", retry_after_s=1.0)
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
    assert caught.value.code() is CODES[kind]
    assert caught.value.details() == str(hub.create_error)
    assert reason_of(caught.value) == kind.reason


async def test_our_own_fault_says_nothing_about_itself(hub: FakeHub, stub: Stub) -> None:
    hub.create_error = RuntimeError("a secret path")  # type: ignore[assignment]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"


async def test_the_pool_is_described(channel: grpc.aio.Channel) -> None:
    stub: pool_pb2_grpc.PoolServiceAsyncStub = pool_pb2_grpc.PoolServiceStub(channel)
    assert await stub.DescribePool(pool_pb2.DescribePoolRequest()) == POOL


async def test_tokens_separate_tenants_and_scopes(hub: FakeHub) -> None:
    services = replace(fake_services(hub, pool=POOL), auth=Tokens())
    user = (("authorization", "Bearer user"),)
    operator = (("authorization", "Bearer operator"),)
    async with (
        grpc_gateway(services) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub: Stub = session_pb2_grpc.SessionServiceStub(channel)
        pool: pool_pb2_grpc.PoolServiceAsyncStub = pool_pb2_grpc.PoolServiceStub(channel)
        create = session_pb2.CreateSessionRequest(model="painter")
        for metadata in ((), (("authorization", "Basic user"),), (("authorization", "Bearer x"),)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.CreateSession(create, metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        made = await stub.CreateSession(create, metadata=user)
        assert hub.session.principal.tenant == "tenant-a"
        get = session_pb2.GetSessionRequest(session_id=made.session.session_id)
        await stub.GetSession(get, metadata=user)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetSession(get, metadata=operator)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pool.DescribePool(pool_pb2.DescribePoolRequest(), metadata=user)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await pool.DescribePool(pool_pb2.DescribePoolRequest(), metadata=operator) == POOL


@pytest.mark.parametrize("method", ["CreateSession", "GetSession", "CloseSession", "Signal"])
async def test_garbage_in_a_unary_call_is_the_callers_mistake(
    channel: grpc.aio.Channel, stub: Stub, method: str
) -> None:
    call = channel.unary_unary(SERVICE + method)  # type: ignore[call-arg]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))


@pytest.mark.parametrize("method", ["Attach", "Media"])
async def test_garbage_in_a_stream_is_the_callers_mistake(
    channel: grpc.aio.Channel, stub: Stub, method: str
) -> None:
    call: Any = channel.stream_stream(SERVICE + method)  # type: ignore[call-arg]
    stream = call()
    await stream.write(b"\xff\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))


async def test_garbage_after_the_start_ends_the_stream_and_its_connection(
    hub: FakeHub, channel: grpc.aio.Channel, stub: Stub
) -> None:
    made = await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
    start = session_pb2.AttachStart(session_id=made.session.session_id)
    call: Any = channel.stream_stream(SERVICE + "Attach")  # type: ignore[call-arg]
    stream = call()
    await stream.write(session_pb2.AttachRequest(start=start).SerializeToString())
    await hub.until(lambda: hub.session.open_connections)
    await stream.write(b"\xff\xff\xff\xff")
    assert (await failure(stream)).code() is grpc.StatusCode.INVALID_ARGUMENT
    await hub.until(lambda: not hub.session.open_connections)


async def test_a_message_over_the_limit_is_refused(stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateSession(session_pb2.CreateSessionRequest(model="m" * MESSAGE_BYTES))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary(SERVICE + "Nothing")  # type: ignore[call-arg]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_needs_no_token_and_tells_of_the_stop(hub: FakeHub) -> None:
    ingress = GrpcIngress(replace(fake_services(hub), auth=Tokens()))
    await ingress.start()
    async with grpc.aio.insecure_channel(ingress.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "sana_gateway.v1.SessionService", "sana_gateway.v1.PoolService"):
            request = health_pb2.HealthCheckRequest(service=service)
            checked = await stub.Check(request)
            assert checked.status == health_pb2.HealthCheckResponse.SERVING
        watching = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(ingress.stop(5.0))
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watching.cancel()
        await stopping


async def test_reflection_lists_the_services(channel: grpc.aio.Channel) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    stream = stub.ServerReflectionInfo()
    await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await stream.read()
    names = {each.name for each in answer.list_services_response.service}
    assert {"sana_gateway.v1.SessionService", "sana_gateway.v1.PoolService"} <= names
    await stream.done_writing()


async def test_a_taken_port_is_a_clear_error(hub: FakeHub, address: str) -> None:
    ingress = GrpcIngress(fake_services(hub, settings=IngressSettings(grpc_address=address)))
    with pytest.raises(errors.ConfigurationError, match=address):
        await ingress.start()
    await ingress.stop(0.0)


async def test_calls_over_the_limit_are_refused(hub: FakeHub) -> None:
    settings = IngressSettings(grpc_address="127.0.0.1:0", max_streams=1)
    async with (
        grpc_gateway(fake_services(hub, settings=settings)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub: Stub = session_pb2_grpc.SessionServiceStub(channel)
        made = await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
        stream: Any = stub.Attach()  # type: ignore[call-arg]
        start = session_pb2.AttachStart(session_id=made.session.session_id)
        await stream.write(session_pb2.AttachRequest(start=start))
        await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetSession(session_pb2.GetSessionRequest(session_id="x"))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        stream.cancel()


async def test_stop_ends_streams_at_once_as_unavailable(hub: FakeHub) -> None:
    ingress = GrpcIngress(fake_services(hub))
    await ingress.start()
    async with grpc.aio.insecure_channel(ingress.address) as channel:
        stub: Stub = session_pb2_grpc.SessionServiceStub(channel)
        made = await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
        stream: Any = stub.Attach()  # type: ignore[call-arg]
        start = session_pb2.AttachStart(session_id=made.session.session_id)
        await stream.write(session_pb2.AttachRequest(start=start))
        assert (await stream.read()).WhichOneof("response") == "attached"
        async with asyncio.timeout(30):
            stopping = asyncio.create_task(ingress.stop(60.0))
            assert (await failure(stream)).code() is grpc.StatusCode.UNAVAILABLE
            await stopping
    assert hub.session.open_connections == []
