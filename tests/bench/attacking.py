"""Attacks the public ports of a service until it is ended, and says once a second how it goes.

    python -m tests.bench.attacking HTTP_HOST:PORT GRPC_HOST:PORT --open 2000 --rate 1000

`--open` connections are half open: each has sent the beginning of something (`attack_words`) and
says nothing more. Those that the service closes are opened again, `--opened` a second of all at
most: what is attacked is what is held, and not how fast connections come. Beside them `--rate`
requests a second come, most over connections of their own, the others over a few that stay. They
come from many addresses, 127.0.1.1 to 127.0.1.250: else the limit of one address would answer most
of them.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import os
import select
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.bench import attack_words as words

Address = tuple[str, int]

MIX: Final = (("http", False),) * 6 + (("http", True),) * 2 + (("grpc", False), ("grpc", True))
"""Of ten requests: the port, and whether it goes over a connection that stays."""
KEPT: Final = {"http": 50, "grpc": 20}
"""How many connections stay."""
AT_ONCE: Final = 400
"""Requests under way at once; more would be this generator's own queue."""
PATIENCE_S: Final = 10.0
TICK_S: Final = 0.005
SOURCES: Final = tuple(f"127.0.1.{number}" for number in range(1, 251))
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass
class Tally:
    """What came of it."""

    held: int = 0
    """Half-open connections now."""
    opened: int = 0
    """Of them, all that were ever open."""
    closed: int = 0
    """Of those, what the service closed."""
    sent: int = 0
    answered: int = 0
    cut: int = 0
    """Requests whose connection was closed without an answer."""
    refused: int = 0
    """Connections that were not taken."""
    forgotten: int = 0
    """Requests without an answer in `PATIENCE_S`."""
    answers: Counter[str] = field(default_factory=Counter)
    """Answers by status; of gRPC by port alone."""


class Wire:
    """One connection: opened, spoken to, listened to."""

    def __init__(self, attack: Attack, port: str, first: bytes) -> None:
        """Connects.

        Args:
            attack: What it is part of.
            port: `http` or `grpc`.
            first: What is said at once.
        """
        self.port = port
        self.is_over = False
        self._attack = attack
        self._first = first
        self._is_open = False
        self._socket = socket.socket()
        self._socket.settimeout(0.0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        # The port is drawn when it connects: else 28,000 connections are all there are.
        self._socket.setsockopt(socket.IPPROTO_IP, 24, 1)
        self._socket.bind((next(attack.sources), 0))
        self._fd = self._socket.fileno()
        attack.wires[self._fd] = self
        attack.epoll.register(self._fd, select.EPOLLOUT)
        if self._socket.connect_ex(attack.addresses[port]) not in (0, errno.EINPROGRESS):
            self.lost(was_open=False)

    def ready(self) -> None:
        """Goes on where it can."""
        try:
            if not self._is_open:
                if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self.lost(was_open=False)
                    return
                self._is_open = True
                self._attack.epoll.modify(self._fd, select.EPOLLIN)
                if self._first:
                    self._socket.send(self._first)
                self.stands()
            elif data := self._socket.recv(65_536):
                self.heard(data)
            else:
                self.lost(was_open=True)
        except BlockingIOError:
            return
        except OSError:
            self.lost(was_open=self._is_open)

    def say(self, data: bytes) -> None:
        """Sends more."""
        try:
            self._socket.send(data)
        except OSError:
            self.lost(was_open=True)

    def end(self) -> None:
        """Closes it, with a reset."""
        if not self.is_over:
            self.is_over = True
            del self._attack.wires[self._fd]
            self._socket.close()

    def stands(self) -> None:
        """It is open."""

    def heard(self, data: bytes) -> None:
        """Something came."""

    def lost(self, *, was_open: bool) -> None:
        """The service has closed it, or not taken it."""
        self._attack.tally.refused += not was_open
        self.end()


class Held(Wire):
    """A half-open connection."""

    def stands(self) -> None:
        self._attack.tally.held += 1
        self._attack.tally.opened += 1

    def lost(self, *, was_open: bool) -> None:
        tally = self._attack.tally
        tally.held -= was_open
        tally.closed += was_open
        super().lost(was_open=was_open)
        self._attack.closed.append(self.port)


class Asking(Wire):
    """A connection for requests, one at a time."""

    def __init__(self, attack: Attack, port: str, *, stays: bool) -> None:
        self.stays = stays
        self.asked_at = time.monotonic()
        """When the request under way was sent; 0 while there is none."""
        self._stream = 1
        self._received = bytearray()
        attack.under_way += 1
        super().__init__(attack, port, self._words(attack, port, words.HELLO))

    def ask(self) -> None:
        """Sends one more."""
        self.asked_at = time.monotonic()
        self._attack.under_way += 1
        self.say(self._words(self._attack, self.port))

    def _words(self, attack: Attack, port: str, hello: bytes = b"") -> bytes:
        attack.tally.sent += 1
        number = next(attack.numbers[port])
        if port == "http":
            return words.request(number, last=not self.stays)
        said = words.call(number, self._stream)
        self._stream += 2
        return hello + said

    def heard(self, data: bytes) -> None:
        if self.port == "http":
            # What does not begin so is the rest of an answer.
            if data.startswith(b"HTTP/"):
                self._answered(data[9:12].decode("latin-1"))
            return
        self._received += data
        for kind, flags, payload in words.frames(self._received):
            if kind == words.SETTINGS and not flags & words.ACK:
                self.say(words.frame(words.SETTINGS, words.ACK, 0))
            elif kind == words.PING and not flags & words.ACK:
                self.say(words.frame(words.PING, words.ACK, 0, payload))
            elif kind == words.HEADERS and flags & words.END_STREAM:
                self._answered("grpc")

    def _answered(self, status: str) -> None:
        if not self.asked_at:
            return
        tally = self._attack.tally
        tally.answered += 1
        tally.answers[status] += 1
        self._done()
        if not self.stays:
            self.end()

    def _done(self) -> None:
        if self.asked_at:
            self.asked_at = 0.0
            self._attack.under_way -= 1

    def lost(self, *, was_open: bool) -> None:
        self._attack.tally.cut += was_open and bool(self.asked_at)
        self._done()
        super().lost(was_open=was_open)

    def give_up(self) -> None:
        """Waits no longer."""
        self._attack.tally.forgotten += 1
        self._done()
        self.end()


class Attack:
    """All of it, in one loop."""

    def __init__(
        self, http: Address, grpc: Address, *, half_open: int, opened: float, rate: float
    ) -> None:
        """Prepares it.

        Args:
            http: Where HTTP listens.
            grpc: Where gRPC listens.
            half_open: Connections that stay half open.
            opened: How many of them are opened in a second at most.
            rate: Requests in a second.
        """
        self.addresses: dict[str, Address] = {"http": http, "grpc": grpc}
        self.tally = Tally()
        self.epoll = select.epoll()
        self.wires: dict[int, Wire] = {}
        self.sources = itertools.cycle(SOURCES)
        self.numbers = {port: itertools.count() for port in self.addresses}
        self.closed: deque[str] = deque(
            port for _, port in zip(range(half_open), itertools.cycle(("http", "http", "grpc")))
        )
        """Ports of the half-open connections that are to be opened."""
        self.under_way = 0
        self._rate, self._opened = rate, opened
        self._beginnings = {port: itertools.cycle(each) for port, each in words.BEGINNINGS.items()}
        self._mix = itertools.cycle(MIX)
        self._kept: dict[str, deque[Asking]] = {port: deque() for port in KEPT}

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Attacks until something holds, by default for ever."""
        began = said = time.monotonic()
        opening = self._due(self._opened, self._open_one)
        asking = self._due(self._rate, self._ask_one)
        while not until():
            for fd, _ in self.epoll.poll(TICK_S):
                if fd in self.wires:
                    self.wires[fd].ready()
            now = time.monotonic()
            opening(now - began)
            asking(now - began)
            if now - said >= 1.0:
                said = now
                self._give_up(now - PATIENCE_S)
                sys.stdout.write(json.dumps({"at": now, **vars(self.tally)}) + "\n")
                sys.stdout.flush()

    def _due(self, rate: float, do_one: Callable[[], bool]) -> Callable[[float], None]:
        """Returns what does so many a second; what it could not do in time is not made up for."""
        done = 0.0

        def due(elapsed_s: float) -> None:
            nonlocal done
            while done < elapsed_s * rate:
                done += 1
                if not do_one():
                    done = elapsed_s * rate

        return due

    def _open_one(self) -> bool:
        if not self.closed:
            return False
        port = self.closed.popleft()
        Held(self, port, next(self._beginnings[port]))
        return True

    def _ask_one(self) -> bool:
        if self.under_way >= AT_ONCE:
            return False
        port, stays = next(self._mix)
        kept = self._kept[port]
        if not stays or len(kept) < KEPT[port]:
            wire = Asking(self, port, stays=stays)
            if stays:
                kept.append(wire)
            return True
        wire = kept.popleft()
        if wire.is_over:
            wire = Asking(self, port, stays=True)
        elif not wire.asked_at:
            wire.ask()
        kept.append(wire)
        return True

    def _give_up(self, before: float) -> None:
        for wire in list(self.wires.values()):
            if isinstance(wire, Asking) and 0 < wire.asked_at < before:
                wire.give_up()


def address(text: str) -> Address:
    """Reads `host:port`, with or without a scheme."""
    host, _, port = text.rpartition("/")[2].rpartition(":")
    return host, int(port)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("http", type=address)
    parser.add_argument("grpc", type=address)
    parser.add_argument("--open", type=int, default=2000)
    parser.add_argument("--opened", type=float, default=200.0, help="of them, a second at most")
    parser.add_argument("--rate", type=float, default=1000.0)
    told = parser.parse_args()
    # The viewers on this core measure: they go first.
    os.nice(10)
    amounts = {"half_open": told.open, "opened": told.opened, "rate": told.rate}
    Attack(told.http, told.grpc, **amounts).run()


if __name__ == "__main__":
    main()
