"""One decode worker as its owner sees it: a process and the sockets to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from model_actor.media.errors import WorkerLostError
from model_actor.media.fork_server import WorkerProcess
from model_actor.media.limits import DecodeLimits
from model_actor.media.wire import Kind, Messages, message


class Lender(Protocol):
    """Who owns the workers, as a clip or camera sees it."""

    limits: DecodeLimits
    crashes: int
    """Workers that ended while in use."""

    async def lease(self) -> WorkerLink:
        """Hands out a ready worker.

        Raises:
            LimitError: All are in use.
            WorkerLostError: It did not start.
        """

    def discard(self, link: WorkerLink) -> None:
        """Kills a worker and has it reaped. Repeating it is no error."""

    def forget(self, decoder: object) -> None:
        """Notes that a decoder is closed."""


class WorkerLink(asyncio.Protocol):
    """One worker process and the sockets to it."""

    def __init__(self, process: WorkerProcess, descriptors: socket.socket) -> None:
        """Takes over a process that was just started."""
        self._process = process
        self._descriptors = descriptors
        self._messages = Messages()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done when the worker has loaded its libraries; fails when it ends before."""
        self.on_message: Callable[[Kind, bytes], None] = lambda _kind, _payload: None
        self.on_lost: Callable[[], None] = lambda: None
        self.lost = False

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        # By duck: the transports of uvloop, which Ray installs, derive from nothing of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        try:
            for kind, payload in self._messages.feed(data):
                if kind is Kind.READY:
                    if not self.ready.done():
                        self.ready.set_result(None)
                else:
                    self.on_message(kind, payload)
        except WorkerLostError:
            self.kill()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio.Protocol)
        """Part of asyncio.Protocol."""
        self._lose()

    def send(self, kind: Kind, payload: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Sends a message; to a lost worker it goes nowhere. Never blocks.

        Args:
            kind: Kind of the message.
            payload: The message.
            descriptors: Descriptors that it comes with; the worker gets copies.
        """
        if self.lost or self._transport is None:
            return
        try:
            if descriptors:
                socket.send_fds(self._descriptors, [b"\0"], descriptors)
            self._transport.write(message(kind, payload))
        except OSError:
            self.kill()

    def kill(self) -> None:
        """Ends the worker at once. Repeating it is no error."""
        self._process.kill()
        if self._transport is not None:
            self._transport.abort()
        self._lose()

    def reap(self) -> None:
        """Waits for the killed process. Blocks: for a thread."""
        self._process.wait()

    def _lose(self) -> None:
        if self.lost:
            return
        self.lost = True
        self._process.kill()
        self._descriptors.close()
        if not self.ready.done():
            self.ready.set_exception(WorkerLostError("a decode worker did not start"))
            self.ready.exception()
        self.on_lost()
