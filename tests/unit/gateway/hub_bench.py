"""A hub between a scheduler and actors that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest

from gateway import hub, seeking
from gateway.front_door.routing import WHOLE
from gateway.hub import GatewayHub
from gateway.links import ActorLinks
from gateway.placement import PlacementClient
from gateway.session import GatewaySession
from sana_gateway.v1 import command_pb2, session_pb2
from scheduler.core.ids import Principal
from tests.fakes.changes import Changes
from tests.fakes.gateway_parts import Asked, FakeLinks, FakePlacement

ME = Principal("me", frozenset({"session"}))
OTHER = Principal("somebody else", frozenset({"session"}))
WAITING, READY, CLOSED = (
    session_pb2.SESSION_STATUS_WAITING,
    session_pb2.SESSION_STATUS_READY,
    session_pb2.SESSION_STATUS_CLOSED,
)


class Bench:
    """A hub whose scheduler and actors the test plays."""

    def __init__(self) -> None:
        self.placement = FakePlacement()
        self.links = FakeLinks()
        self.ended: list[str] = []
        self.copied: list[tuple[str, list[str], list[str]]] = []
        self.changes = Changes()
        self.hub = GatewayHub(
            cast(PlacementClient, self.placement),
            cast(ActorLinks, self.links),
            max_connections=4,
            on_ended=self._on_ended,
            on_copied=self._on_copied,
            new_session_id=WHOLE.new_session_id,
        )

    async def _on_copied(
        self, session_id: str, files: Sequence[command_pb2.FileRef], copies: Sequence[str]
    ) -> None:
        self.copied.append((session_id, [each.upload_id for each in files], list(copies)))

    def _on_ended(self, session_id: str) -> None:
        self.ended.append(session_id)
        self.changes.happened()

    async def asked(self, request_id: str = "") -> tuple[asyncio.Task[GatewaySession], Asked]:
        """Begins to create a session; returns the task and what the scheduler is asked."""
        task = asyncio.create_task(self.hub.create(ME, "painter", request_id))
        return task, await self.placement.until_asked(len(self.placement.asked) + 1)

    async def waiting(self) -> tuple[GatewaySession, Asked]:
        """Creates a session that waits in the queue."""
        task, asked = await self.asked()
        asked.queue(1, 4.0)
        return await task, asked

    async def ready(self, address: str = "actor-1") -> GatewaySession:
        """Creates a session that is on its actor."""
        task, asked = await self.asked()
        asked.grant(address)
        session = await task
        await self.opened(session, address)
        return session

    async def opened(self, session: GatewaySession, address: str, *revisions: int) -> None:
        """An actor takes the gateway into a session that it has joined."""
        link = self.links[address]
        await link.changes.until(lambda: session.session_id in link.joined)
        link.open(session.session_id, *revisions)

    async def until_ended(self, session: GatewaySession) -> str:
        await self.changes.until(lambda: session.session_id in self.ended)
        return session.describe().close_reason


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A hub that does not wait long before it tries again; it is stopped after the test."""
    monkeypatch.setattr(hub, "RETRY_S", 0.01)
    monkeypatch.setattr(hub, "SWEEP_S", 0.01)
    monkeypatch.setattr(seeking, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(seeking, "MOST_PAUSE_S", 0.02)
    made = Bench()
    yield made
    await made.hub.stop("the test is over")
