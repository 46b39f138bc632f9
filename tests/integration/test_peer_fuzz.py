"""Random and mutated datagrams into a connected peer: nothing breaks, grows or stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pylibsrtp
import pytest
from aiortc.rtp import RtpPacket, is_rtcp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.webrtc.aiortc_adapter import transport
from gateway.webrtc.assembly import CAPACITY
from gateway.webrtc.peer import AiortcPeers, PeerSettings
from gateway.webrtc.reception import MAX_MISSING
from gateway.webrtc.sdp import MAX_CANDIDATES
from tests.fakes.hub import FakeHub
from tests.fakes.webrtc_client import Joined, RunningCamera, joined, shows_a_picture_both_ways

pytestmark = pytest.mark.integration

BOUNDED = settings(
    max_examples=400,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
Mutation = tuple[int, int]


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def peers() -> AsyncIterator[AiortcPeers]:
    factory = AiortcPeers(PeerSettings(joins_per_second=1000))
    yield factory
    await factory.close()


class Target:
    """Our end of a call: where its datagrams come in, and what it holds."""

    def __init__(self, call: Joined) -> None:
        assert call.peer._peer is not None
        self.receiver = call.peer._peer.getTransceivers()[0].receiver
        self.dtls = self.receiver.transport
        self.pair = self.dtls.ice._nominated[1]
        self.protocol = self.pair.protocol

    def receive(self, data: bytes, *, stranger: bool = False) -> None:
        address = ("198.51.100.7", 4000) if stranger else self.pair.remote_addr
        self.protocol.datagram_received(data, address)

    def holds_no_more_than_its_bounds(self) -> bool:
        stream, ice = self.receiver._stream, self.dtls.ice
        return (
            ice._queue.qsize() <= transport.MAX_DATAGRAMS
            and len(ice._remote_candidates) <= MAX_CANDIDATES
            and len(ice._check_list) <= MAX_CANDIDATES * len(ice._protocols)
            and len(self.protocol.transactions) <= MAX_CANDIDATES
            and len(stream.assembler._waiting) <= CAPACITY
            and len(stream.missing._missing) <= MAX_MISSING
            and len(self.dtls._rx_srtp._streams) <= transport.MAX_STREAMS
            and len(self.dtls._rtp_router.ssrc_table) <= 4
        )


def mutated(data: bytes, mutations: list[Mutation], length: int) -> bytes:
    changed = bytearray(data)
    for position, value in mutations:
        if changed:
            changed[position % len(changed)] ^= value
    return bytes(changed[:length])


mutations = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6)
lengths = st.one_of(st.just(1500), st.integers(0, 80))


async def test_datagrams_of_strangers_and_mutated_ones_of_the_client(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers, camera=RunningCamera()) as call:
        target = Target(call)
        samples = await seen_datagrams(call, target)

        @BOUNDED
        @given(st.binary(max_size=1600), st.booleans())
        def anything(data: bytes, stranger: bool) -> None:
            target.receive(data, stranger=stranger)

        @BOUNDED
        @given(st.sampled_from(samples), mutations, lengths, st.booleans())
        def almost_right(
            sample: bytes, changes: list[Mutation], length: int, stranger: bool
        ) -> None:
            target.receive(mutated(sample, changes, length), stranger=stranger)

        for attack in (anything, almost_right):
            attack()
            assert target.holds_no_more_than_its_bounds()
            await asyncio.sleep(0)
            await shows_a_picture_both_ways(call)
        assert call.ended == []


async def seen_datagrams(call: Joined, target: Target) -> list[bytes]:
    """Returns real datagrams of the client: RTP, RTCP, STUN and DTLS with SCTP inside."""
    kinds: dict[str, bytes] = {}
    receive = target.protocol.datagram_received

    def spy(data: bytes, address: tuple[Any, ...]) -> None:
        if data[0] < 4:
            kinds["stun"] = data
        elif data[0] < 64:
            kinds["dtls"] = data
        else:
            kinds["rtcp" if is_rtcp(data) else "rtp"] = data
        call.client.hub.changes.happened()
        receive(data, address)

    target.protocol.datagram_received = spy
    await target.dtls.ice._ask()
    client = call.client.transport
    await client._send_rtp(b"\x80\xc9\x00\x01" + bytes(4))
    client._ssl.send(b"not SCTP")
    await client._write_ssl()
    connection = client.transport._connection
    (pair,) = connection._nominated.values()
    check = connection.build_request(pair, nominate=True)
    check.add_message_integrity(connection.remote_password.encode())
    target.receive(bytes(check))
    await call.until(lambda: kinds.keys() == {"stun", "dtls", "rtcp", "rtp"})
    del target.protocol.datagram_received
    return [*kinds.values(), bytes(check)]


async def test_authentic_packets_of_any_content(hub: FakeHub, peers: AiortcPeers) -> None:
    """What a client of ours may send that means harm: encrypted as it should be."""
    async with joined(hub, peers, camera=RunningCamera()) as call:
        target = Target(call)
        sender = call.client.sender
        encrypt = call.client.transport._tx_srtp
        known = [codec.payloadType for codec in call.client.pc.getTransceivers()[0]._codecs]
        await call.until(lambda: call.frames)

        @BOUNDED
        @given(
            st.builds(
                RtpPacket,
                payload_type=st.sampled_from([*known, 127]),
                marker=st.integers(0, 1),
                sequence_number=st.integers(0, 65_535),
                timestamp=st.integers(0, 2**32 - 1),
                ssrc=st.one_of(st.just(sender._rtx_ssrc), st.integers(0, 2**32 - 1)),
                payload=st.binary(max_size=200),
            ),
            mutations,
            st.integers(12, 1300),
        )
        def rtp(packet: RtpPacket, changes: list[Mutation], length: int) -> None:
            data = packet.serialize()
            # The number and the stream stay: on the camera's own, SRTP would lose step.
            kept = mutated(data[:2], changes, 2) + data[2:12] + mutated(data[12:], changes, length)
            if kept[8:12] == sender._ssrc.to_bytes(4, "big") or is_rtcp(kept):
                return
            try:
                target.receive(encrypt.protect(kept))
            except pylibsrtp.Error:
                return  # too wild for the sender's own SRTP

        @BOUNDED
        @given(
            st.sampled_from([200, 201, 202, 203, 204, 205, 206]),
            st.integers(0, 31),
            st.binary(max_size=120),
            st.integers(0, 40),
        )
        def rtcp(kind: int, count: int, body: bytes, words: int) -> None:
            header = bytes([0x80 | count, kind]) + words.to_bytes(2, "big")
            target.receive(encrypt.protect_rtcp(header + b"\x00\x00\x00\x09" + body))

        for attack in (rtp, rtcp):
            attack()
            assert target.holds_no_more_than_its_bounds()
            await asyncio.sleep(0)
            await shows_a_picture_both_ways(call)
        assert call.ended == []
        assert peers.statistics.packets_malformed > 0
