"""PoolService over gRPC: who may ask, and how a drain is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from gateway.auth import OPERATOR, SESSION
from gateway.placement import SchedulerAwayError
from sana_gateway.v1 import pool_pb2, pool_pb2_grpc
from scheduler.core.errors import UnauthenticatedError
from scheduler.core.ids import Principal
from tests.fakes.grpc_gateway import drained, failure, grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

OPERATORS = (("authorization", "Bearer operator"),)
USERS = (("authorization", "Bearer user"),)


def progress(remaining: int, **others: Any) -> pool_pb2.DrainActorResponse:
    return pool_pb2.DrainActorResponse(remaining=remaining, **others)


DRAINS = (progress(2, without_room=1), progress(1), progress(0))


class Tokens:
    """Knows a user and an operator."""

    def authenticate(self, token: str | None) -> Principal:
        scopes = {"user": {SESSION}, "operator": {SESSION, OPERATOR}}.get(token or "")
        if scopes is None:
            raise UnauthenticatedError("the token is unknown")
        return Principal("tenant", frozenset(scopes))


@pytest.fixture
async def stub() -> AsyncIterator[Any]:
    services = replace(fake_services(FakeHub(), drains=DRAINS), auth=Tokens())
    async with grpc_gateway(services) as address, grpc.aio.insecure_channel(address) as channel:
        yield pool_pb2_grpc.PoolServiceStub(channel)


async def test_a_drain_tells_how_far_it_has_come(stub: Any) -> None:
    request = pool_pb2.DrainActorRequest(actor_id="a")
    request.grace.FromSeconds(60)
    assert await drained(stub.DrainActor(request, metadata=OPERATORS)) == list(DRAINS)


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        (USERS, grpc.StatusCode.PERMISSION_DENIED),
        ((), grpc.StatusCode.UNAUTHENTICATED),
    ],
)
async def test_operators_alone_may_drain(stub: Any, metadata: Any, code: grpc.StatusCode) -> None:
    request = pool_pb2.DrainActorRequest(actor_id="a")
    assert (await failure(stub.DrainActor(request, metadata=metadata))).code() is code


async def test_a_drain_that_makes_no_sense_is_refused(stub: Any) -> None:
    negative = pool_pb2.DrainActorRequest(actor_id="a")
    negative.grace.FromSeconds(-1)
    for request in (pool_pb2.DrainActorRequest(), negative):
        refusal = await failure(stub.DrainActor(request, metadata=OPERATORS))
        assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_scheduler_that_is_away_is_no_fault_of_ours() -> None:
    async def away(_: pool_pb2.DescribePoolRequest) -> pool_pb2.DescribePoolResponse:
        raise SchedulerAwayError("the scheduler does not answer: UNAVAILABLE")

    services = replace(fake_services(FakeHub()), pool=away)
    async with grpc_gateway(services) as address, grpc.aio.insecure_channel(address) as channel:
        stub: Any = pool_pb2_grpc.PoolServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.DescribePool(pool_pb2.DescribePoolRequest())
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_unknown_actor_is_named() -> None:
    async with (
        grpc_gateway(fake_services(FakeHub())) as address,
        grpc.aio.insecure_channel(address) as channel,
        asyncio.timeout(30),
    ):
        stub: Any = pool_pb2_grpc.PoolServiceStub(channel)
        refusal = await failure(stub.DrainActor(pool_pb2.DrainActorRequest(actor_id="a9")))
    assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.details() == "there is no actor a9"
