"""What operators ask over HTTP: the answers, errors and audit lines of the gRPC calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.audit import AuditLog
from gateway.auth import OPERATOR, SESSION
from gateway.http import HttpServer
from gateway.operator_http import OperatorRoutes
from gateway.placement import SchedulerAwayError
from sana_gateway.v1 import event_pb2, pool_pb2, usage_pb2
from scheduler.core.errors import UnauthenticatedError
from scheduler.core.ids import Holder, Principal
from tests.fakes.drains import Drains
from tests.fakes.hub import FakeHub
from tests.fakes.operations import FakeOperations
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

ROUTES = (
    ("GET", "/operator/pool"),
    ("GET", "/operator/usage"),
    ("GET", "/operator/sessions/{session_id}"),
    ("DELETE", "/operator/sessions/{session_id}"),
    ("GET", "/operator/sessions/{session_id}/trace"),
    ("POST", "/operator/actors/{actor_id}/drain"),
)
SPANS = event_pb2.WatchEventsResponse(
    spans=event_pb2.TraceSpans(session_id="s", spans=[event_pb2.TraceSpan(name="actor.chunk")])
)


class Scopes:
    """A token names the scopes of its caller."""

    def authenticate(self, token: str | None) -> Principal:
        if not token:
            raise UnauthenticatedError("no token")
        return Principal("acme", frozenset(token.split(",")), (Holder(f"key:{token}"),))


class Scheduler:
    """What the scheduler would say."""

    def __init__(self) -> None:
        self.pools: list[pool_pb2.DescribePoolRequest] = []
        self.usages: list[usage_pb2.ReadUsageRequest] = []
        self.drains: list[pool_pb2.DrainActorRequest] = []
        self.is_away = False
        described = pool_pb2.DescribeSessionResponse()
        described.session.session_id = "s"
        described.events.add(sequence=8, kind=event_pb2.EVENT_KIND_SESSION_PLACED)
        self.operations = FakeOperations(described, words=[SPANS])
        self._course = [pool_pb2.DrainActorResponse(remaining=2), pool_pb2.DrainActorResponse()]

    async def pool(self, asked: pool_pb2.DescribePoolRequest) -> pool_pb2.DescribePoolResponse:
        if self.is_away:
            raise SchedulerAwayError("the scheduler does not answer")
        self.pools.append(asked)
        shown = [pool_pb2.PooledSession(session_id="s" * 64, tenant="acme") for _ in range(64)]
        return pool_pb2.DescribePoolResponse(sessions=shown, event_sequence=9)

    async def usage(self, asked: usage_pb2.ReadUsageRequest) -> usage_pb2.ReadUsageResponse:
        self.usages.append(asked)
        return usage_pb2.ReadUsageResponse(rows=[usage_pb2.UsageRow(tenant="acme", chunks=3)])

    def drain(
        self, asked: pool_pb2.DrainActorRequest
    ) -> AsyncIterator[pool_pb2.DrainActorResponse]:
        self.drains.append(asked)
        return Drains(self._course if asked.actor_id == "a" else ())(asked)


class Site:
    """A served gateway, and who calls it."""

    def __init__(self, url: str, client: aiohttp.ClientSession, log: Path) -> None:
        self.scheduler = Scheduler()
        self.url, self.log, self._client = url, log, client

    async def ask(
        self, method: str, path: str, body: Any = None, token: str = OPERATOR
    ) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body)
        async with self._client.request(
            method, self.url + path, data=data, headers=headers
        ) as answer:
            return answer.status, await answer.text()

    async def told(self, path: str) -> Any:
        status, text = await self.ask("GET", path)
        assert status == 200, text
        return json.loads(text)

    @property
    def audited(self) -> list[tuple[str, str, str]]:
        """Action, target and outcome of every line."""
        lines = map(json.loads, self.log.read_text().splitlines())
        return [(each["action"], each["target"], each["outcome"]) for each in lines]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    log = tmp_path / "audit.jsonl"
    async with aiohttp.ClientSession() as client:
        made = Site("", client, log)
        scheduler = made.scheduler
        services = replace(
            fake_services(FakeHub(), operations=scheduler.operations),
            auth=Scopes(),
            pool=scheduler.pool,
            usage=scheduler.usage,
            drain=scheduler.drain,
            audit=AuditLog(str(log)),
        )
        server = HttpServer(services)
        server.add_routes(OperatorRoutes(services).routes())
        await server.start()
        made.url = server.url
        yield made
        scheduler.operations.over.set()
        await server.stop()


@pytest.mark.parametrize(("method", "route"), ROUTES)
async def test_operators_alone_may_ask(site: Site, method: str, route: str) -> None:
    path = route.format(session_id="s", actor_id="a")
    assert (await site.ask(method, path, token=""))[0] == 401
    status, text = await site.ask(method, path, token=SESSION)
    assert (status, json.loads(text)["reason"]) == (403, "FORBIDDEN")
    assert site.audited == [("denied", f"{method} {route}", "refused:FORBIDDEN")]
    assert site.scheduler.operations.ended == site.scheduler.drains == []


async def test_the_pool_is_told_with_as_many_sessions_as_are_asked_for(site: Site) -> None:
    told = await site.told("/operator/pool")
    assert (len(told["sessions"]), told["event_sequence"]) == (64, "9")
    for word, kind in (("waiting", pool_pb2.POOL_SESSIONS_WAITING), ("all", 1), ("none", 3)):
        await site.told(f"/operator/pool?sessions={word}")
        assert site.scheduler.pools[-1].sessions == kind
    assert (await site.ask("GET", "/operator/pool?sessions=mine"))[0] == 400
    assert site.audited == [("pool.read", "", "done")] * 3, "counts are of no tenant"


async def test_a_pool_is_no_cache_s_and_is_packed_for_who_can_unpack_it(site: Site) -> None:
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    url = f"{site.url}/operator/pool"
    async with aiohttp.ClientSession(auto_decompress=False) as raw:
        async with raw.get(url, headers={**headers, "Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert answer.headers["Cache-Control"] == "no-store"
            packed = len(await answer.read())
        async with raw.get(url, headers={**headers, "Accept-Encoding": "identity"}) as answer:
            assert "Content-Encoding" not in answer.headers
            assert packed < len(await answer.read()) / 4


async def test_a_session_is_told_with_what_became_of_it(site: Site) -> None:
    told = await site.told("/operator/sessions/s")
    assert told["session"] == {"session_id": "s"}
    assert told["events"] == [{"sequence": "8", "kind": "EVENT_KIND_SESSION_PLACED"}]
    assert (await site.ask("GET", "/operator/sessions/x"))[0] == 404
    outcomes = [("s", "done"), ("x", "refused:UNKNOWN_SESSION")]
    assert site.audited == [("session.read", target, told) for target, told in outcomes]


async def test_a_session_is_ended_and_its_clients_read_why(site: Site) -> None:
    assert await site.ask("DELETE", "/operator/sessions/s?reason=maintenance") == (204, "")
    assert await site.ask("DELETE", "/operator/sessions/s") == (204, "")
    ended = [("s", "maintenance"), ("s", "ended by an operator")]
    assert site.scheduler.operations.ended == ended
    for path in ("s?reason=a%0Ab", f"s?reason={'a' * 201}"):
        assert (await site.ask("DELETE", f"/operator/sessions/{path}"))[0] == 400
    assert (await site.ask("DELETE", "/operator/sessions/x"))[0] == 404
    assert site.scheduler.operations.ended == ended
    assert [each[2] for each in site.audited] == [
        *["done"] * 2,
        *["refused:BAD_ARGUMENT"] * 2,
        "refused:UNKNOWN_SESSION",
    ]


async def test_a_drain_tells_how_far_it_has_come(site: Site) -> None:
    status, text = await site.ask("POST", "/operator/actors/a/drain", {"grace_s": 1.5})
    assert status == 200
    words = [line for line in text.splitlines() if line.startswith(("event", "data"))]
    assert words == ["event: progress", 'data: {"remaining": 2}', "event: progress", "data: {}"]
    assert site.scheduler.drains[-1].grace.ToMilliseconds() == 1500
    await site.ask("POST", "/operator/actors/a/drain", {"cancel": True})
    assert site.scheduler.drains[-1] == pool_pb2.DrainActorRequest(actor_id="a", cancel=True)
    await site.ask("POST", "/operator/actors/a/drain")
    assert site.scheduler.drains[-1] == pool_pb2.DrainActorRequest(actor_id="a")
    assert site.audited == [
        ("actor.drain", "a", "done"),
        ("actor.drain.cancel", "a", "done"),
        ("actor.drain", "a", "done"),
    ]
    assert json.loads(site.log.read_text().splitlines()[0])["grace_s"] == 1.5


@pytest.mark.parametrize(
    "body",
    [
        {"grace_s": -1},
        {"grace_s": "1"},
        {"grace_s": True},
        {"grace_s": float("nan")},
        {"grace_s": 1e12},
        {"cancel": 1},
        {"grace": 60},
        [],
    ],
)
async def test_a_drain_that_makes_no_sense_is_refused(site: Site, body: Any) -> None:
    status, text = await site.ask("POST", "/operator/actors/a/drain", body)
    assert (status, json.loads(text)["reason"]) == (400, "BAD_ARGUMENT")
    assert site.scheduler.drains == []


async def test_an_actor_that_is_not_there_is_refused_before_anything_is_told(site: Site) -> None:
    status, text = await site.ask("POST", "/operator/actors/b/drain")
    assert (status, json.loads(text)["reason"]) == (400, "BAD_ARGUMENT")


async def test_usage_is_read_by_who_and_when(site: Site) -> None:
    asked = "by=tenant&tenant=acme&session=s&page_size=10&page_token=t&since=2026-11-01T00:00:00Z"
    told = await site.told(f"/operator/usage?{asked}&until=1793491200")
    assert told["rows"] == [{"tenant": "acme", "chunks": "3"}]
    (request,) = site.scheduler.usages
    assert (request.by, request.tenant, request.session_id) == (2, "acme", "s")
    assert (request.page_size, request.page_token) == (10, "t")
    assert request.since.seconds == 1_793_491_200 == request.until.seconds
    await site.told("/operator/usage")
    assert site.scheduler.usages[-1] == usage_pb2.ReadUsageRequest(by=usage_pb2.USAGE_BY_SESSION)
    assert site.audited == [("usage.read", "s", "done"), ("usage.read", "", "done")]


@pytest.mark.parametrize(
    "query", ["by=actor", "since=yesterday", "until=99999999999999", "page_size=-1", "page_size=x"]
)
async def test_usage_that_makes_no_sense_is_refused(site: Site, query: str) -> None:
    assert (await site.ask("GET", f"/operator/usage?{query}"))[0] == 400
    assert site.scheduler.usages == []


async def test_a_trace_is_followed_from_what_the_journal_has_of_the_session(site: Site) -> None:
    site.scheduler.operations.over.set()
    status, text = await site.ask("GET", "/operator/sessions/s/trace")
    assert status == 200
    assert text.splitlines()[2] == "event: spans"
    assert json.loads(text.splitlines()[3].removeprefix("data: ")) == {
        "session_id": "s",
        "spans": [{"name": "actor.chunk"}],
    }
    ((_, asked, wire),) = site.scheduler.operations.asked
    wanted = event_pb2.WatchEventsRequest(session_id="s", trace=True, after_sequence=0)
    assert (asked, wire) == (wanted, "http")
    assert (await site.ask("GET", "/operator/sessions/s/trace?after=41"))[0] == 200
    assert site.scheduler.operations.asked[-1][1].after_sequence == 41


async def test_a_session_that_is_not_there_is_not_followed(site: Site) -> None:
    async with asyncio.timeout(30):
        assert (await site.ask("GET", "/operator/sessions/x/trace"))[0] == 404
    assert site.scheduler.operations.asked == []


async def test_a_scheduler_that_is_away_is_asked_again_later(site: Site) -> None:
    site.scheduler.is_away = True
    assert (await site.ask("GET", "/operator/pool"))[0] == 503
    assert site.audited == [("pool.read", "", "failed")]
