"""A network between two interfaces, with loss, delay and a rate: `python link.py --help`.

Carries Ethernet frames from one interface to the other and back. Kernels without netem have
no other way to lose or delay packets; this one needs only raw sockets. Settings can be
changed while it runs: one JSON object a line on standard input, whose end ends it.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass, replace
from typing import Any, Final

ETH_P_ALL: Final = 0x0003
ARP: Final = 0x0806
FRAME_BYTES: Final = 65_600
SIOCETHTOOL: Final = 0x8946
OFFLOADS: Final = (0x17, 0x19, 0x1F, 0x24, 0x2C)
"""ethtool's commands that set checksumming, scatter-gather, TSO, GSO and GRO (linux/ethtool.h).

With them on, what one namespace sends another has no checksum yet, or is 64 kB long."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the link does to what it carries, each way."""

    loss: float = 0.0
    """Share of packets lost, 0 to 1."""
    delay_ms: float = 0.0
    """Added to each packet, each way."""
    jitter_ms: float = 0.0
    """Most that is added to the delay on top, at random; packets keep their order."""
    kbps: float = 0.0
    """Rate in kilobits a second, each way; 0: no limit."""
    queue_ms: float = 300.0
    """Packets that would wait longer for the rate are lost."""


class Direction:
    """One way through the link."""

    def __init__(self, source: socket.socket, target: socket.socket, seed: int) -> None:
        self.source = source
        self._target = target
        self._random = random.Random(seed)
        self._waiting: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._free_at = 0.0
        self._last = 0.0

    def take(self, settings: Settings, now: float) -> None:
        """Takes what has come, and loses or keeps each packet."""
        while True:
            try:
                frame, address = self.source.recvfrom(FRAME_BYTES)
            except BlockingIOError:
                return
            if address[2] == socket.PACKET_OUTGOING:
                continue
            if int.from_bytes(frame[12:14], "big") == ARP:
                self._keep(now, frame)
            elif self._random.random() >= settings.loss:
                self._shape(settings, now, frame)

    def _shape(self, settings: Settings, now: float, frame: bytes) -> None:
        left = now
        if settings.kbps:
            left = max(now, self._free_at)
            if left - now > settings.queue_ms / 1e3:
                return
            left += len(frame) * 8e-3 / settings.kbps
            self._free_at = left
        delay_ms = settings.delay_ms + self._random.random() * settings.jitter_ms
        self._keep(max(self._last, left + delay_ms / 1e3), frame)

    def _keep(self, at: float, frame: bytes) -> None:
        self._last = at
        self._count += 1
        heapq.heappush(self._waiting, (at, self._count, frame))

    def send(self, now: float) -> float:
        """Sends what is due; returns when the next is."""
        while self._waiting and self._waiting[0][0] <= now:
            self._target.send(heapq.heappop(self._waiting)[2])
        return self._waiting[0][0] if self._waiting else now + 1.0


def carry(first: str, second: str, settings: Settings) -> None:
    """Carries until standard input ends."""
    sockets = [_raw(name) for name in (first, second)]
    ways = [Direction(sockets[0], sockets[1], 1), Direction(sockets[1], sockets[0], 2)]
    print("carrying", flush=True)
    # Unbuffered: select sees nothing of a line that waits in a buffer.
    commands = os.fdopen(sys.stdin.fileno(), "rb", buffering=0)
    while True:
        now = time.monotonic()
        until = min(way.send(now) for way in ways)
        sources: list[Any] = [*sockets, commands]
        readable, _, _ = select.select(sources, [], [], max(0.0, until - time.monotonic()))
        if commands in readable:
            line = commands.readline()
            if not line:
                return
            settings = replace(Settings(), **json.loads(line))
            print("changed", flush=True)
        now = time.monotonic()
        for way in ways:
            if way.source in readable:
                way.take(settings, now)


def _raw(interface: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    raw.bind((interface, 0))
    raw.settimeout(0)
    return raw


def plain(interface: str) -> None:
    """Makes an interface checksum and cut its packets itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP8x", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(any_socket, SIOCETHTOOL, request)


def main() -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    link = commands.add_parser("carry", help="carry between two interfaces")
    link.add_argument("interfaces", nargs=2)
    link.add_argument("--settings", default="{}", help="JSON: loss, delay_ms, jitter_ms, kbps")
    bare = commands.add_parser("plain", help="turn the offloads of an interface off")
    bare.add_argument("interface")
    options = parser.parse_args()
    if options.command == "plain":
        plain(options.interface)
    else:
        carry(
            options.interfaces[0], options.interfaces[1], Settings(**json.loads(options.settings))
        )


if __name__ == "__main__":
    main()
