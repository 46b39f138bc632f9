"""Datagrams on real sockets, in as few calls as can be."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.webrtc import datagrams
from gateway.webrtc.datagrams import DatagramPath, equal_runs, segmentation_offload

pytestmark = pytest.mark.unit


@pytest.fixture
def far() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        far.settimeout(30)
        yield far


class Udp:
    """A socket that answers as told, then as a real one."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.calls: list[str] = []
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def sendmsg(self, *arguments: Any) -> int:
        return self._send("sendmsg", *arguments)

    def sendto(self, *arguments: Any) -> int:
        return self._send("sendto", *arguments)

    def _send(self, name: str, *arguments: Any) -> int:
        self.calls.append(name)
        if self.errors and (number := self.errors.pop(0)):
            raise OSError(number, "as told")
        sent: int = getattr(self._udp, name)(*arguments)
        return sent


def path_of(udp: Any, far: socket.socket) -> DatagramPath:
    return DatagramPath(udp, far.getsockname())


FRAME = [b"a" * 1000, b"b" * 1000, b"c" * 700]


@pytest.fixture
def offload() -> None:
    if not segmentation_offload():
        pytest.skip("this kernel does not cut datagrams")


@pytest.mark.usefixtures("offload")
def test_a_frame_arrives_as_its_packets_out_of_one_call(far: socket.socket) -> None:
    udp = Udp()
    assert path_of(udp, far).send(FRAME) == 3
    assert udp.calls == ["sendmsg"]
    assert [far.recv(2000) for _ in FRAME] == FRAME


def test_without_offload_each_packet_has_its_call(
    far: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "segmentation_offload", lambda: False)
    udp = Udp()
    assert path_of(udp, far).send([memoryview(each) for each in FRAME]) == 3
    assert udp.calls == ["sendto"] * 3
    assert [far.recv(2000) for _ in FRAME] == FRAME


@pytest.mark.usefixtures("offload")
@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.EMSGSIZE])
def test_a_network_card_that_cannot_cut_is_not_asked_again(far: socket.socket, number: int) -> None:
    udp = Udp(number, number)
    path = path_of(udp, far)
    assert path.send(FRAME) == 3
    assert not path.offload
    assert [far.recv(2000) for _ in FRAME] == FRAME
    path.send(FRAME)
    assert udp.calls == ["sendmsg"] * 2 + ["sendto"] * 6


@pytest.mark.usefixtures("offload")
def test_an_error_of_an_earlier_datagram_costs_nothing(far: socket.socket) -> None:
    udp = Udp(errno.ECONNREFUSED)
    path = path_of(udp, far)
    assert path.send(FRAME) == 3
    assert path.offload
    assert [far.recv(2000) for _ in FRAME] == FRAME


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENETUNREACH, errno.EPERM, errno.EBADF])
def test_what_the_socket_does_not_take_is_lost_and_counted(far: socket.socket, number: int) -> None:
    udp = Udp(*[number] * 20)
    path = path_of(udp, far)
    assert path.send(FRAME) == 0
    udp.errors.clear()
    assert path.send(FRAME) == 3


@pytest.mark.parametrize(
    ("sizes", "runs"),
    [
        ([], []),
        ([5], [(0, 1)]),
        ([5, 5, 5], [(0, 3)]),
        ([5, 5, 3], [(0, 3)]),
        ([3, 5, 5], [(0, 1), (1, 3)]),
        ([5, 3, 3], [(0, 2), (2, 3)]),
        ([5, 5, 3, 5, 5, 3], [(0, 3), (3, 6)]),
        ([5] * 50, [(0, 48), (48, 50)]),
    ],
)
def test_what_one_call_can_send(sizes: list[int], runs: list[tuple[int, int]]) -> None:
    assert list(equal_runs([bytes(size) for size in sizes])) == runs
