"""From which address a call comes, where proxies may stand in between. Pure.

What a proxy says of the client is believed of the proxies that are named, and of nobody else:
anybody may write an `X-Forwarded-For`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNKNOWN: Final = "unknown"
"""Stands for an address that cannot be read, and for a socket of this machine."""
MOST_HOPS: Final = 16
"""Most proxies in a row that are looked through."""
HOST_BITS: Final = 64
"""What one user of IPv6 has below its prefix: all of it counts as one address."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Reads addresses and networks, as `10.0.0.0/8`.

    Raises:
        ValueError: One is none.
    """
    return tuple(ipaddress.ip_network(text) for text in texts)


def client_address(
    peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]
) -> str:
    """Returns the address that a call is counted for.

    Args:
        peer: Address of the connection; None where there is none.
        forwarded_for: The values of `X-Forwarded-For`, in order: each proxy adds the address that
            it was called from at the end.
        trusted: Networks of the proxies that are believed.

    Returns:
        The nearest address that is no trusted proxy, an IPv6 one by its prefix.
    """
    nearest = _read(peer or "")
    hops = [hop for value in forwarded_for for hop in value.split(",")] if trusted else []
    for hop in reversed(hops[-MOST_HOPS:]):
        if nearest is None or not _is_one_of(nearest, trusted):
            break
        before = _read(hop.strip())
        if before is None:
            break
        nearest = before
    return UNKNOWN if nearest is None else _counted(nearest)


def is_in(peer: str, trusted: Sequence[Network]) -> bool:
    """Tells whether a connection comes from one of the proxies that are believed."""
    if not trusted:
        return False
    address = _read(peer)
    return address is not None and _is_one_of(address, trusted)


def peer_of_grpc(peer: str) -> str:
    """Returns the address in what gRPC calls the peer of a call: `ipv4:127.0.0.1:4711`,
    `ipv6:[::1]:4711`, `unix:`.
    """
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    # Some releases write the brackets percent-encoded.
    return rest.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]")


@lru_cache(maxsize=4096)
def _read(text: str) -> Address | None:
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    # A socket that listens for both kinds shows the older one so.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _is_one_of(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


@lru_cache(maxsize=4096)
def _counted(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((int(address) >> HOST_BITS << HOST_BITS, 128 - HOST_BITS)))
