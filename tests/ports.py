"""Ports of this machine that a server may take, leave and take again."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 10_000
_TRIES: Final = 1000


def free_port() -> int:
    """Returns a TCP port of the loopback that nobody listens on.

    It lies below those from which the kernel takes the near ends of connections: one of them
    would keep a server from coming back to its address. Whoever needs a port but once, asks the
    server for port 0 instead.

    Raises:
        OSError: There is none.
    """
    first_ephemeral = int(_EPHEMERAL.read_text().split()[0])
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, first_ephemeral)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")
