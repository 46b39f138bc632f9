"""What a client has seen of a session: snapshots, messages, callbacks, waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from sana_gateway.errors import GatewayError
from sana_gateway.v1 import message_pb2, session_pb2

MESSAGES = 1024
"""Messages kept for a `messages()` iterator that is not read; older ones are dropped."""


class Messages:
    """The messages of a session from now on: an asynchronous iterator.

    Ends when the session does; raises what broke the connection for good.
    """

    def __init__(self, feeds: set[Messages]) -> None:
        self.dropped = 0
        """Messages lost because nobody read; `Session.state` is current all the same."""
        self._kept: deque[message_pb2.Message] = deque()
        self._more = asyncio.Event()
        self._ended = False
        self._error: GatewayError | None = None
        self._feeds = feeds
        feeds.add(self)

    def close(self) -> None:
        """Stops listening; what is kept can still be read."""
        self.end(None)

    def put(self, message: message_pb2.Message) -> None:
        """Keeps a message for the reader."""
        if len(self._kept) >= MESSAGES:
            self._kept.popleft()
            self.dropped += 1
        self._kept.append(message)
        self._more.set()

    def end(self, error: GatewayError | None) -> None:
        """Lets the reader come to its end."""
        self._feeds.discard(self)
        self._ended, self._error = True, error
        self._more.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> message_pb2.Message:
        while not self._kept:
            if self._ended and self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        return self._kept.popleft()


class Observed:
    """Takes in what the attachment reports, and tells whoever wants to know."""

    def __init__(self) -> None:
        self.state: message_pb2.State | None = None
        """Latest snapshot."""
        self.queue_position = 0
        """Place in the queue, or 0."""
        self.gaps = 0
        """Reconnects after which messages were missing."""
        self.end_reason: str | None = None
        """Why nothing more comes, for people; None until then."""
        self._end: GatewayError | None = None
        self._callbacks: dict[str, list[Callable[[Any], None]]] = {}
        self._feeds: set[Messages] = set()
        self._waiters: set[asyncio.Future[None]] = set()

    def on(self, kind: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Registers a callback; returns what removes it."""
        callbacks = self._callbacks.setdefault(kind, [])
        callbacks.append(callback)

        def remove() -> None:
            with suppress(ValueError):
                callbacks.remove(callback)

        return remove

    def messages(self) -> Messages:
        """Returns the messages from now on."""
        feed = Messages(self._feeds)
        if self.end_reason is not None:
            feed.end(None)
        return feed

    async def wait_for(self, condition: Callable[[message_pb2.State], object]) -> message_pb2.State:
        """Waits for a snapshot that satisfies a condition.

        Raises:
            GatewayError: The session ended first, or cannot be reached.
        """
        while self.state is None or not condition(self.state):
            if self._end is not None:
                raise self._end
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        return self.state

    def queued(self, update: session_pb2.QueueUpdate) -> None:
        """The session moved in the queue."""
        self.queue_position = update.position
        self._tell("queue", update)

    def attached(self, attached: session_pb2.Attached) -> None:
        """The stream is up."""
        self.queue_position = 0
        self.gaps += attached.gap

    def message(self, message: message_pb2.Message) -> None:
        """A message not seen before."""
        payload = message.WhichOneof("payload")
        if payload is None:
            return
        if payload == "state":
            self.state = message.state
            self._wake()
        for feed in tuple(self._feeds):
            feed.put(message)
        self._tell(payload, getattr(message, payload))
        self._tell("message", message)

    def finished(self, reason: str, end: GatewayError, *, failed: bool) -> None:
        """Nothing follows."""
        self.end_reason, self._end = reason, end
        self._wake()
        for feed in tuple(self._feeds):
            feed.end(end if failed else None)
        self._tell("ended", reason)

    def _tell(self, kind: str, value: object) -> None:
        for callback in tuple(self._callbacks.get(kind, ())):
            try:
                callback(value)
            except Exception as error:
                # The caller's code; its fault must not end the stream.
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"a callback for {kind!r} failed", "exception": error}
                )

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
