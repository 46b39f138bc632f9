"""A camera published over gRPC: both codecs, changes of resolution, silence, a second publisher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sana_gateway import Client, PublisherTakenError, RejectReason, Session
from sana_gateway.v1 import error_pb2
from tests.e2e.driving import PROMPT, WAIT_S, Camera, Screen, Told, publishing, watching

pytestmark = pytest.mark.e2e

CODECS = ("h264", "vp8")


@pytest.fixture
async def session(client: Client) -> AsyncIterator[Session]:
    async with await client.create_session("simulated") as made:
        yield made


async def go_live(session: Session, told: Told) -> None:
    """Starts on a camera that is published."""
    await session.set_prompt(PROMPT)
    await session.start()
    await told.until_told("chunk_complete")


async def test_changes_of_resolution_are_no_error(client: Client) -> None:
    await asyncio.gather(*(change_resolutions(client, codec) for codec in CODECS))


async def change_resolutions(client: Client, codec: str) -> None:
    """Shows a camera of one size after the other."""
    async with await client.create_session("simulated") as session:
        told, camera = Told(session), Camera(codec, 640, 480)
        async with watching(client, session) as screen, publishing(session, camera, codec):
            await go_live(session, told)
            for width, height in ((1280, 720), (320, 240)):
                camera.show(width, height)
                await told.until_told("chunk_complete", len(told.of("chunk_complete")) + 1)
            # One more, for frames of the last size.
            await told.until_told("chunk_complete", len(told.of("chunk_complete")) + 1)
            assert screen.numbers() == list(range(len(screen.items)))
        chunks = told.of("chunk_complete")
        assert [each.chunk_index for each in chunks] == list(range(len(chunks)))
        assert told.of("command_error") == []


async def test_a_muted_camera_stalls_the_run_which_goes_on_by_itself(
    client: Client, session: Session
) -> None:
    told, camera = Told(session), Camera("vp8")
    async with watching(client, session) as screen, publishing(session, camera, "vp8"):
        await go_live(session, told)
        camera.mute()
        await stalls(session)
        camera.unmute()
        await goes_on(session, told, screen)


async def test_a_camera_that_is_unpublished_and_published_again_goes_on_by_itself(
    client: Client, session: Session
) -> None:
    told, camera = Told(session), Camera("h264")
    async with watching(client, session) as screen:
        async with publishing(session, camera, "h264"):
            await go_live(session, told)
        await stalls(session)
        async with publishing(session, Camera("vp8"), "vp8"):
            await goes_on(session, told, screen)


async def stalls(session: Session) -> None:
    state = await session.wait_for(lambda state: not state.running, WAIT_S)
    assert state.started
    assert not state.paused


async def goes_on(session: Session, told: Told, screen: Screen) -> None:
    known = len(told.of("chunk_complete"))
    state = await session.wait_for(lambda state: state.running, WAIT_S)
    assert state.started
    await told.until_told("chunk_complete", known + 1)
    assert screen.numbers() == list(range(len(screen.items)))
    assert told.of("command_error") == []


async def test_only_one_publishes_at_a_time(session: Session) -> None:
    told, camera = Told(session), Camera("h264")
    async with publishing(session, camera, "h264"):
        await go_live(session, told)
        with pytest.raises(PublisherTakenError) as caught:
            await session.publish(Camera("vp8").frames(), "vp8")
        assert caught.value.reason == error_pb2.ERROR_REASON_PUBLISHER_TAKEN
    # The place is free once the first has left.
    async with publishing(session, Camera("vp8"), "vp8"):
        await told.until_told("chunk_complete", len(told.of("chunk_complete")) + 1)


async def test_start_without_a_camera_is_refused_after_a_while(session: Session) -> None:
    told = Told(session)
    await session.set_prompt(PROMPT)
    await session.start()
    refused = await told.until_told("command_error")
    assert refused.code == RejectReason.Value("REJECT_REASON_NO_SOURCE")
    assert session.state is not None
    assert not session.state.started
