"""The stream of commands and messages of one session, kept through lost connections."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from sana_gateway.errors import (
    CallError,
    CommandRejected,
    GatewayError,
    SessionClosedError,
    UnavailableError,
    from_rpc_error,
)
from sana_gateway.retry import RetryPolicy
from sana_gateway.tracing import Metadata
from sana_gateway.v1 import command_pb2, message_pb2, session_pb2, session_pb2_grpc

UNANSWERED = 256
"""Commands of a connection that may wait for their ack; the service takes no more."""


class Listener(Protocol):
    """Who is told what happens."""

    def queued(self, update: session_pb2.QueueUpdate) -> None:
        """The session moved in the queue."""

    def attached(self, attached: session_pb2.Attached) -> None:
        """The stream is up, for the first time or again."""

    def message(self, message: message_pb2.Message) -> None:
        """A message not seen before."""

    def finished(self, reason: str, end: GatewayError, *, failed: bool) -> None:
        """Nothing follows: the session ended, or (`failed`) the stream could not be kept."""


@dataclass(eq=False)
class _Pending:
    """A command without its answer."""

    command: command_pb2.Command
    answer: asyncio.Future[None]
    refused: bool = False
    error: message_pb2.CommandError | None = None

    def settle(self) -> None:
        """Answers once both the refusal and its reason are there, in whichever order."""
        if self.refused and self.error is not None and not self.answer.done():
            self.answer.set_exception(CommandRejected(self.error))


@dataclass(eq=False)
class Attachment:
    """Attaches, and attaches again after the last revision seen.

    Commands that are unanswered when a connection is lost are sent again with their
    ids; the service handles each id once.
    """

    stub: session_pb2_grpc.SessionServiceAsyncStub
    session_id: str
    listener: Listener
    policy: RetryPolicy
    metadata: Callable[[], Metadata]
    revision: int | None = None
    """Highest revision seen."""
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _unsent: deque[command_pb2.Command] = field(default_factory=deque)
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _is_attached: bool = False
    _expects_state: bool = False
    _end: GatewayError | None = None
    _task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(UNANSWERED)

    def start(self) -> None:
        """Begins to attach."""
        self._task = asyncio.create_task(self._run(), name="sana-gateway attachment")

    async def stop(self, *, linger: float = 0.0) -> None:
        """Detaches. Unanswered commands fail.

        Args:
            linger: Seconds to wait for the service's own last word first.
        """
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=linger)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._finish("detached", None)

    async def command(self, command: command_pb2.Command) -> None:
        """Sends a command and waits for its answer.

        Raises:
            CommandRejected: The session refused it.
            SessionClosedError: The session has ended.
            CallError: The stream could not be kept.
        """
        async with self._slots:
            if self._end is not None:
                raise self._end
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._pending[command.command_id] = _Pending(command, answer)
            self._unsent.append(command)
            self._more.set()
            try:
                await answer
            finally:
                self._pending.pop(command.command_id, None)
                with suppress(ValueError):
                    self._unsent.remove(command)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.policy.window
        attempt = 0
        while True:
            error: CallError
            try:
                reason = await self._attach_once()
            except grpc.aio.AioRpcError as rpc_error:
                error = from_rpc_error(rpc_error)
            else:
                if reason is not None:
                    return self._finish(reason, None)
                error = UnavailableError("the stream broke off", grpc.StatusCode.UNAVAILABLE)
            if self._is_attached:
                self._is_attached = False
                deadline, attempt = loop.time() + self.policy.window, 0
            attempt += 1
            pause = self.policy.wait(attempt, error.retry_after)
            if not error.passing or loop.time() + pause > deadline:
                return self._finish(str(error), error)
            await asyncio.sleep(pause)

    async def _attach_once(self) -> str | None:
        """Runs one stream; returns why the session ended, or None when the stream just stopped."""
        call: Any = self.stub.Attach(metadata=self.metadata())  # type: ignore[call-arg]
        writer = asyncio.create_task(self._write(call))
        try:
            responses: AsyncIterator[session_pb2.AttachResponse] = aiter(call)
            async for response in responses:
                if response.WhichOneof("response") == "ended":
                    return response.ended.reason
                self._handle(response)
            return None
        finally:
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
            call.cancel()

    async def _write(self, call: Any) -> None:  # noqa: ANN401 - the stubs know no call type
        start = session_pb2.AttachStart(session_id=self.session_id)
        if self.revision is not None:
            start.resume_after_revision = self.revision
        # A stream that has failed says so to its reader.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(session_pb2.AttachRequest(start=start))
            while True:
                while self._is_attached and self._unsent:
                    command = self._unsent.popleft()
                    await call.write(session_pb2.AttachRequest(command=command))
                self._more.clear()
                await self._more.wait()

    def _handle(self, response: session_pb2.AttachResponse) -> None:
        match response.WhichOneof("response"):
            case "attached":
                self._attached(response.attached)
            case "ack":
                self._acked(response.ack)
            case "message":
                self._message(response.message)
            case "queue":
                self.listener.queued(response.queue)

    def _attached(self, attached: session_pb2.Attached) -> None:
        self._is_attached = self._expects_state = True
        self._unsent = deque()
        for pending in self._pending.values():
            pending.refused, pending.error = False, None
            self._unsent.append(pending.command)
        self.listener.attached(attached)
        self._more.set()

    def _acked(self, ack: session_pb2.CommandAck) -> None:
        pending = self._pending.get(ack.command_id)
        if pending is None:
            return
        if ack.accepted:
            if not pending.answer.done():
                pending.answer.set_result(None)
        else:
            pending.refused = True
            pending.settle()

    def _message(self, message: message_pb2.Message) -> None:
        payload = message.WhichOneof("payload")
        if payload == "command_error":
            self.listener.message(message)
            pending = self._pending.get(message.command_id)
            if pending is not None:
                pending.error = message.command_error
                pending.settle()
            return
        snapshot = self._expects_state and payload == "state"
        if snapshot or self.revision is None or message.revision > self.revision:
            self._expects_state = False
            self.revision = max(message.revision, self.revision or 0)
            self.listener.message(message)

    def _finish(self, reason: str, error: GatewayError | None) -> None:
        if self._end is not None:
            return
        self._end = error or SessionClosedError(
            f"no longer attached: {reason}", grpc.StatusCode.FAILED_PRECONDITION
        )
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(self._end)
        self.listener.finished(reason, self._end, failed=error is not None)
