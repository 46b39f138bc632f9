"""What becomes of a command that a wire has understood, on to the session that obeys it."""

from __future__ import annotations

from typing import Final

from gateway import ports
from gateway.grpc_api.commands import ID_LENGTH, checked
from sana_gateway.v1 import command_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler import wire
from scheduler.core import effects as fx
from scheduler.core.commands import Command
from scheduler.core.effects import Asker
from scheduler.core.geometry import Geometry
from scheduler.core.session import Session
from scheduler.process.telemetry import context_from

_ASKER: Final = Asker(1, "id")


def obey(made: ports.CommandLike, traceparent: str = "") -> None:
    """Sends a command to a session as the gateway does, and reads the answer.

    A command survives the way over the internal contract unchanged, is acknowledged once, and
    everything that is said of it can be sent.
    """
    if isinstance(made, command_pb2.Command):
        made = checked(made)
    sent = stream_pb2.SessionCommand(session_id="s1", connection_id=1, traceparent=traceparent)
    if isinstance(made, command_pb2.Command):
        sent.command.CopyFrom(made)
    else:
        assert len(made.command_id) <= ID_LENGTH
        sent.invalid.CopyFrom(made)
    arrived = stream_pb2.SessionCommand.FromString(sent.SerializeToString())
    assert arrived == sent
    context_from(arrived.traceparent)
    effects = Session(Geometry(), seed=1).command(_ASKER, understood(arrived), 0.0)
    assert sum(isinstance(each, fx.Ack) for each in effects) == 1
    for each in effects:
        if isinstance(each, fx.Send):
            wire.message_out(each.message).SerializeToString()


def understood(arrived: stream_pb2.SessionCommand) -> Command:
    """Reads a command as the actor does."""
    if arrived.HasField("invalid"):
        return wire.invalid_in(arrived.invalid)
    return wire.command_in(arrived.command)
