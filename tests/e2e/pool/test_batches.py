"""Windows of several sessions run as one call of the model, where that was measured to gain."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from sana_gateway import Client
from sana_gateway.v1 import session_pb2
from sdk_adapters.harness.marker import read_marker, session_tag
from tests.e2e.driving import WAIT_S, polled, stage
from tests.e2e.pool.__main__ import options_of
from tests.e2e.pool.fleet import Member, viewed
from tests.e2e.pool.victims import healthy, pool_with
from tests.stack import Stack, serving

pytestmark = pytest.mark.e2e

SESSIONS = 4
ENOUGH = 6
"""Windows of each session, after which what batches gain is known."""
MOST = 24
"""Windows of each session, by which windows were together even on a busy machine."""
TOGETHER = 1.15
"""Windows in a call of the model, at which batches are being made."""
MOST_MISSED = 0.2
"""Of the deadlines, on a machine that may be busy with something else."""


def options(batch_share: float) -> list[str]:
    """A service whose model spends that share of its time on each further session of a batch."""
    model = ("video=encoded", "chunk_ms=200", "max_batch=2", f"batch_share={batch_share}")
    words = [word for each in model for word in ("--model-option", each)]
    return [*options_of(1, SESSIONS), *words, "--backend", "in-process"]


async def metric(stack: Stack, name: str) -> float:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{stack.http_url}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))


async def play(
    stack: Stack, clip: Path, *, until: float = 0.0
) -> tuple[list[Member], float, float]:
    """Plays sessions until there are so many windows in a call of the model.

    Returns the sessions, the windows in a call, and the share of chunks that missed their
    deadline. When sessions start apart from each other, as they do on a busy machine, it
    takes some windows before two are due together.
    """
    async with AsyncExitStack() as opened:
        client = await opened.enter_async_context(Client(stack.grpc_address))
        await pool_with(client, healthy(1))
        sessions = [await client.create_session("simulated") for _ in range(SESSIONS)]
        members = []
        for session in sessions:
            opened.push_async_callback(session.close)
            await stage(session, clip)
            view = viewed(session, client, keep=True)
            members.append(await opened.enter_async_context(view))
        await asyncio.gather(*(session.start() for session in sessions))
        for windows in range(ENOUGH, MOST + 1):
            await asyncio.gather(*(member.frames(windows * 24) for member in members))
            pool = await client.describe_pool()
            if pool.signals.batch_fill > until:
                break

        async def told() -> bool:
            name = "sana_gateway_pool_batch_fill"
            return await metric(stack, name) >= pool.signals.batch_fill

        await polled(told)
        return members, pool.signals.batch_fill, pool.signals.miss_rate


def is_right(member: Member) -> bool:
    """Tells whether every picture is the one of its session and its number."""
    tag = session_tag(member.session.session_id)
    marks = {
        frame: read_marker(picture[: len(picture) * 2 // 3])
        for frame, picture in (member.pictures or {}).items()
    }
    return all(
        mark is not None and (mark.frame, mark.session_tag) == (frame, tag)
        for frame, mark in marks.items()
    )


@pytest.mark.slow
async def test_what_batches_gain_makes_room_for_one_session_more(minute: Path) -> None:
    model = ("chunk_ms=240", "max_batch=2", "batch_share=0.2")
    words = [word for each in model for word in ("--model-option", each)]
    async with AsyncExitStack() as opened:
        stack = opened.enter_context(serving(*options_of(1, 6), *words, "--backend", "in-process"))
        client = await opened.enter_async_context(Client(stack.grpc_address))
        await pool_with(client, healthy(1))
        sessions = [await client.create_session("simulated") for _ in range(3)]
        members = []
        for session in sessions:
            opened.push_async_callback(session.close)
            await stage(session, minute)
            members.append(await opened.enter_async_context(viewed(session, client)))
        waiting = await client.create_session("simulated", wait=False)
        opened.push_async_callback(waiting.close)
        [actor] = (await client.describe_pool()).actors
        assert actor.ceiling_ms_per_s == 850.0
        assert (await waiting.describe()).status == session_pb2.SESSION_STATUS_WAITING
        # Together, so that their windows find company.
        await asyncio.gather(*(session.start() for session in sessions))
        await waiting.ready(WAIT_S)
        await stage(waiting, minute)
        await waiting.start()

        async def all_compute() -> bool:
            """960 of 1,000 ms, where windows run one by one."""
            [actor] = (await client.describe_pool()).actors
            return actor.computing == 4 and actor.ceiling_ms_per_s > 850.0

        await polled(all_compute)
        for member in members:
            await member.frames(1)
            assert member.seamless


async def test_batches_are_made_where_they_gain_enough(minute: Path) -> None:
    with serving(*options(0.2)) as worthwhile, serving(*options(0.9)) as not_worth_it:
        played = await asyncio.gather(
            play(worthwhile, minute, until=TOGETHER), play(not_worth_it, minute)
        )
    for members, _, misses in played:
        assert all(member.seamless and is_right(member) for member in members)
        assert misses < MOST_MISSED
    (_, many, _), (_, one, _) = played
    assert many > TOGETHER, "a batch of two takes 1.2 times as long as one window"
    assert one < 1.1, "one was tried, and took 1.9 times as long"
