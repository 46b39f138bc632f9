"""One session over gRPC and over the Reactor wire at once: both doors tell the same story, and
show the same video.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sana_gateway import Client, CommandRejected, Message, Session
from tests.e2e.driving import WAIT_S, Told, stage, watching
from tests.e2e.reactor.wire_client import WireClient
from tests.stack import Stack

pytestmark = pytest.mark.e2e

DOORS = ("js-2.12", "py-0.8", "py-native")
"""JSON from a browser, JSON from Python, protobuf."""
OURS_ALONE = 20
"""Number of the first field of `state` that the Reactor wire does not have."""
NOT_THERE = ("command_error", "session_moved")
"""The first goes to the asker alone, the second to gRPC alone."""


def told_to_all(message: Message) -> tuple[str, dict[str, Any]] | None:
    """Returns a gRPC message as the other door should tell it."""
    kind = message.WhichOneof("payload")
    if kind is None or kind in NOT_THERE:
        return None
    payload = getattr(message, kind)
    data = {
        field.name: None
        if field.has_presence and not payload.HasField(field.name)
        else getattr(payload, field.name)
        for field in payload.DESCRIPTOR.fields
        if field.number < OURS_ALONE or kind != "state"
    }
    return kind, data


@asynccontextmanager
async def door(stack: Stack, kind: str, session_id: str) -> AsyncIterator[WireClient]:
    """A Reactor client that has joined the session and been told its state."""
    async with aiohttp.ClientSession(stack.http_url) as http:
        client = WireClient(http, kind)
        try:
            await client.join(session_id)
            await client.connect(tracks=("main_video",))
            await client.heard.until(lambda: client.of("state"))
            yield client
        finally:
            await client.close()


def heard_by_all(client: WireClient) -> list[tuple[str, dict[str, Any]]]:
    return [
        (each.name, each.data)
        for each in client.heard.items
        if each.label == "data" and each.name not in (*NOT_THERE, "ack")
    ]


async def play(session: Session, told: Told, clip: Path) -> None:
    """Everything a session can do, commanded over gRPC."""
    await stage(session, clip)
    await session.set_seed(42)
    await session.start()
    await told.until_told("chunk_complete")
    await session.set_prompt("charcoal on rough paper")
    await session.pause()
    await session.wait_for(lambda state: state.paused and not state.running, WAIT_S)
    with pytest.raises(CommandRejected):
        await session.pause()
    await session.resume()
    await told.until_told("generation_complete")
    await session.set_mode("live")
    await session.reset()
    await told.until_told("generation_reset")


async def test_messages_and_snapshots_are_the_same_at_every_door(
    simulated: Stack, client: Client, long_clip: Path
) -> None:
    async with AsyncExitStack() as opened:
        session = await opened.enter_async_context(await client.create_session("simulated"))
        told = Told(session)
        await session.ready()
        reactor = {
            kind: await opened.enter_async_context(door(simulated, kind, session.session_id))
            for kind in DOORS
        }
        asked_over_grpc = [message for message in told.items if told_to_all(message)]
        before = {kind: len(heard_by_all(each)) for kind, each in reactor.items()}
        screen = await opened.enter_async_context(watching(client, session))
        await play(session, told, long_clip)
        assert screen.numbers() == list(range(81)), "watched over gRPC"
        for each in reactor.values():
            await each.pictures.until(lambda each=each: len(each.pictures.items) > 48)

        # And the other way round: commanded by a Reactor client, with a refusal of its own.
        asker = reactor["js-2.12"]
        asker.command("set_prompt", prompt="neon at night")
        asker.command("start")
        await asker.heard.until(lambda: asker.of("command_error"))
        asker.command("set_seed", seed=7)
        await session.wait_for(lambda state: state.seed == 7, WAIT_S)

        story = [each for message in told.items if (each := told_to_all(message))]
        story = story[len(asked_over_grpc) :]
        kinds = {kind for kind, _ in story}
        assert kinds == {
            "state",
            "prompt_accepted",
            "video_accepted",
            "generation_started",
            "chunk_complete",
            "generation_complete",
            "generation_reset",
        }
        for kind, each in reactor.items():
            await each.heard.until(
                lambda each=each, kind=kind: len(heard_by_all(each)) >= before[kind] + len(story)
            )
            assert heard_by_all(each)[before[kind] :] == story, kind
        assert [len(each.of("command_error")) for each in reactor.values()] == [1, 0, 0]
        assert len(told.of("command_error")) == 1, "its own"
