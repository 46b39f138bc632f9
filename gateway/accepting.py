"""Takes connections one after the other, so that what an event loop plays is not held up.

asyncio takes all that wait at once: a hundred of them are some 40 ms in which the loop does nothing
else. Here they wait in the kernel's queue for their turn, and those that are too many are closed,
with a reset, before anything is made for them. While they come faster than they are taken, a loop
that is late takes nobody until it had as much time again.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from prometheus_client import Counter

from gateway.limits.buckets import Rate
from gateway.limits.connections import Connections

BACKLOG: Final = 512
"""Connections that wait to be taken; of more the kernel has some try again in a second."""
HANDSHAKE_S: Final = 5.0
"""How long a connection may take to agree on keys."""
REFUSED_AT_ONCE: Final = 16
"""Connections that are closed in a row before others of the loop have their turn."""
LATE_S: Final = 0.002
"""Lateness of a loop that counts."""
LONGEST_REST_S: Final = 0.05
"""How long nobody is taken because of it, at most."""
EXHAUSTED_S: Final = 1.0
"""How long nobody is taken when descriptors or memory have run out."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RESET: Final = struct.pack("ii", 1, 0)
_REFUSED: Final = Counter(
    "sana_gateway_refused_connections",
    "HTTP connections closed unheard: too many of `all`, of one `address`, or too fast (`rate`).",
    ("cause",),
)
_log = structlog.get_logger(__name__)


class Opened:
    """A connection that was taken; see `gateway.limits.connections.Connection`."""

    def __init__(self) -> None:
        """It is being opened."""
        self.transport: asyncio.BaseTransport | None = None
        self.failed = False

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.failed if self.transport is None else self.transport.is_closing()


class Acceptor:
    """Listens. To aiohttp it is what `asyncio.Server` would be.

    Args:
        sockets: Bound ones; they are closed with it.
        protocols: Makes what speaks on a connection.
        connections: Decides which are taken.
        rate: How many a second.
        context: What is shown in a handshake; None: in the clear.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        protocols: Callable[[], asyncio.BaseProtocol],
        connections: Connections,
        rate: Rate,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.sockets = tuple(sockets)
        """Where it listens."""
        self._protocols = protocols
        self._connections = connections
        self._step_s = 1 / rate.per_second
        self._ahead_s = (rate.burst - 1) * self._step_s
        self._next_at = 0.0
        """When the next one has its turn."""
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._resting: asyncio.TimerHandle | None = None
        for each in self.sockets:
            each.setblocking(False)  # noqa: FBT003 - the standard library's
            each.listen(BACKLOG)
        self._listen()

    def close(self) -> None:
        """Listens no more; connections that stand go on. Repeating it is no error."""
        if self._resting is not None:
            self._resting.cancel()
        for each in self.sockets:
            if each.fileno() >= 0:
                self._loop.remove_reader(each)
                each.close()
        for task in self._opening:
            task.cancel()

    def _listen(self) -> None:
        self._resting = None
        for each in self.sockets:
            self._loop.add_reader(each, self._take, each)

    def _rest(self, rest_s: float) -> None:
        """Takes nobody for a while, and as long again as the end of that was late."""
        for each in self.sockets:
            self._loop.remove_reader(each)
        due = self._loop.time() + rest_s

        def rested() -> None:
            late_s = self._loop.time() - due
            if late_s > LATE_S:
                rest_s = min(late_s, LONGEST_REST_S)
                self._resting = self._loop.call_later(rest_s, self._listen)
            else:
                self._listen()

        self._resting = self._loop.call_at(due, rested)

    def _take(self, listening: socket.socket) -> None:
        """Takes one of those that wait, if it has its turn."""
        now = self._loop.time()
        if now < self._next_at - self._ahead_s:
            self._rest(self._next_at - self._ahead_s - now)
            return
        for _ in range(REFUSED_AT_ONCE):
            try:
                accepted, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                _log.warning("http.nobody_taken", reason=errno.errorcode[error.errno])
                self._rest(EXHAUSTED_S)
                return
            why = self._connections.refusal(peer[0], now)
            if why is None:
                self._next_at = max(self._next_at, now) + self._step_s
                self._open(accepted, peer[0])
                return
            _REFUSED.labels(why).inc()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            accepted.close()

    def _open(self, accepted: socket.socket, peer: str) -> None:
        accepted.setblocking(False)  # noqa: FBT003 - the standard library's
        opened = Opened()
        self._connections.took(peer, opened)
        task = self._loop.create_task(self._opened(accepted, opened))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _opened(self, accepted: socket.socket, opened: Opened) -> None:
        try:
            opened.transport, _ = await self._loop.connect_accepted_socket(
                self._protocols,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=None if self._context is None else HANDSHAKE_S,
            )
        except OSError:
            # It has left, or did not agree on keys.
            opened.failed = True
        except BaseException:
            opened.failed = True
            raise


async def bound(host: str | None, port: int) -> list[socket.socket]:
    """Returns sockets bound to all addresses of a host.

    Args:
        host: Its name; None: all addresses of this machine.
        port: Where; 0: a free one of each address.

    Raises:
        OSError: One cannot be had.
    """
    # The standard library knows which kinds of addresses there are, and what each wants.
    server = await asyncio.get_running_loop().create_server(
        asyncio.Protocol, host, port, start_serving=False
    )
    try:
        return [each.dup() for each in server.sockets]
    finally:
        server.close()
