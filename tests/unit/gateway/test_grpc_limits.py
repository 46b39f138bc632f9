"""What the gRPC door takes at most: metadata, messages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from gateway.auth.jwks import MOST_TOKEN
from gateway.grpc_api.interceptors import SMALL_BYTES
from gateway.grpc_api.server import MESSAGE_BYTES, METADATA_BYTES
from sana_gateway.v1 import pool_pb2, pool_pb2_grpc, session_pb2, session_pb2_grpc
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    async with (
        grpc_gateway(fake_services(FakeHub())) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel


@pytest.mark.parametrize(
    ("name", "size", "code"),
    [
        ("authorization", MOST_TOKEN, None),
        ("x-more", METADATA_BYTES, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("x-more", 10 * METADATA_BYTES, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_metadata_is_as_long_as_the_longest_token_and_not_much_longer(
    channel: grpc.aio.Channel, name: str, size: int, code: grpc.StatusCode | None
) -> None:
    stub: pool_pb2_grpc.PoolServiceAsyncStub = pool_pb2_grpc.PoolServiceStub(channel)
    call = stub.DescribePool(
        pool_pb2.DescribePoolRequest(), metadata=((name, "Bearer " + "x" * size),)
    )
    if code is None:
        assert isinstance(await call, pool_pb2.DescribePoolResponse)
        return
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    assert refused.value.code() is code


async def test_a_message_has_a_greatest_length(channel: grpc.aio.Channel) -> None:
    stub: session_pb2_grpc.SessionServiceAsyncStub = session_pb2_grpc.SessionServiceStub(channel)
    request = session_pb2.CreateSessionRequest(model="x" * MESSAGE_BYTES)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.CreateSession(request)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(("size", "fits"), [(SMALL_BYTES - 16, True), (SMALL_BYTES, False)])
async def test_what_operators_ask_is_short(
    channel: grpc.aio.Channel, size: int, fits: bool
) -> None:
    stub: pool_pb2_grpc.PoolServiceAsyncStub = pool_pb2_grpc.PoolServiceStub(channel)
    call = stub.DescribeSession(pool_pb2.DescribeSessionRequest(session_id="x" * size))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    assert (refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT) is not fits
