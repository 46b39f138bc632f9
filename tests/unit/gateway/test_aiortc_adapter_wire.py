"""Packets encrypted in place, on the pair that ICE has chosen."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pylibsrtp
import pytest
from aioice.turn import TurnTransport
from aiortc.rtcdtlstransport import State

from gateway.webrtc.aiortc_adapter.wire import MAX_BUFFERED, MAX_RELAYING, Wire
from gateway.webrtc.rtp import PacketHeader

pytestmark = pytest.mark.unit

KEYS = {
    pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80: 30,
    pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM: 28,
    pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM: 44,
}
HEADER = PacketHeader(96, 7, mid=(1, "0"), abs_send_time=2)


def session(profile: int, key: bytes, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=profile)
    policy.allow_repeat_tx = True
    return pylibsrtp.Session(policy)


def packets(count: int, size: int = 1100, first: int = 0) -> list[bytes]:
    payloads = [bytes([index % 256]) * size for index in range(count)]
    return HEADER.packets(payloads, first, 3000, 0.0)


class Far:
    """The far end of a connected transport."""

    def __init__(self, profile: int = pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80) -> None:
        key = os.urandom(KEYS[profile])
        self.inbound = session(profile, key, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        outbound = session(profile, key, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.settimeout(30)
        self.near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.ice = SimpleNamespace(_nominated={1: self.pair(self.near)})
        self.dtls: Any = SimpleNamespace(
            _state=State.CONNECTED,
            _tx_srtp=outbound,
            transport=SimpleNamespace(_connection=self.ice),
        )
        self.wire = Wire(self.dtls)

    def pair(self, udp: socket.socket) -> Any:
        transport = SimpleNamespace(get_extra_info=lambda name: {"socket": udp}[name])
        return SimpleNamespace(
            protocol=SimpleNamespace(transport=transport), remote_addr=self.udp.getsockname()
        )

    def received(self, count: int) -> list[bytes]:
        return [self.inbound.unprotect(self.udp.recv(2000)) for _ in range(count)]

    def close(self) -> None:
        self.udp.close()
        self.near.close()


@pytest.fixture
def far() -> Iterator[Far]:
    far = Far()
    yield far
    far.close()


@pytest.mark.parametrize("profile", KEYS)
def test_packets_arrive_as_they_were_under_every_cipher(profile: int) -> None:
    far = Far(profile)
    sent = packets(5) + packets(1, 300, first=5)
    far.wire.send(sent)
    assert far.received(6) == sent
    assert far.wire.dropped == 0
    far.close()


def test_more_packets_than_one_call_takes_arrive_too(far: Far) -> None:
    sent = packets(120, size=100)
    far.wire.send(sent)
    assert far.received(120) == sent


def test_a_packet_sent_again_arrives_as_the_same_datagram(far: Far) -> None:
    sent = packets(3)
    far.wire.send(sent)
    first = [far.udp.recv(2000) for _ in sent]
    far.wire.send([sent[1]])
    assert far.udp.recv(2000) == first[1]


def test_what_libsrtp_refuses_is_counted_and_the_rest_is_sent(far: Far) -> None:
    sent = packets(3)
    far.wire.send([sent[0], b"no RTP", *sent[1:]])
    assert far.received(3) == sent
    assert far.wire.dropped == 1


@pytest.mark.parametrize("state", [State.NEW, State.CONNECTING, State.CLOSED, State.FAILED])
def test_without_a_connection_packets_are_counted(far: Far, state: State) -> None:
    far.dtls._state = state
    far.wire.send(packets(3))
    assert far.wire.dropped == 3


def test_without_a_pair_packets_are_counted(far: Far) -> None:
    far.wire.send(packets(1))
    far.ice._nominated.clear()
    far.wire.send(packets(3, first=1))
    assert far.wire.dropped == 3


def test_another_pair_is_used_as_soon_as_it_is_chosen(far: Far) -> None:
    far.wire.send(packets(1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        far.ice._nominated[1] = far.pair(other)
        far.near.close()
        far.wire.send(packets(2, first=1))
        assert len(far.received(3)) == 3
    assert far.wire.dropped == 0


def test_a_closed_socket_hurts_nobody(far: Far) -> None:
    far.near.close()
    far.wire.send(packets(3))
    assert far.wire.dropped == 3


class Turn:
    """The protocol inside a TURN transport."""

    def __init__(self) -> None:
        self.buffered = 0
        self.sent: list[bytes] = []
        self.transport = SimpleNamespace(
            is_closing=lambda: False, get_write_buffer_size=lambda: self.buffered
        )

    async def send_data(self, data: bytes, address: tuple[str, int]) -> None:
        self.sent.append(data)


async def test_a_relayed_pair_is_used_through_its_transport_and_never_queues_without_bound(
    far: Far,
) -> None:
    turn = Turn()
    relayed: Any = SimpleNamespace(
        protocol=SimpleNamespace(transport=TurnTransport(turn)),  # type: ignore[arg-type]
        remote_addr=("192.0.2.1", 9),
    )
    far.ice._nominated[1] = relayed
    sent = packets(MAX_RELAYING + 100, size=10)
    far.wire.send(sent)
    assert far.wire.dropped == 100
    await asyncio.sleep(0)
    assert [far.inbound.unprotect(data) for data in turn.sent] == sent[:MAX_RELAYING]
    await asyncio.sleep(0)
    turn.buffered = MAX_BUFFERED + 1
    far.wire.send(packets(2, first=MAX_RELAYING + 100))
    assert far.wire.dropped == 102
