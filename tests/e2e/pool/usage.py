"""What the service has written down of a fleet's usage, against what its clients were told."""

from __future__ import annotations

import asyncio
from typing import Any

from sana_gateway import Client
from sana_gateway.v1 import replay_pb2, replay_pb2_grpc, usage_pb2, usage_pb2_grpc
from tests.e2e.driving import POLL_S, WAIT_S
from tests.e2e.pool.fleet import Fleet, Member


async def usage_of(client: Client, session_id: str) -> usage_pb2.UsageRow:
    """Returns what a session has used; nothing where nothing is written down."""
    stub: Any = usage_pb2_grpc.UsageServiceStub(client.channel)
    request = usage_pb2.ReadUsageRequest(session_id=session_id)
    answer = await stub.ReadUsage(request, metadata=client.metadata())
    return answer.rows[0] if answer.rows else usage_pb2.UsageRow()


async def metered_exactly(client: Client, fleet: Fleet) -> list[usage_pb2.UsageRow]:
    """Ends the runs, and waits until of every session exactly the chunks are written down that
    its client was told of.

    Raises:
        TimeoutError: Something is missing, or counted twice.
    """
    return await asyncio.gather(*(_metered(client, each) for each in fleet.members))


async def _metered(client: Client, member: Member) -> usage_pb2.UsageRow:
    await member.session.reset()
    row = usage_pb2.UsageRow()
    try:
        async with asyncio.timeout(WAIT_S):
            while (row.chunks, row.frames) != _told(member):
                await asyncio.sleep(POLL_S)
                row = await usage_of(client, member.session.session_id)
    except TimeoutError:
        raise TimeoutError(f"{row.chunks} chunks are metered, of {_told(member)[0]}") from None
    return row


def _told(member: Member) -> tuple[int, int]:
    return len(member.completed), sum(each.frames_emitted for each in member.completed)


async def journal_of(client: Client, session_id: str) -> bytes:
    """Returns the journal of a session."""
    stub: Any = replay_pb2_grpc.ReplayServiceStub(client.channel)
    request = replay_pb2.ExportJournalRequest(session_id=session_id)
    call = stub.ExportJournal(request, metadata=client.metadata())
    return b"".join([piece.data async for piece in call])
