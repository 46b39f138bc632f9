"""Session descriptions whose ways lead through a relay (RFC 8839). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final, NamedTuple

_CANDIDATE: Final = "a=candidate:"
_SECTION: Final = "m="


class Address(NamedTuple):
    """Of UDP."""

    host: str
    port: int


def candidates(sdp: str) -> list[Address]:
    """Returns where the one who made a description can be reached over UDP, in its order.

    Names (mDNS) and TCP are left out.

    Args:
        sdp: The description.
    """
    lines = (line for line in sdp.splitlines() if line.startswith(_CANDIDATE))
    return [address for line in lines if (address := _address(line)) is not None]


def led_through(sdp: str, relay: Callable[[Address], Address]) -> str:
    """Returns a description in which every medium has one candidate: that of a relay.

    Args:
        sdp: The description.
        relay: Says where a relay stands for an address; asked once for each that stays.
    """
    known: dict[Address, Address] = {}
    lines, given = [], False
    for line in sdp.splitlines(keepends=True):
        if line.startswith(_SECTION):
            given = False
        if not line.startswith(_CANDIDATE):
            lines.append(line)
            continue
        address = _address(line)
        if given or address is None:
            continue
        if address not in known:
            known[address] = relay(address)
        lines.append(_moved(line, known[address]))
        given = True
    return "".join(lines)


def _address(line: str) -> Address | None:
    """Returns the address of a candidate over UDP; None of any other."""
    words = line.split()
    if len(words) < 8 or words[2].lower() != "udp" or not words[5].isdigit():
        return None
    try:
        ipaddress.ip_address(words[4])
    except ValueError:
        return None
    return Address(words[4], int(words[5]))


def _moved(line: str, to: Address) -> str:
    ending = line[len(line.rstrip("\r\n")) :]
    words = line.split()
    words[4], words[5] = to.host, str(to.port)
    return " ".join(words) + ending
