"""Several hosts on this machine, each with an address of its own, on one switch.

Every host is a network namespace; a cable can be pulled and put back. The test process has
a cable to the same switch. It takes root and the kernel's network namespaces.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.e2e.network.hosts import inside
from tests.required import missing, require_command

_OWN: Final = 254
"""Last part of the address of the test process."""


@dataclass(frozen=True)
class Host:
    """One host."""

    address: str
    namespace: str
    _switch: str
    _port: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words that run a command on it."""
        return inside(self.namespace)

    def cut_off(self) -> None:
        """Pulls the cable: packets vanish, and nobody is told."""
        _ip("-n", self._switch, "link", "set", self._port, "nomaster")

    def reconnect(self) -> None:
        """Puts the cable back."""
        _ip("-n", self._switch, "link", "set", self._port, "master", "bridge")


@contextlib.contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Makes hosts on one switch; removes them.

    Skipped where the rights are missing, but not in CI.
    """
    require_command("ip", "install Debian's iproute2")
    if os.geteuid() != 0:
        missing("the right to make network namespaces", "run the tests as root")
    name = uuid.uuid4().hex[:6]
    network = f"10.78.{random.randrange(256)}"
    switch = f"sana-w-{name}"
    with contextlib.ExitStack() as undo:
        _namespace(switch, undo)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        _ip("link", "add", f"w{name}", "type", "veth", "peer", "name", "own", "netns", switch)
        undo.callback(_ip, "link", "del", f"w{name}")
        _plug(switch, "own")
        _ip("address", "add", f"{network}.{_OWN}/24", "dev", f"w{name}")
        _ip("link", "set", f"w{name}", "up")
        made = []
        for number in range(1, count + 1):
            port = f"port{number}"
            host = Host(f"{network}.{number}", f"sana-h{number}-{name}", switch, port)
            _namespace(host.namespace, undo)
            peer = ("type", "veth", "peer", "name", port, "netns", switch)
            _ip("-n", host.namespace, "link", "add", "eth0", *peer)
            _plug(switch, port)
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
            # By where it would send to others a program finds its own address.
            _ip("-n", host.namespace, "route", "add", "default", "dev", "eth0")
            made.append(host)
        yield made


def _namespace(name: str, undo: contextlib.ExitStack) -> None:
    _ip("netns", "add", name)
    undo.callback(_ip, "netns", "del", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _plug(switch: str, port: str) -> None:
    _ip("-n", switch, "link", "set", port, "master", "bridge")
    _ip("-n", switch, "link", "set", port, "up")


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, capture_output=True, text=True)
