"""Polls wait for their answer: for a session's place, and not longer than they may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sdk_adapters.reactor import polls
from tests.fakes.hub import FakeHub
from tests.fakes.session import FakeSession
from tests.unit.sdk_adapters.reactor_site import Site

pytestmark = pytest.mark.unit


class Waits:
    """Tells when the wire begins to wait for a place, and when it gives up or is done."""

    def __init__(self, session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.over = asyncio.Event(), asyncio.Event()
        self._wait_ready = session.wait_ready
        monkeypatch.setattr(session, "wait_ready", self._watched)

    async def _watched(self) -> None:
        self.begun.set()
        try:
            await self._wait_ready()
        finally:
            self.over.set()


@pytest.fixture
async def queued(serve: Callable[..., Any]) -> tuple[Site, str]:
    """A server, and the path of a session that waits for its place."""
    site = await serve(hub=FakeHub(ready=False))
    return site, await site.session()


async def test_a_poll_is_answered_the_moment_the_session_has_its_place(
    queued: tuple[Site, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, path = queued
    waits = Waits(site.hub.session, monkeypatch)
    polling = asyncio.create_task(site.ask("GET", path))
    await waits.begun.wait()
    site.hub.session.place()
    _, shown = await polling
    assert shown["state"] == "ACTIVE"
    assert shown["capabilities"]["tracks"]


async def test_a_poll_is_answered_the_moment_the_session_ends(
    queued: tuple[Site, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, path = queued
    waits = Waits(site.hub.session, monkeypatch)
    polling = asyncio.create_task(site.ask("GET", path))
    await waits.begun.wait()
    site.hub.session.end("no place was found in time")
    assert (await polling)[1]["state"] == "CLOSED"


async def test_a_poll_gives_up_after_a_while(
    queued: tuple[Site, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "PLACE_HOLD_S", 0.02)
    site, path = queued
    waits = Waits(site.hub.session, monkeypatch)
    assert (await site.ask("GET", path))[1]["state"] == "PENDING"
    assert waits.over.is_set()


async def test_what_is_known_is_answered_without_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await site.session()
    waits = Waits(site.hub.session, monkeypatch)
    assert (await site.ask("GET", path))[1]["state"] == "ACTIVE"
    site.hub.session.end("done")
    assert (await site.ask("GET", path))[1]["state"] == "CLOSED"
    assert not waits.begun.is_set()


async def test_a_poll_ends_with_its_client(
    queued: tuple[Site, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "LOOK_S", 0.01)
    site, path = queued
    waits = Waits(site.hub.session, monkeypatch)
    polling = asyncio.create_task(site.ask("GET", path))
    await waits.begun.wait()
    polling.cancel()
    async with asyncio.timeout(30):
        await waits.over.wait()


async def test_polls_beyond_the_bound_do_not_wait(
    queued: tuple[Site, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "MAX_HELD", 1)
    site, path = queued
    waits = Waits(site.hub.session, monkeypatch)
    first = asyncio.create_task(site.ask("GET", path))
    await waits.begun.wait()
    assert (await site.ask("GET", path))[1]["state"] == "PENDING"
    assert not first.done()
    site.hub.session.place()
    assert (await first)[1]["state"] == "ACTIVE"
    assert (await site.ask("GET", path))[1]["state"] == "ACTIVE"
