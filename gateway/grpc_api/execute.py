"""Execute: one command and its answer, for callers without streams."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from gateway import ports
from gateway.grpc_api.commands import checked
from gateway.grpc_api.errors import UnansweredError
from sana_gateway.v1 import command_pb2, message_pb2, session_pb2
from scheduler import wire
from scheduler.core.errors import (
    CommandRefusedError,
    NotReadyError,
    RequestError,
    SessionClosedError,
)
from scheduler.process.telemetry import inject

ANSWER_S: Final = 30.0
"""Longest wait for the answer of a call without a deadline."""
JOIN_S: Final = 5.0
"""Longest wait for a session that is not queued: it has its place and is being joined."""

_CODES: Final = {number: code for code, number in wire.REASONS.items()}
_PHASES: Final = {number: phase for phase, number in wire.PHASES.items()}


class ExecuteSink:
    """What a session says to the connection of one call.

    It keeps the last snapshot and the messages that bear the command's id: a few, by
    the rules of the session, which sends no others before the ack.
    """

    def __init__(self, command_id: str, wire_name: str = "grpc") -> None:
        """Listens for the answers to one command.

        Args:
            command_id: Its id.
            wire_name: What it came over, for who measures commands.
        """
        self.wire_name = wire_name
        self.messages: list[message_pb2.Message] = []
        """What the command was answered with until its ack, in order."""
        self.state = message_pb2.State()
        """Last snapshot; present once the session is ready."""
        self._command_id = command_id
        self._placed = asyncio.Event()
        self._acked = asyncio.Event()
        self._refusal: CommandRefusedError | None = None
        self._fault: RequestError | None = None

    async def placed(self) -> None:
        """Returns once the session is ready.

        Raises:
            NotReadyError: It waits in the queue.
            SessionClosedError: It has ended.
        """
        await self._placed.wait()
        if self._fault is not None:
            raise self._fault

    async def acked(self) -> None:
        """Returns once the command is accepted.

        Raises:
            CommandRefusedError: It is not.
            SessionClosedError: The session ended first.
        """
        await self._acked.wait()
        if self._fault is not None:
            raise self._fault

    def queued(self, position: int, estimated_wait_s: float) -> None:
        """The session waits in the queue, and this call does not."""
        if not self._placed.is_set():
            text = f"the session waits for its place, at position {position} of the queue"
            self._fail(NotReadyError(text, retry_after_s=estimated_wait_s or None))

    def ready(self) -> None:
        """The session has its place."""
        self._placed.set()

    def message(self, message: message_pb2.Message) -> None:
        """A message of the session."""
        if self._acked.is_set():
            return
        if message.HasField("state"):
            self.state = message.state
        if message.command_id != self._command_id:
            return
        if message.HasField("command_error"):
            self._refusal = refusal(message.command_error)
        else:
            self.messages.append(message)

    def ack(self, command_id: str, accepted: bool) -> None:
        """A command was handled."""
        if command_id != self._command_id:
            return
        if self._refusal is not None:
            self._fail(self._refusal)
        elif not accepted:
            text = "the command was refused when it was sent first; a new command_id tells why"
            self._fail(CommandRefusedError(text))
        self._acked.set()

    def camera_keyframe(self) -> None:
        """Nothing is published here."""

    def ended(self, reason: str) -> None:
        """The session has ended."""
        self._fail(SessionClosedError(f"the session has ended: {reason}"))

    def _fail(self, error: RequestError) -> None:
        """Decides the call, unless it is decided."""
        if self._fault is None and not self._acked.is_set():
            self._fault = error
            self._placed.set()
            self._acked.set()


async def execute(
    session: ports.HubSession,
    command: command_pb2.Command,
    *,
    limit_s: float | None,
    wire_name: str = "grpc",
) -> session_pb2.ExecuteResponse:
    """Sends a command over a connection of its own, and waits for its ack.

    Args:
        session: Whom to send it to.
        command: Without a `command_id` it gets one here.
        limit_s: Longest wait; None leaves that to the caller's deadline.
        wire_name: What it came over, for who measures commands.

    Raises:
        CommandRefusedError: The session refused it.
        NotReadyError: The session waits for its place.
        SessionClosedError: The session has ended.
        LimitError: The session has too many connections.
        UnansweredError: `limit_s` is over. The command may have been handled.
    """
    wanted = command_pb2.Command()
    wanted.CopyFrom(command)
    wanted.command_id = command.command_id or secrets.token_hex(16)
    content = checked(wanted)
    sink = ExecuteSink(content.command_id, wire_name)
    connection, _ = session.connect(sink)
    try:
        async with asyncio.timeout(limit_s):
            await _placed(sink)
            connection.command(content, wanted.traceparent or inject())
            await sink.acked()
    except TimeoutError:
        text = "the command was not answered in time; repeat it under its command_id"
        raise UnansweredError(text) from None
    finally:
        connection.close()
    return session_pb2.ExecuteResponse(messages=sink.messages, state=sink.state)


def refusal(error: message_pb2.CommandError) -> CommandRefusedError:
    """Returns a `command_error` as the error of a call."""
    return CommandRefusedError(
        error.reason,
        command=error.command,
        code=_CODES.get(error.code),
        phase=_PHASES.get(error.phase),
        allowed_phases=tuple(_PHASES[each] for each in error.allowed_phases if each in _PHASES),
        retry_after_s=error.retry_after_s or None,
    )


async def _placed(sink: ExecuteSink) -> None:
    try:
        async with asyncio.timeout(JOIN_S):
            await sink.placed()
    except TimeoutError:
        raise NotReadyError("the session is being placed; try again", retry_after_s=1.0) from None
