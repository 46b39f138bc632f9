"""Ports of this machine that a server may take, leave and take again."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_EPHEMERAL: Final = 32_768
_LOWEST: Final = 10_000
_TRIES: Final = 1000


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a TCP port that nobody listens on.

    It lies below those from which the kernel takes the near ends of connections: one of them
    would keep a server from coming back to its address, and a client that tries again and
    again would at some time be connected to itself. Whoever needs a port but once asks for
    port 0 instead.

    Raises:
        OSError: There is none.
    """
    highest = _first_ephemeral()
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, highest)  # noqa: S311 - nothing to be guessed
        with suppress(OSError), socket.socket() as probe:
            probe.bind((host, port))
            return port
    raise OSError("no port is free")


def _first_ephemeral() -> int:
    try:
        return int(_EPHEMERAL.read_text().split()[0])
    except OSError:
        return _USUAL_EPHEMERAL
