"""The sockets of peers."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from gateway.webrtc import udp
from gateway.webrtc.udp import BUFFER_BYTES, MAX_BURST, MAX_DATAGRAM, UdpPorts, UdpTransport
from scheduler.core.errors import ConfigurationError, LimitError

pytestmark = pytest.mark.unit

HOST = "127.0.0.1"


def free_range(count: int) -> tuple[int, int]:
    """A range of ports that nobody uses at this moment."""
    for first in range(41_000, 60_000, count):
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    probe.bind((HOST, port))
            except OSError:
                continue
        return first, first + count - 1
    raise AssertionError("no ports are free")


class Receiver:
    """Records what a transport reads."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.refused: list[tuple[str, int]] = []
        self.lost = asyncio.Event()
        self.changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, UdpTransport)

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None
        self.lost.set()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.datagrams.append(data)
        self.changed.set()

    def unreachable(self, addr: tuple[str, int]) -> None:
        self.refused.append(addr)
        self.changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.datagrams) + len(self.refused) < count:
                self.changed.clear()
                await self.changed.wait()


# -- ports ---------------------------------------------------------------------------------


def test_all_ports_of_a_range_are_taken_before_it_is_full() -> None:
    span = free_range(4)
    ports = UdpPorts(span)
    with ExitStack() as stack:
        taken = [stack.enter_context(closing(ports.bind(HOST))).getsockname()[1] for _ in range(4)]
        assert taken == list(range(span[0], span[1] + 1))
        with pytest.raises(LimitError, match=f"{span[0]} to {span[1]}") as refused:
            ports.bind(HOST)
        assert refused.value.retry_after_s


def test_a_port_that_was_returned_waits_its_turn() -> None:
    span = free_range(3)
    ports = UdpPorts(span)
    for expected in (0, 1, 2, 0):
        with closing(ports.bind(HOST)) as bound:
            assert bound.getsockname()[1] == span[0] + expected


def test_without_a_range_the_system_chooses() -> None:
    ports = UdpPorts(None)
    with closing(ports.bind(HOST)) as one, closing(ports.bind("::1")) as other:
        assert one.getsockname()[1]
        assert other.family == socket.AF_INET6


def test_an_address_that_is_not_ours_cannot_be_bound() -> None:
    for span in (None, free_range(2)):
        with pytest.raises(OSError, match=r"\w"):
            UdpPorts(span).bind("192.0.2.200")


@pytest.mark.parametrize("span", [(0, 5), (6, 5), (1, 70_000), (-1, 5)])
def test_a_range_that_is_none_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ConfigurationError):
        UdpPorts(span)


def test_sockets_hold_a_burst_each_way() -> None:
    options = {"rmem_max": socket.SO_RCVBUF, "wmem_max": socket.SO_SNDBUF}
    with closing(UdpPorts(None).bind(HOST)) as bound:
        for name, option in options.items():
            limit = int((Path("/proc/sys/net/core") / name).read_text())
            assert bound.getsockopt(socket.SOL_SOCKET, option) >= min(BUFFER_BYTES, limit)


# -- transport -----------------------------------------------------------------------------


async def test_a_burst_is_read_whole_and_in_order() -> None:
    receiver = Receiver()
    transport = UdpTransport(UdpPorts(None).bind(HOST), receiver)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sent = [bytes([index]) * 20 for index in range(3 * MAX_BURST)]
        for datagram in sent:
            sender.sendto(datagram, transport.get_extra_info("sockname"))
        await receiver.until(len(sent))
    assert receiver.datagrams == sent
    transport.close()
    await receiver.lost.wait()


async def test_a_flood_leaves_others_their_turn() -> None:
    receiver = Receiver()
    transport = UdpTransport(UdpPorts(None).bind(HOST), receiver)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(2 * MAX_BURST):
            sender.sendto(b"x" * 20, transport.get_extra_info("sockname"))
    transport._readable()
    assert len(receiver.datagrams) == MAX_BURST
    transport.close()


async def test_datagrams_longer_than_any_path_are_dropped() -> None:
    receiver = Receiver()
    transport = UdpTransport(UdpPorts(None).bind(HOST), receiver)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for size in (MAX_DATAGRAM + 1, 60_000, MAX_DATAGRAM):
            sender.sendto(bytes(size), transport.get_extra_info("sockname"))
        await receiver.until(1)
    assert [len(each) for each in receiver.datagrams] == [MAX_DATAGRAM]
    assert transport.dropped == 2
    transport.close()


async def test_what_the_kernel_cannot_take_is_dropped_not_kept() -> None:
    transport = UdpTransport(UdpPorts(None).bind(HOST), Receiver())
    transport.sendto(bytes(70_000), (HOST, 9))
    assert transport.dropped == 1
    transport.close()
    transport.sendto(b"nobody there", (HOST, 9))
    transport.close()
    assert transport.is_closing()


async def test_a_refused_datagram_names_its_address_and_others_still_leave() -> None:
    receiver, other = Receiver(), Receiver()
    transport = UdpTransport(UdpPorts(None).bind(HOST), receiver)
    living = UdpTransport(UdpPorts(None).bind(HOST), other)
    with closing(UdpPorts(None).bind(HOST)) as gone:
        address = gone.getsockname()
    transport.sendto(b"to nobody", address)
    # The error of the first may come out of the call that sends the second.
    transport.sendto(b"to somebody", living.get_extra_info("sockname"))
    await receiver.until(1)
    await other.until(1)
    assert receiver.refused == [address]
    assert other.datagrams == [b"to somebody"]
    transport.close()
    living.close()


async def test_errors_do_not_keep_the_loop_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    wakes = 0
    original = udp.UdpTransport._readable

    def counting(self: UdpTransport) -> None:
        nonlocal wakes
        wakes += 1
        original(self)

    monkeypatch.setattr(udp.UdpTransport, "_readable", counting)
    receiver = Receiver()
    transport = UdpTransport(UdpPorts(None).bind("::1"), receiver)
    with closing(UdpPorts(None).bind("::1")) as gone:
        address = gone.getsockname()[:2]
    transport.sendto(b"to nobody", address)
    await receiver.until(1)
    wakes = 0
    for _ in range(50):
        await asyncio.sleep(0)
    assert wakes <= 1
    assert receiver.refused == [address]
    transport.close()


async def test_a_closed_transport_has_returned_its_descriptor() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    receiver = Receiver()
    transport = UdpTransport(UdpPorts(None).bind(HOST), receiver)
    transport.abort()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    await receiver.lost.wait()
