"""A full pool, its queue, and sessions whose client is gone for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sana_gateway import Client, SessionClosedError
from sana_gateway.v1 import message_pb2, pool_pb2, session_pb2
from tests.e2e.driving import SIMULATED, WAIT_S, Seen, Told, polled, stage
from tests.stack import Stack, serving

pytestmark = pytest.mark.e2e

WINDOW_S = 2
"""How long this service keeps a session without a connection."""


@pytest.fixture(scope="module")
def tight() -> Iterator[Stack]:
    """A service with room for two sessions and little patience."""
    with serving(
        *SIMULATED, "--model-option", "resident_slots=2", "--reconnect-window", str(WINDOW_S)
    ) as running:
        yield running


@pytest.fixture
async def client(tight: Stack) -> AsyncIterator[Client]:
    async with Client(tight.grpc_address) as connected:
        yield connected


async def lease_state(client: Client, session_id: str) -> pool_pb2.LeaseState.ValueType | None:
    pool = await client.describe_pool()
    found = (each.state for each in pool.sessions if each.session_id == session_id)
    return next(found, None)


async def test_a_full_pool_queues_and_tells_the_place_in_the_queue(client: Client) -> None:
    first = await client.create_session("simulated")
    second = await client.create_session("simulated")
    places: list[Seen[int]] = [Seen(), Seen()]
    third, fourth = [
        await client.create_session(
            "simulated", wait=False, on_queue=lambda update, place=place: place.add(update.position)
        )
        for place in places
    ]
    shown = await third.describe()
    assert shown.status == session_pb2.SESSION_STATUS_WAITING
    assert shown.queue_position == 1
    assert not shown.HasField("capabilities")
    await places[0].until(lambda: places[0].items)
    await places[1].until(lambda: places[1].items)
    # The estimate of the wait may change, and is told again, while the place stays.
    assert (set(places[0].items), set(places[1].items)) == ({1}, {2})
    assert third.state is None
    await first.close()
    await third.ready(WAIT_S)
    shown = await third.describe()
    assert shown.status == session_pb2.SESSION_STATUS_READY
    assert shown.queue_position == 0
    assert shown.capabilities.minimum_frames == 33
    await places[1].until(lambda: places[1].items[-1] == 1)
    await third.set_prompt("it takes commands")
    for each in (second, third, fourth):
        await each.close()
    assert (await fourth.describe()).status == session_pb2.SESSION_STATUS_CLOSED


async def test_a_session_without_a_client_is_released_after_the_window(
    client: Client, clip: Path
) -> None:
    session = await client.create_session("simulated")
    await stage(session, clip)
    await session.start()
    await session.detach()

    async def ended() -> str:
        return (await session.describe()).close_reason

    assert await polled(ended) == f"no client for {WINDOW_S} s"
    assert await lease_state(client, session.session_id) is None
    again = await client.attach(session.session_id)
    with pytest.raises(SessionClosedError):
        await again.set_prompt("too late")


async def attach(client: Client, session_id: str, after: int) -> AsyncIterator[Any]:
    """Attaches after a revision, and yields the bare responses."""
    call: Any = client.stub.Attach()  # type: ignore[call-arg]
    start = session_pb2.AttachStart(session_id=session_id, resume_after_revision=after)
    await call.write(session_pb2.AttachRequest(start=start))
    async for response in call:
        yield response


async def test_a_client_that_comes_back_in_time_finds_its_session_running(
    client: Client, long_clip: Path
) -> None:
    session = await client.create_session("simulated")
    told = Told(session)
    await stage(session, long_clip)
    await session.start()
    await told.until_told("chunk_complete")
    known = next(each.revision for each in told.items if each.HasField("chunk_complete"))
    await told.until_told("chunk_complete", 2)
    await session.detach()
    missed = [each for each in told.items if each.revision > known]

    async def detached() -> bool:
        state = await lease_state(client, session.session_id)
        return state == pool_pb2.LEASE_STATE_DETACHED

    await polled(detached)
    messages: list[message_pb2.Message] = []
    async with asyncio.timeout(WAIT_S):
        async for response in attach(client, session.session_id, known):
            if response.WhichOneof("response") == "attached":
                assert not response.attached.gap
            elif response.WhichOneof("response") == "message":
                messages.append(response.message)
                if response.message.HasField("generation_complete"):
                    break
    revisions = [each.revision for each in messages]
    assert revisions == list(range(known + 1, known + 1 + len(messages)))
    again = messages[: len(missed)]
    assert all(each.replayed for each in again)
    assert [each.WhichOneof("payload") for each in again] == [
        each.WhichOneof("payload") for each in missed
    ]
    assert not messages[-1].replayed
    chunks = [each.chunk_complete for each in messages if each.HasField("chunk_complete")]
    assert [each.chunk_index for each in chunks] == [1, 2, 3]
    await client.close_session(session.session_id)
