"""Two hosts on this machine, and between them a network that loses and delays.

Three namespaces: the service's, the clients', and between them one that carries packets
from one to the other (`link.py`). It takes root and the kernel's network namespaces.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.required import missing, require_command

LINK: Final = Path(__file__).with_name("link.py")
SERVER: Final = "10.77.0.1"
"""Address of the service."""
CLIENT: Final = "10.77.0.2"
"""Address of the clients."""


@dataclass(frozen=True)
class TwoHosts:
    """The two hosts and the network between them."""

    server: str
    """Namespace of the service."""
    client: str
    """Namespace of the clients."""
    _link: subprocess.Popen[str]

    def shape(self, **settings: float) -> None:
        """Changes the network, from the next packet on.

        Args:
            settings: Of `link.Settings`; what is not given is as on a perfect network.
        """
        assert self._link.stdin is not None
        assert self._link.stdout is not None
        self._link.stdin.write(json.dumps(settings) + "\n")
        self._link.stdin.flush()
        assert self._link.stdout.readline() == "changed\n"


def inside(namespace: str) -> tuple[str, ...]:
    """Returns the words that run a command in a namespace."""
    return ("ip", "netns", "exec", namespace)


@contextlib.contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    """Makes the hosts and a perfect network; removes them.

    Skipped where the rights are missing, but not in CI.
    """
    require_command("ip", "install Debian's iproute2")
    if os.geteuid() != 0:
        missing("the right to make network namespaces", "run the tests as root")
    name = uuid.uuid4().hex[:6]
    server, between, client = (f"sana-{role}-{name}" for role in ("s", "b", "c"))
    with contextlib.ExitStack() as undo:
        for namespace in (server, between, client):
            _ip("netns", "add", namespace)
            undo.callback(_ip, "netns", "del", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        for namespace, address, side in ((server, SERVER, "s"), (client, CLIENT, "c")):
            inner = f"{side}{name}"
            _ip("-n", namespace, "link", "add", "eth0", "type", "veth", "peer", "name", inner)
            _ip("-n", namespace, "link", "set", inner, "netns", between)
            _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", namespace, "link", "set", "eth0", "up")
            _ip("-n", between, "link", "set", inner, "up", "promisc", "on")
            for where, interface in ((namespace, "eth0"), (between, inner)):
                _run(*inside(where), sys.executable, str(LINK), "plain", interface)
        link = subprocess.Popen(
            [*inside(between), sys.executable, str(LINK), "carry", f"s{name}", f"c{name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        undo.callback(_end, link)
        assert link.stdout is not None
        assert link.stdout.readline() == "carrying\n"
        yield TwoHosts(server, client, link)


def _end(link: subprocess.Popen[str]) -> None:
    assert link.stdin is not None
    link.stdin.close()
    try:
        link.wait(5)
    except subprocess.TimeoutExpired:
        link.kill()
        link.wait()


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
