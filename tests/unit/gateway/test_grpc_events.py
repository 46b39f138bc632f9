"""EventService, and single sessions for operators, over gRPC."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.registry import REGISTRY

from gateway.audit import AuditLog
from gateway.auth import OPERATOR, SESSION
from gateway.operator_calls import ENDED, MOST_REASON
from sana_gateway.v1 import event_pb2, event_pb2_grpc, pool_pb2, pool_pb2_grpc
from scheduler.core.errors import UnauthenticatedError
from scheduler.core.ids import Principal
from tests.fakes.grpc_gateway import failure, grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.operations import FakeOperations
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

OPERATORS = (("authorization", f"Bearer {OPERATOR}"),)
USERS = (("authorization", f"Bearer {SESSION}"),)
OTHERS = (("authorization", "Bearer model"),)
DESCRIBED = pool_pb2.DescribeSessionResponse(
    session=pool_pb2.PooledSession(session_id="s", tenant="acme", model="painter")
)
WORD = event_pb2.WatchEventsResponse(event=event_pb2.Event(sequence=8, session_id="s"))


class Scopes:
    """A token names the scope of its caller."""

    def authenticate(self, token: str | None) -> Principal:
        if not token:
            raise UnauthenticatedError("no token")
        return Principal("acme", frozenset({token}))


@dataclass
class Site:
    """A served gateway."""

    pool: Any
    events: Any
    known: FakeOperations
    audit: Path

    def audited(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    known, file = FakeOperations(DESCRIBED, words=[WORD]), tmp_path / "audit"
    audit = AuditLog(str(file))
    services = fake_services(FakeHub(), operations=known)
    services = replace(services, auth=Scopes(), audit=audit)
    async with grpc_gateway(services) as address, grpc.aio.insecure_channel(address) as channel:
        yield Site(
            pool_pb2_grpc.PoolServiceStub(channel),
            event_pb2_grpc.EventServiceStub(channel),
            known,
            file,
        )
    audit.close()


@pytest.mark.parametrize("metadata", [OPERATORS, USERS])
async def test_operators_and_users_may_follow_the_journal(site: Site, metadata: Any) -> None:
    call = site.events.WatchEvents(
        event_pb2.WatchEventsRequest(after_sequence=7), metadata=metadata
    )
    assert await call.read() == WORD
    site.known.over.set()
    assert await call.read() is grpc.aio.EOF  # type: ignore[attr-defined]
    ((principal, asked, wire),) = site.known.asked
    assert (principal.tenant, asked.after_sequence, wire) == ("acme", 7, "grpc")


@pytest.mark.parametrize(
    ("metadata", "code"),
    [(OTHERS, grpc.StatusCode.PERMISSION_DENIED), ((), grpc.StatusCode.UNAUTHENTICATED)],
)
async def test_nobody_else_may(site: Site, metadata: Any, code: grpc.StatusCode) -> None:
    call = site.events.WatchEvents(event_pb2.WatchEventsRequest(), metadata=metadata)
    assert (await failure(call)).code() is code
    assert site.known.asked == []


async def test_a_session_is_described(site: Site) -> None:
    request = pool_pb2.DescribeSessionRequest(session_id="s")
    assert await site.pool.DescribeSession(request, metadata=OPERATORS) == DESCRIBED
    (line,) = site.audited()
    assert (line["action"], line["target"], line["outcome"]) == ("session.read", "s", "done")


@pytest.mark.parametrize(("reason", "told"), [("maintenance", "maintenance"), ("", ENDED)])
async def test_a_session_is_ended_and_that_is_written_down(
    site: Site, reason: str, told: str
) -> None:
    request = pool_pb2.EndSessionRequest(session_id="s", reason=reason)
    await site.pool.EndSession(request, metadata=OPERATORS)
    assert site.known.ended == [("s", told)]
    (line,) = site.audited()
    assert (line["action"], line["target"], line["outcome"]) == ("session.end", "s", "done")
    assert line["tenant"] == "acme"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (pool_pb2.EndSessionRequest(session_id="x"), grpc.StatusCode.NOT_FOUND),
        (pool_pb2.EndSessionRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        (
            pool_pb2.EndSessionRequest(session_id="s", reason="x" * (MOST_REASON + 1)),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            pool_pb2.EndSessionRequest(session_id="s", reason="two\nlines"),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
)
async def test_what_makes_no_sense_ends_nothing_and_is_written_down(
    site: Site, request_: pool_pb2.EndSessionRequest, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await site.pool.EndSession(request_, metadata=OPERATORS)
    assert refusal.value.code() is code
    assert site.known.ended == []
    (line,) = site.audited()
    assert line["outcome"].startswith("refused:")


async def test_users_end_no_session_so(site: Site) -> None:
    request = pool_pb2.EndSessionRequest(session_id="s")
    for method in (site.pool.EndSession, site.pool.DescribeSession):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await method(request, metadata=USERS)
        assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert site.known.ended == []


async def test_calls_are_measured_by_method_and_how_they_end(site: Site) -> None:
    def count(code: str) -> float:
        labels = {"method": "DescribeSession", "code": code}
        name = "sana_gateway_grpc_call_seconds_count"
        return REGISTRY.get_sample_value(name, labels) or 0.0

    before = count("OK"), count("NOT_FOUND"), count("PERMISSION_DENIED")
    known = pool_pb2.DescribeSessionRequest(session_id="s")
    unknown = pool_pb2.DescribeSessionRequest(session_id="x")
    await site.pool.DescribeSession(known, metadata=OPERATORS)
    for request, metadata in ((unknown, OPERATORS), (known, USERS)):
        with pytest.raises(grpc.aio.AioRpcError):
            await site.pool.DescribeSession(request, metadata=metadata)
    after = count("OK"), count("NOT_FOUND"), count("PERMISSION_DENIED")
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1]
    open_now = REGISTRY.get_sample_value(
        "sana_gateway_grpc_open_calls", {"method": "DescribeSession"}
    )
    assert open_now == 0
