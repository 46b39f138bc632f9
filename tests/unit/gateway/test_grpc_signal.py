"""Signal on the wire: peers made, replaced, trickled to, lost and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from gateway.grpc_api.peers import SDP_LIMIT
from sana_gateway.v1 import session_pb2, session_pb2_grpc
from tests.fakes.grpc_gateway import grpc_gateway, settled
from tests.fakes.hub import FakeHub
from tests.fakes.peers import FakePeers
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

if TYPE_CHECKING:
    Stub = session_pb2_grpc.SessionServiceAsyncStub

TRACKS = [session_pb2.TrackMapping(mid="0", name="main_video")]


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def peers() -> FakePeers:
    return FakePeers()


@pytest.fixture
async def stub(hub: FakeHub, peers: FakePeers) -> AsyncIterator[Stub]:
    async with (
        grpc_gateway(fake_services(hub, peers=peers)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        made: Stub = session_pb2_grpc.SessionServiceStub(channel)
        await made.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
        yield made


async def signal(stub: Stub, **request: Any) -> session_pb2.SignalResponse:
    return await stub.Signal(session_pb2.SignalRequest(session_id="session-1", **request))


async def offer(stub: Stub, sdp: str = "offer", connection_id: int = 0) -> Any:
    made = session_pb2.Offer(sdp=sdp, tracks=TRACKS)
    return await signal(stub, connection_id=connection_id, offer=made)


async def refused(stub: Stub, **request: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await signal(stub, **request)
    return caught.value.code()


async def test_an_offer_makes_a_peer_with_a_connection_of_its_own(
    hub: FakeHub, peers: FakePeers, stub: Stub
) -> None:
    answered = await offer(stub)
    peer = peers.peers[0]
    assert answered.sdp_answer == "answer to offer"
    assert answered.connection_id == hub.session.connections[0].connection_id
    assert peer.connection is hub.session.connections[0]
    assert peer.tracks == {"0": "main_video"}
    assert peer.channels is None


async def test_a_second_offer_replaces_the_peer_on_the_same_connection(
    hub: FakeHub, peers: FakePeers, stub: Stub
) -> None:
    first = await offer(stub)
    second = await offer(stub, "again", first.connection_id)
    assert second.connection_id == first.connection_id
    assert [peer.closed for peer in peers.peers] == [True, False]
    assert len(hub.session.open_connections) == 1
    peers.peers[0].on_closed()
    assert len(hub.session.open_connections) == 1


async def test_candidates_reach_the_peer(peers: FakePeers, stub: Stub) -> None:
    made = await offer(stub)
    candidate = session_pb2.IceCandidate(candidate="candidate:1", sdp_mid="0")
    await signal(
        stub,
        connection_id=made.connection_id,
        candidates=session_pb2.IceCandidates(candidates=[candidate]),
    )
    assert peers.peers[0].candidates == [candidate]


async def test_the_decoder_asks_the_peers_client_for_a_keyframe(
    hub: FakeHub, peers: FakePeers, stub: Stub
) -> None:
    await offer(stub)
    hub.session.connections[0].sink.camera_keyframe()
    assert peers.peers[0].keyframe_requests == 1


async def test_hanging_up_ends_peer_and_connection_and_may_be_repeated(
    hub: FakeHub, peers: FakePeers, stub: Stub
) -> None:
    made = await offer(stub)
    for _ in range(2):
        await signal(stub, connection_id=made.connection_id, hangup=session_pb2.Hangup())
    assert peers.peers[0].closed
    assert hub.session.open_connections == []


async def test_a_peer_that_is_lost_gives_up_its_connection(
    hub: FakeHub, peers: FakePeers, stub: Stub
) -> None:
    made = await offer(stub)
    peers.peers[0].fail()
    await hub.until(lambda: not hub.session.open_connections)
    candidates = session_pb2.IceCandidates()
    code = await refused(stub, connection_id=made.connection_id, candidates=candidates)
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_end_of_the_session_closes_its_peers(
    hub: FakeHub, peers: FakePeers, stub: Stub
) -> None:
    before = asyncio.all_tasks()
    await offer(stub)
    hub.session.end("over")
    await settled(before)
    assert peers.peers[0].closed


async def test_a_bad_offer_leaves_no_connection(hub: FakeHub, peers: FakePeers, stub: Stub) -> None:
    made = session_pb2.Offer(sdp="bad", tracks=TRACKS)
    assert await refused(stub, offer=made) is grpc.StatusCode.INVALID_ARGUMENT
    assert hub.session.open_connections == []
    assert peers.peers == []


async def test_a_bad_offer_ends_the_peer_it_was_to_replace(
    hub: FakeHub, peers: FakePeers, stub: Stub
) -> None:
    first = await offer(stub)
    bad = session_pb2.Offer(sdp="bad", tracks=TRACKS)
    code = await refused(stub, connection_id=first.connection_id, offer=bad)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert peers.peers[0].closed
    assert hub.session.open_connections == []


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"connection_id": 9, "offer": session_pb2.Offer(sdp="offer", tracks=TRACKS)},
        {"connection_id": 9, "candidates": session_pb2.IceCandidates()},
        {"offer": session_pb2.Offer(sdp="x" * (SDP_LIMIT + 1), tracks=TRACKS)},
        {"offer": session_pb2.Offer(sdp="offer", tracks=[*TRACKS, *TRACKS])},
        {"offer": session_pb2.Offer(sdp="offer", tracks=[session_pb2.TrackMapping(mid="0")])},
    ],
    ids=["nothing", "unknown peer", "nobody's candidates", "long", "twice", "nameless"],
)
async def test_a_signal_that_makes_no_sense_is_refused(
    hub: FakeHub, stub: Stub, request_: dict[str, Any]
) -> None:
    assert await refused(stub, **request_) is grpc.StatusCode.INVALID_ARGUMENT
    assert hub.session.open_connections == []


async def test_stopping_closes_the_peers(hub: FakeHub, peers: FakePeers) -> None:
    async with (
        grpc_gateway(fake_services(hub, peers=peers)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub: Stub = session_pb2_grpc.SessionServiceStub(channel)
        await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
        await offer(stub)
    assert peers.peers[0].closed
    assert hub.session.open_connections == []
