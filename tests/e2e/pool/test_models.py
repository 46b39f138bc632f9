"""Two models in one pool: each session gets its own, and idle actors change theirs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sana_gateway import Client, Session, UnknownModelError
from sana_gateway.v1 import pool_pb2, session_pb2
from tests.e2e.driving import WAIT_S, stage
from tests.e2e.pool.__main__ import options_of
from tests.e2e.pool.fleet import viewed
from tests.e2e.pool.plugins import INSTALLED
from tests.e2e.pool.victims import healthy, pool_with
from tests.stack import Stack, serving

pytestmark = pytest.mark.e2e

ACTORS = 2
REPURPOSE_S = 1.0
WARM_UP_S = 1.5
"""What the first window of `understudy` takes, so also that which nobody sees."""


@pytest.fixture(scope="module")
def pool() -> Iterator[Stack]:
    """Two actors, both of `simulated` to begin with, one of which stays so."""
    words = (
        *("--model", "understudy=0", "--model-option", f"understudy:first_ms={WARM_UP_S * 1e3}"),
        *("--model-option", "understudy:resident_slots=1", "--warm-spares", "1"),
        *("--model-option", "understudy:video=canned", "--model-option", "understudy:size=160x88"),
        *("--repurpose-after", f"{REPURPOSE_S}s"),
    )
    with serving(*options_of(ACTORS, 2), *words, env=INSTALLED) as running:
        yield running


@pytest.fixture
async def client(pool: Stack) -> AsyncIterator[Client]:
    async with Client(pool.grpc_address) as connected:
        await pool_with(connected, healthy(ACTORS))
        yield connected


def models(pool: pool_pb2.DescribePoolResponse) -> Counter[str]:
    return Counter(each.model for each in pool.actors if each.healthy)


def logged(stack: Stack, event: str, **facts: str) -> list[dict[str, Any]]:
    """Returns the entries of the service's log about an event."""
    entries = [json.loads(line) for line in stack.log.read_text().splitlines() if line[:1] == "{"]
    return [each for each in entries if each["event"] == event and facts.items() <= each.items()]


def at(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp()


async def asked(client: Client, opened: AsyncExitStack, model: str) -> Session:
    """Asks for a session, and does not wait for its place."""
    session = await client.create_session(model, wait=False)
    opened.push_async_callback(session.close)
    return session


async def test_an_unknown_model_is_refused_with_those_that_are_served(client: Client) -> None:
    with pytest.raises(UnknownModelError) as refused:
        await client.create_session("nobody")
    assert {"simulated", "understudy"} <= set(refused.value.served_models)


async def test_an_idle_actor_changes_its_model_and_the_warm_spare_does_not(
    pool: Stack, client: Client, opened: AsyncExitStack, minute: Path
) -> None:
    assert models(await client.describe_pool()) == {"simulated": ACTORS}
    first = await asked(client, opened, "understudy")
    assert (await first.describe()).status == session_pb2.SESSION_STATUS_WAITING
    await first.ready(WAIT_S)
    own = await client.create_session("simulated", timeout=WAIT_S)
    opened.push_async_callback(own.close)
    described = await client.describe_pool()
    assert models(described)["understudy"] == 1
    on = {each.actor_id: each.model for each in described.actors}
    where = {each.session_id: on[each.actor_id] for each in described.sessions}
    assert where == {first.session_id: "understudy", own.session_id: "simulated"}
    [given] = logged(pool, "actor repurposed", model="understudy")
    [launched] = logged(pool, "actor launched", model="understudy")
    [enrolled] = logged(pool, "actor registered", actor_id=launched["actor_id"])
    assert at(enrolled) - at(launched) >= WARM_UP_S, "it has computed a window before"
    assert at(given) <= at(launched)
    member = await opened.enter_async_context(viewed(first, client))
    await stage(first, minute)
    await first.start()
    await member.frames(30)
    assert member.seamless
    second = await asked(client, opened, "understudy")
    await own.close()
    # Nobody needs the other actor any more: it is the spare of its model.
    await member.frames(round(24 * (REPURPOSE_S + 2)))
    assert len(logged(pool, "actor repurposed")) == 1
    assert (await second.describe()).status == session_pb2.SESSION_STATUS_WAITING
    await first.close()
    await second.ready(WAIT_S)
