"""What of a call's headers is passed on. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # Answered here already.
        "expect",
    }
)
"""Headers that concern one connection alone (RFC 9110, section 7.6.1)."""

GRPC_OWN: Final = "grpc-"
"""Begins the names of metadata that gRPC itself writes on every connection. The one
exception carries the details of a status, and comes back with it."""

Metadata = tuple[tuple[str, str | bytes], ...]


def end_to_end(headers: CIMultiDict[str] | CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Returns the headers that belong to the message and not to its connection.

    Those that `Connection` names belong to the connection too.
    """
    named = {
        name.strip().lower()
        for value in headers.getall("Connection", ())
        for name in value.split(",")
    }
    dropped = HOP_BY_HOP | named
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in dropped
    )


def forwarded(
    headers: CIMultiDict[str] | CIMultiDictProxy[str], scheme: str, peer: str
) -> CIMultiDict[str]:
    """Returns the headers of a request as it is sent on.

    `Host` stays, so that URLs in answers are those that the client reaches. What a proxy
    before us says of the client's scheme and host is passed on; without one we say it.

    Args:
        headers: As they came.
        scheme: `http` or `https`, as it came here.
        peer: Address that it came from.
    """
    passed = end_to_end(headers)
    passed.setdefault("X-Forwarded-Proto", scheme)
    before = passed.getall("X-Forwarded-For", [])
    passed["X-Forwarded-For"] = ", ".join([*before, peer])
    return passed


def passed_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """Returns the metadata of a gRPC call as it is sent on: all but gRPC's own.

    Args:
        metadata: Pairs of key and value, as gRPC gives them; None for none.
    """
    return tuple(
        (key, value)
        for key, value in metadata or ()
        if key not in ("user-agent", "host") and not key.startswith(GRPC_OWN)
    )
