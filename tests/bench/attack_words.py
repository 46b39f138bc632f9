"""What an attacker says to the public ports: beginnings that never end, and requests that get
nowhere.

HTTP/2 is written by hand (RFC 9113, RFC 7541 without its tables and without Huffman coding): an
attacker does not pay for a library.
"""

from __future__ import annotations

import struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, PING = 1, 4, 6
END_STREAM = ACK = 1
END_HEADERS = 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns a frame of HTTP/2."""
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


HELLO: Final = PREFACE + frame(SETTINGS, 0, 0)
"""How a connection of gRPC begins."""


def _text(value: bytes) -> bytes:
    assert len(value) < 127, "longer ones need more than one byte"
    return bytes([len(value)]) + value


def _call(method: bytes, message: bytes, *more: bytes) -> tuple[bytes, bytes]:
    """Returns header block and body of a call."""
    # 0x83 POST, 0x86 http; literals with the names 4 (:path), 1 (:authority), 31 (content-type).
    block = b"\x83\x86\x04" + _text(b"/sana_gateway.v1." + method) + b"\x01" + _text(b"a")
    block += b"\x0f\x10" + _text(b"application/grpc") + b"\x00" + _text(b"te") + _text(b"trailers")
    return block + b"".join(more), b"\0" + struct.pack("!I", len(message)) + message


def _with_token(token: bytes) -> bytes:
    return b"\x0f\x08" + _text(b"Bearer " + token)


CALLS: Final = (
    _call(b"SessionService/CreateSession", b"\x0a\x02hi"),
    _call(b"SessionService/GetSession", b"\x0a\x05s0123", _with_token(b"rk_no")),
    _call(b"SessionService/Attach", b"\x0a\x02hi", _with_token(b"a.b.c")),
    _call(b"PoolService/DescribePool", b""),
    _call(b"NoService/Nothing", b"\xff\xff\xff"),
)
"""Calls of nobody: without a token, with a wrong one, of what does not exist, with garbage."""


def call(number: int, stream: int) -> bytes:
    """Returns a call as it is sent.

    Args:
        number: Which one; they take turns.
        stream: Its stream: 1, 3, 5, ...
    """
    block, body = CALLS[number % len(CALLS)]
    return frame(HEADERS, END_HEADERS, stream, block) + frame(0, END_STREAM, stream, body)


def frames(received: bytearray) -> list[tuple[int, int, bytes]]:
    """Takes whole frames off what was received; returns kind, flags and payload of each."""
    found = []
    while len(received) >= 9:
        length = int.from_bytes(received[:3], "big")
        if len(received) < 9 + length:
            break
        found.append((received[3], received[4], bytes(received[9 : 9 + length])))
        del received[: 9 + length]
    return found


_HEAD: Final = b" HTTP/1.1\r\nHost: a\r\n"
_WRONG: Final = b"Authorization: Bearer rk_no\r\n"
REQUESTS: Final = (
    b"POST /sessions" + _HEAD + b"Content-Length: 2\r\n\r\n{}",
    b"POST /tokens" + _HEAD + b"Reactor-API-Key: rk_no\r\n\r\n",
    b"GET /sessions/s0123" + _HEAD + _WRONG + b"\r\n",
    b"GET /nothing" + _HEAD + b"\r\n",
    b"PUT /uploads/nobody" + _HEAD + b"Content-Length: 3\r\n\r\nabc",
    b"POST /whip/simulated" + _HEAD + _WRONG + b"Content-Length: 3\r\n\r\nv=0",
    b"GET /events" + _HEAD + b"\r\n",
    b"OPTIONS /sessions" + _HEAD + b"Origin: https://a.example\r\n\r\n",
    b"GET /livez" + _HEAD + b"\r\n",
    b"not a request at all\r\n\r\n",
)
"""Requests of nobody. The last one ends its connection."""


def request(number: int, *, last: bool) -> bytes:
    """Returns a request as it is sent.

    Args:
        number: Which one; they take turns.
        last: Whether its connection ends with it; else it is one that leaves it open.
    """
    if not last:
        return REQUESTS[number % (len(REQUESTS) - 1)]
    return REQUESTS[number % len(REQUESTS)].replace(_HEAD, _HEAD + b"Connection: close\r\n")


BEGINNINGS: Final = {
    "http": (
        b"",
        b"GET /sessions/s0000 HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        b"POST /tokens HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n{",
        b"PO",
    ),
    "grpc": (b"", PREFACE[:14], HELLO),
}
"""What half-open connections have said, by port: nothing, half a line, half the headers, half a
body; half of how HTTP/2 begins, and all of that and no call. What a port answers or closes at once
(as TLS where it speaks none) would hold nothing open."""
