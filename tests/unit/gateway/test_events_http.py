"""The event journal as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from google.protobuf import json_format

from gateway import server_sent
from gateway.auth import OPERATOR, SESSION
from gateway.events_http import EventRoutes, written
from gateway.http import HttpServer
from sana_gateway.v1 import event_pb2
from scheduler.core.errors import ForbiddenError, UnauthenticatedError
from scheduler.core.ids import Principal
from tests.fakes.hub import FakeHub
from tests.fakes.operations import FakeOperations
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit


def event(sequence: int) -> event_pb2.WatchEventsResponse:
    told = event_pb2.Event(
        sequence=sequence, kind=event_pb2.EVENT_KIND_SESSION_PLACED, session_id="s"
    )
    return event_pb2.WatchEventsResponse(event=told)


GAP = event_pb2.WatchEventsResponse(gap=event_pb2.EventGap(after_sequence=7, next_sequence=12))
CHUNKS = event_pb2.WatchEventsResponse(chunks=event_pb2.ChunkEvents(actor_id="a1", omitted=2))


class Scopes:
    """A token names the scopes of its caller."""

    def authenticate(self, token: str | None) -> Principal:
        if not token:
            raise UnauthenticatedError("no token")
        return Principal("acme", frozenset(token.split(",")))


class Site:
    """A served gateway, and who calls it."""

    def __init__(self, url: str, client: aiohttp.ClientSession, known: FakeOperations) -> None:
        self.url, self.client, self.known = url, client, known

    async def refused(self, query: str, token: str = OPERATOR) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.client.get(f"{self.url}/events{query}", headers=headers) as answer:
            return answer.status

    async def lines(self, count: int, **headers: str) -> list[str]:
        """Reads so many lines that are not empty."""
        sent = {"Authorization": f"Bearer {OPERATOR}", **headers}
        async with asyncio.timeout(30), self.client.get(f"{self.url}/events", headers=sent) as told:
            assert told.headers["Content-Type"] == "text/event-stream"
            lines: list[str] = []
            while len(lines) < count:
                lines += (
                    [text] if (text := (await told.content.readline()).decode().strip()) else []
                )
        return lines


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    known = FakeOperations(words=[event(8), GAP, CHUNKS])
    services = replace(fake_services(FakeHub(), operations=known), auth=Scopes())
    server = HttpServer(services)
    server.add_routes(EventRoutes(services).routes())
    await server.start()
    async with aiohttp.ClientSession() as client:
        yield Site(server.url, client, known)
    known.over.set()
    await server.stop()


async def test_each_word_is_an_event_with_its_sequence(site: Site) -> None:
    lines = await site.lines(9)
    assert lines[0] == "retry: 1000"
    assert lines[1:3] == ["id: 8", "event: session_placed"]
    told = json.loads(lines[3].removeprefix("data: "))
    assert json_format.ParseDict(told, event_pb2.Event()) == event(8).event
    assert lines[4:6] == ["id: 11", "event: gap"]
    # What is no place in the journal moves no reader.
    assert lines[7] == "event: chunks"
    assert json.loads(lines[8].removeprefix("data: ")) == {"actor_id": "a1", "omitted": 2}


async def test_a_reader_goes_on_after_the_last_event_that_it_had(site: Site) -> None:
    await site.lines(2, **{"Last-Event-ID": "41"})
    ((principal, asked, wire),) = site.known.asked
    assert (asked.after_sequence, principal.tenant, wire) == (41, "acme", "http")


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", event_pb2.WatchEventsRequest()),
        ("?after=0", event_pb2.WatchEventsRequest(after_sequence=0)),
        (
            "?session=s&actor=a&chunks=1",
            event_pb2.WatchEventsRequest(session_id="s", actor_id="a", chunks=True),
        ),
        ("?session=s&trace=1", event_pb2.WatchEventsRequest(session_id="s", trace=True)),
    ],
)
async def test_a_reader_says_what_it_wants(
    site: Site, query: str, asked: event_pb2.WatchEventsRequest
) -> None:
    site.known.over.set()
    assert await site.refused(query, SESSION) == 200
    assert [each for _, each, _ in site.known.asked] == [asked]


@pytest.mark.parametrize("query", ["?after=x", "?after=-1", "?after=99999999999999999999999"])
async def test_a_place_that_is_none_is_refused(site: Site, query: str) -> None:
    assert await site.refused(query) == 400


async def test_who_may_not_is_told_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await site.refused("", token="") == 401
    assert await site.refused("", token="model") == 403
    assert site.known.asked == []

    async def refuse(*_: Any) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        raise ForbiddenError("for operators")
        yield

    monkeypatch.setattr(site.known, "watch", refuse)
    assert await site.refused("?chunks=1", SESSION) == 403


async def test_silence_is_broken_by_pings(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_sent, "PING_S", 0.01)
    assert (await site.lines(10))[9] == ": ping"


async def test_a_kind_of_a_later_version_is_passed_on() -> None:
    word = event(8)
    word.event.kind = 99  # type: ignore[assignment]
    assert "event: unknown\n" in written(word)
