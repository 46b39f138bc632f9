"""STUN servers on the loopback: one that answers, and one that never does (RFC 8489)."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

_BINDING_REQUEST, _BINDING_RESPONSE = 0x0001, 0x0101
_XOR_MAPPED_ADDRESS = 0x0020
_COOKIE = 0x2112A442
_HEADER = struct.Struct("!HHI12s")


@contextlib.contextmanager
def stun() -> Iterator[str]:
    """Runs a STUN server; gives its URL."""
    with _bound() as server:
        over = threading.Event()
        answering = threading.Thread(target=_answer, args=(server, over), daemon=True)
        answering.start()
        try:
            yield _url(server)
        finally:
            over.set()
            answering.join()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """Holds a port that takes requests and answers none, as a lost route does."""
    with _bound() as server:
        yield _url(server)


def response(request: bytes, host: str, port: int) -> bytes | None:
    """Returns the answer to a binding request from an address; None to anything else."""
    if len(request) < _HEADER.size:
        return None
    kind, _, cookie, transaction = _HEADER.unpack_from(request)
    if (kind, cookie) != (_BINDING_REQUEST, _COOKIE):
        return None
    (address,) = struct.unpack("!I", socket.inet_aton(host))
    value = struct.pack("!BBHI", 0, 1, port ^ _COOKIE >> 16, address ^ _COOKIE)
    attribute = struct.pack("!HH", _XOR_MAPPED_ADDRESS, len(value)) + value
    return _HEADER.pack(_BINDING_RESPONSE, len(attribute), _COOKIE, transaction) + attribute


@contextlib.contextmanager
def _bound() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.1)
        yield server


def _answer(server: socket.socket, over: threading.Event) -> None:
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            request, (host, port) = server.recvfrom(2048)
            if (said := response(request, host, port)) is not None:
                server.sendto(said, (host, port))


def _url(server: socket.socket) -> str:
    return f"stun:127.0.0.1:{server.getsockname()[1]}"
