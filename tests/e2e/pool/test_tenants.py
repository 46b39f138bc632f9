"""Tenants share a pool that is too small for them: by weight, priority and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from sana_gateway import Client, LimitError, Session, UnauthenticatedError
from sana_gateway.v1 import session_pb2
from tests.e2e.driving import WAIT_S, Seen, polled
from tests.e2e.pool.__main__ import options_of
from tests.e2e.pool.plugins import INSTALLED
from tests.stack import Stack, serving

pytestmark = pytest.mark.e2e

SLOTS = 2
RULES = ("gold:weight=2", "first:priority=1", "small:max=1,queued=1")
Connect = Callable[[str], Client]


@pytest.fixture(scope="module")
def pool() -> Iterator[Stack]:
    """Room for two sessions."""
    rules = [word for rule in RULES for word in ("--tenant", rule)]
    words = [*options_of(1, SLOTS), "--model-option", "chunk_ms=1", "--backend", "in-process"]
    with serving(*words, *rules, "--auth", "named", env=INSTALLED) as running:
        yield running


@pytest.fixture
def connect(pool: Stack, opened: AsyncExitStack) -> Connect:
    """Connects as a tenant; its sessions end with the test."""
    clients: dict[str, Client] = {}

    def connected(tenant: str) -> Client:
        if tenant not in clients:
            clients[tenant] = Client(pool.grpc_address, token=tenant)
            opened.push_async_callback(clients[tenant].close)
        return clients[tenant]

    return connected


class Waiting:
    """A session that waits for its place, and what it was told meanwhile."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.told: Seen[session_pb2.QueueUpdate] = Seen()
        self.session: Session

    async def ask(self, client: Client, opened: AsyncExitStack) -> Waiting:
        """Asks for the place."""
        self.session = await client.create_session("simulated", wait=False, on_queue=self.told.add)
        opened.push_async_callback(self.session.close)
        return self

    async def at(self, position: int) -> session_pb2.QueueUpdate:
        """Waits until it is told that it stands there."""
        return await self.told.until(
            lambda: next((each for each in self.told.items if each.position == position), None)
        )


async def held(connect: Connect, opened: AsyncExitStack, count: int = SLOTS) -> list[Session]:
    """Takes places."""
    taken = []
    for _ in range(count):
        session = await connect("holder").create_session("simulated")
        opened.push_async_callback(session.close)
        taken.append(session)
    return taken


async def served(waiting: list[Waiting]) -> list[str]:
    """Ends each session that gets a place; returns the tenants in the order in which they did."""
    order: list[str] = []
    turns = asyncio.Lock()

    async def take(each: Waiting) -> None:
        await each.session.ready(WAIT_S)
        async with turns:
            order.append(each.tenant)
            await each.session.close()

    await asyncio.gather(*(take(each) for each in waiting))
    return order


async def test_places_go_by_weight_and_those_who_wait_are_told_where_they_stand(
    connect: Connect, opened: AsyncExitStack
) -> None:
    first, second = await held(connect, opened)
    waiting = [
        await Waiting(tenant).ask(connect(tenant), opened)
        for tenant in ("iron", "iron", "iron", "gold", "gold", "gold", "gold")
    ]
    await waiting[-1].at(6)
    last = await waiting[2].at(7)
    assert last.estimated_wait.ToTimedelta().total_seconds() >= 0
    shown = await waiting[3].session.describe()
    assert shown.status == session_pb2.SESSION_STATUS_WAITING
    await first.close()
    order = await served(waiting)
    assert order == ["gold", "iron", "gold", "gold", "iron", "gold", "iron"]
    positions = [each.position for each in waiting[2].told.items]
    positions = positions[positions.index(7) :]
    assert positions == sorted(positions, reverse=True)
    assert set(positions) == set(range(1, 8))
    await second.close()


async def test_priority_goes_first(connect: Connect, opened: AsyncExitStack) -> None:
    taken = await held(connect, opened)
    waiting = [
        await Waiting(tenant).ask(connect(tenant), opened) for tenant in ("iron", "gold", "first")
    ]
    await waiting[2].at(1)
    await taken[0].close()
    assert (await served(waiting))[0] == "first"


async def test_a_tenant_at_its_limit_waits_and_holds_nobody_up(
    connect: Connect, opened: AsyncExitStack
) -> None:
    small = connect("small")
    first = await small.create_session("simulated")
    opened.push_async_callback(first.close)
    second = await Waiting("small").ask(small, opened)
    await second.at(1)
    with pytest.raises(LimitError) as refused:
        await small.create_session("simulated", wait=False)
    assert refused.value.retry_after
    other = await connect("iron").create_session("simulated", timeout=WAIT_S)
    opened.push_async_callback(other.close)
    assert second.session.state is None, "a place was free, and it was not its turn"
    await first.close()
    await second.session.ready(WAIT_S)


async def test_a_token_is_needed_and_sessions_are_their_tenants_own(
    pool: Stack, connect: Connect, opened: AsyncExitStack
) -> None:
    async with Client(pool.grpc_address) as nobody:
        with pytest.raises(UnauthenticatedError):
            await nobody.create_session("simulated")
    session = (await held(connect, opened, 1))[0]

    async def tenants() -> set[str]:
        return {each.tenant for each in (await connect("iron").describe_pool()).sessions}

    assert await tenants() == {"holder"}
    await session.close()

    async def gone() -> bool:
        return not await tenants()

    await polled(gone)
