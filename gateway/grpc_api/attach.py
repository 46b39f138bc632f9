"""Attach: commands in, messages and snapshots out."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf import duration_pb2

from gateway import ports
from gateway.grpc_api.commands import checked
from gateway.grpc_api.queues import Outbox
from sana_gateway.v1 import message_pb2, session_pb2
from scheduler.core.errors import BadArgumentError


class AttachSink:
    """Turns what a session says to one connection into responses."""

    wire_name = "grpc"

    def __init__(self) -> None:
        self.outbox: Outbox[session_pb2.AttachResponse] = Outbox()
        self.attached = session_pb2.Attached()
        """Filled in once the connection has its number; sent when the session is ready."""
        self._is_ready = False

    def queued(self, position: int, estimated_wait_s: float) -> None:
        """The session waits; its place changed."""
        update = session_pb2.QueueUpdate(position=position)
        if estimated_wait_s > 0:
            update.estimated_wait.CopyFrom(_duration(estimated_wait_s))
        self.outbox.put(session_pb2.AttachResponse(queue=update))

    def ready(self) -> None:
        """The session is placed. A client is told once."""
        if not self._is_ready:
            self._is_ready = True
            self.outbox.put(session_pb2.AttachResponse())

    def message(self, message: message_pb2.Message) -> None:
        """A message of the session."""
        self.outbox.put(session_pb2.AttachResponse(message=message))

    def ack(self, command_id: str, accepted: bool) -> None:
        """A command of this connection was handled."""
        ack = session_pb2.CommandAck(command_id=command_id, accepted=accepted)
        self.outbox.put(session_pb2.AttachResponse(ack=ack))

    def camera_keyframe(self) -> None:
        """Nothing is published over Attach."""

    def ended(self, reason: str) -> None:
        """The session has ended, and with it the stream."""
        self.outbox.put(session_pb2.AttachResponse(ended=session_pb2.SessionEnded(reason=reason)))
        self.outbox.close()

    def response(self, response: session_pb2.AttachResponse) -> session_pb2.AttachResponse:
        """Returns a response as it goes out: the one left empty says that we are attached."""
        if response.WhichOneof("response") is None:
            response.attached.CopyFrom(self.attached)
        return response


async def read_commands(
    requests: AsyncIterator[session_pb2.AttachRequest],
    connection: ports.Connection,
    metadata: dict[str, str],
) -> None:
    """Hands the commands of a stream to its connection, in order.

    Args:
        requests: The stream after its start.
        connection: Whom to hand them to.
        metadata: Metadata of the call; its trace is that of commands which name none.

    Raises:
        BadArgumentError: A request that is no command.
        LimitError: Too many unanswered commands.
    """
    async for request in requests:
        if request.WhichOneof("request") != "command":
            raise BadArgumentError("only the first request may be something else than a command")
        traceparent = request.command.traceparent or metadata.get("traceparent", "")
        connection.command(checked(request.command), traceparent)


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
