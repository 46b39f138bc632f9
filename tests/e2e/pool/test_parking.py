"""A place for one: whoever pauses leaves it to the next, and goes on where it stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from av import VideoFrame

from sana_gateway import Client, Session
from sana_gateway.v1 import pool_pb2, session_pb2
from sdk_adapters.harness.marker import read_marker
from tests.e2e.driving import WAIT_S, Told, polled, stage
from tests.e2e.pool.fleet import Member, viewed
from tests.stack import Stack, serving

pytestmark = pytest.mark.e2e

WINDOW_S = 3
"""How long this service keeps a session without a connection."""


@pytest.fixture(scope="module")
def narrow() -> Iterator[Stack]:
    """A service with room for one session."""
    model = {"chunk_ms": "50", "resident_slots": "1", "size": "160x88"}
    options = [
        word for name, value in model.items() for word in ("--model-option", f"{name}={value}")
    ]
    with serving(
        *("--model", "simulated", "--backend", "in-process", *options),
        *("--park-after", "2s", "--park-detached-after", "500ms"),
        *("--reconnect-window", f"{WINDOW_S}s"),
    ) as running:
        yield running


@pytest.fixture
async def client(narrow: Stack) -> AsyncIterator[Client]:
    async with Client(narrow.grpc_address) as connected:
        yield connected


async def reaches(client: Client, session: Session, state: str) -> None:
    """Waits until the pool has a session in a state."""
    wanted = pool_pb2.LeaseState.Value(f"LEASE_STATE_{state}")

    async def look() -> bool:
        pool = await client.describe_pool()
        return (session.session_id, wanted) in [
            (each.session_id, each.state) for each in pool.sessions
        ]

    await polled(look)


async def played(client: Client, opened: AsyncExitStack, clip: Path) -> tuple[Member, Told]:
    """Starts a session that has its place."""
    session = await opened.enter_async_context(await client.create_session("simulated"))
    told = Told(session)
    member = await opened.enter_async_context(viewed(session, client, decode=True))
    await stage(session, clip)
    await session.start()
    await member.frames(1)
    return member, told


@asynccontextmanager
async def over_webrtc(
    client: Client, session: Session, mime: str
) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Joins by a peer connection; yields what returns the number on the next picture."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    transceiver = peer.addTransceiver("video", direction="recvonly")
    codecs = RTCRtpReceiver.getCapabilities("video").codecs
    transceiver.setCodecPreferences([each for each in codecs if each.mimeType == mime])
    await peer.setLocalDescription(await peer.createOffer())
    offer = session_pb2.Offer(
        sdp=peer.localDescription.sdp,
        tracks=[session_pb2.TrackMapping(mid=transceiver.mid, name="main_video")],
    )
    answer = await client.stub.Signal(  # type: ignore[misc]
        session_pb2.SignalRequest(session_id=session.session_id, offer=offer)
    )
    await peer.setRemoteDescription(RTCSessionDescription(answer.sdp_answer, "answer"))

    async def next_number() -> int:
        async with asyncio.timeout(WAIT_S):
            frame = await transceiver.receiver.track.recv()
        assert isinstance(frame, VideoFrame)
        marker = read_marker(frame.to_ndarray(format="yuv420p")[: frame.height])
        assert marker is not None
        return marker.frame

    try:
        yield next_number
    finally:
        await peer.close()


async def test_two_sessions_share_one_place_by_turns(
    client: Client, opened: AsyncExitStack, minute: Path
) -> None:
    first, told = await played(client, opened, minute)
    waiting = await client.create_session("simulated", wait=False)
    opened.push_async_callback(waiting.close)
    assert (await waiting.describe()).status == session_pb2.SESSION_STATUS_WAITING

    await first.session.pause()
    await waiting.ready(WAIT_S)
    await reaches(client, first.session, "PARKED")
    assert (await first.session.describe()).status == session_pb2.SESSION_STATUS_READY
    assert first.session.state is not None
    assert first.session.state.paused
    second = await opened.enter_async_context(viewed(waiting, client, decode=True))
    await stage(waiting, minute)
    await waiting.start()
    await second.frames(30)
    stood_at = len(first.shown)

    await waiting.pause()
    await first.session.resume()
    await first.frames(30)
    await reaches(client, waiting, "PARKED")
    assert (first.ended, second.ended) == (None, None)
    for each in (first, second):
        assert each.seamless
        assert each.decoded > 0
        assert each.mismatched == 0
        assert each.errors == []
    assert first.shown[stood_at][1] == stood_at
    chunks = [each.chunk_index for each in told.of("chunk_complete")]
    assert chunks == list(range(len(chunks)))
    moves = [each.continuity for each in first.moved]
    assert set(moves) <= {1}, "it goes on exactly"


async def test_a_viewer_who_joins_a_parked_session_sees_the_held_picture(
    client: Client, opened: AsyncExitStack, minute: Path
) -> None:
    first, _ = await played(client, opened, minute)
    await first.session.pause()
    await reaches(client, first.session, "PARKED")
    joined = await opened.enter_async_context(viewed(first.session, client, decode=True))
    await joined.until(lambda: joined.held > 0 and joined.decoded > 0)
    assert joined.shown == []
    assert joined.mismatched == 0


async def test_who_joins_a_parked_session_that_nobody_watched_sees_the_held_picture(
    client: Client, opened: AsyncExitStack, minute: Path
) -> None:
    session = await opened.enter_async_context(await client.create_session("simulated"))
    told = Told(session)
    await stage(session, minute)
    await session.start()
    await told.until_told("chunk_complete")
    await session.pause()
    await reaches(client, session, "PARKED")
    joined = await opened.enter_async_context(viewed(session, client, decode=True))
    await joined.until(lambda: joined.held > 0 and joined.decoded > 0)
    assert joined.shown == []
    assert joined.mismatched == 0


async def test_who_joins_a_parked_session_in_another_codec_sees_the_held_picture(
    client: Client, opened: AsyncExitStack, minute: Path
) -> None:
    first, _ = await played(client, opened, minute)
    await first.session.pause()
    await first.until(lambda: first.held > 0)
    await reaches(client, first.session, "PARKED")
    joined = await opened.enter_async_context(
        viewed(first.session, client, codec="vp8", decode=True)
    )
    await joined.until(lambda: joined.held > 0 and joined.decoded > 0)
    assert joined.shown == []
    assert joined.mismatched == 0


@pytest.mark.parametrize("mime", ["video/H264", "video/VP8"])
async def test_who_joins_a_parked_session_over_webrtc_sees_the_held_picture_and_what_follows(
    client: Client, opened: AsyncExitStack, minute: Path, mime: str
) -> None:
    first, _ = await played(client, opened, minute)
    await first.session.pause()
    await first.until(lambda: first.held > 0)
    await reaches(client, first.session, "PARKED")
    shown = first.shown[-1][1]
    pictures = await opened.enter_async_context(over_webrtc(client, first.session, mime))
    held = await pictures()
    assert held == shown
    await first.session.resume()
    async with asyncio.timeout(WAIT_S):
        while await pictures() <= held:
            pass
    assert first.seamless
    assert first.errors == []


async def test_a_session_that_nobody_watches_is_parked_though_a_client_is_connected(
    client: Client, opened: AsyncExitStack, minute: Path
) -> None:
    session = await opened.enter_async_context(await client.create_session("simulated"))
    told = Told(session)
    await stage(session, minute)
    await session.start()
    await told.until_told("chunk_complete")
    assert session.state is not None
    assert session.state.running, "it plays on although nobody watches"
    await session.pause()
    await reaches(client, session, "PARKED")
    joined = await opened.enter_async_context(viewed(session, client, decode=True))
    await session.resume()
    await joined.frames(30)
    assert joined.mismatched == 0


async def test_a_parked_session_answers_commands(
    client: Client, opened: AsyncExitStack, minute: Path
) -> None:
    first, told = await played(client, opened, minute)
    await first.session.pause()
    await reaches(client, first.session, "PARKED")
    await first.session.set_prompt("another")
    assert await told.until(
        lambda: first.session.state is not None and first.session.state.current_prompt == "another"
    )
    await first.session.resume()
    await first.frames(30)
    assert first.seamless
    assert first.errors == []


async def test_a_parked_session_without_a_client_ends_after_the_window(
    client: Client, minute: Path
) -> None:
    session = await client.create_session("simulated")
    await stage(session, minute)
    await session.start()
    await session.pause()
    await session.detach()
    await reaches(client, session, "PARKED")

    async def ended() -> str:
        return (await session.describe()).close_reason

    assert await polled(ended) == f"no client for {WINDOW_S} s"
    pool = await client.describe_pool()
    assert session.session_id not in [each.session_id for each in pool.sessions]
