"""What one client sends harms no other: streams that sessions share do not end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from sana_gateway import Client, Session
from sana_gateway.v1 import command_pb2, media_pb2, session_pb2
from tests.e2e.driving import VP8, Told, stage, watching
from tests.stack import Stack

pytestmark = pytest.mark.e2e

MOST = 4 * 1024 * 1024
"""Bytes that the service reads in one message."""


async def send_a_camera_frame(client: Client, session: Session) -> grpc.StatusCode:
    call: Any = client.stub.Media(metadata=client.metadata())  # type: ignore[call-arg]
    start = media_pb2.MediaStart(session_id=session.session_id, publish=True, publish_codec=VP8)
    frame = media_pb2.CameraFrame(data=bytes(MOST - 24), keyframe=True, timestamp_us=1)
    await call.write(media_pb2.MediaRequest(start=start))
    await call.write(media_pb2.MediaRequest(camera=frame))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for _ in call:
            pass
    return refused.value.code()


async def send_a_command(client: Client, session: Session) -> grpc.StatusCode:
    prompt = command_pb2.SetPrompt(prompt="x" * (MOST - 90))
    request = session_pb2.ExecuteRequest(
        session_id=session.session_id, command=command_pb2.Command(set_prompt=prompt)
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.stub.Execute(request, timeout=10)
    return refused.value.code()


@pytest.mark.parametrize("send", [send_a_camera_frame, send_a_command])
async def test_a_message_of_the_greatest_length_costs_nobody_else_a_frame(
    simulated: Stack, client: Client, long_clip: Path, send: Any
) -> None:
    async with (
        await client.create_session("simulated") as session,
        await client.create_session("simulated") as evil,
    ):
        told = Told(session)
        await stage(session, long_clip)
        async with watching(client, session) as screen:
            await session.start()
            await screen.until(lambda: 5 in screen.numbers())
            assert await send(client, evil) is grpc.StatusCode.INVALID_ARGUMENT
            await told.until_told("generation_complete")
            await screen.until(lambda: 80 in screen.numbers())
        assert screen.numbers() == list(range(81))
        assert evil.end_reason is None
    assert "link.lost" not in simulated.log.read_text()


async def test_an_id_that_would_fill_our_memory_is_refused(client: Client) -> None:
    request = session_pb2.CreateSessionRequest(model="simulated", request_id="x" * 65)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.stub.CreateSession(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_name_as_long_as_a_message_keeps_nobody_else_out(
    simulated: Stack, client: Client
) -> None:
    endless = "x" * (MOST - 20)
    for call in (
        client.stub.CreateSession(session_pb2.CreateSessionRequest(model=endless)),
        client.stub.GetSession(session_pb2.GetSessionRequest(session_id=endless)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    async with await client.create_session("simulated"):
        assert "presence.lost" not in simulated.log.read_text()
