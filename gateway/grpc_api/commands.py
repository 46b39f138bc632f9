"""From the `Command` of a client to what the hub takes: pure.

Only what makes a message no command at all is caught here. Whether a command is
possible now, and whether its values are, is for the session to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.ports import CommandLike
from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2

ID_LENGTH: Final = 64
"""Most characters of an id that a client makes."""


def checked(command: command_pb2.Command) -> CommandLike:
    """Returns the command, or the `InvalidCommand` that it amounts to.

    Args:
        command: As it came from the client.
    """
    name = command.WhichOneof("command")
    if name is None:
        return _invalid(
            command,
            "",
            "the message holds no command that this server knows",
            message_pb2.REJECT_REASON_UNKNOWN_COMMAND,
        )
    if not 1 <= len(command.command_id) <= ID_LENGTH:
        fault: str | None = f"command_id must have 1 to {ID_LENGTH} characters"
    else:
        fault = _FAULTS.get(name, _no_fault)(command)
    if fault is None:
        return command
    return _invalid(command, name, fault, message_pb2.REJECT_REASON_BAD_ARGUMENT)


def _invalid(
    command: command_pb2.Command,
    name: str,
    fault: str,
    code: message_pb2.RejectReason.ValueType,
) -> stream_pb2.InvalidCommand:
    return stream_pb2.InvalidCommand(
        command_id=command.command_id[:ID_LENGTH], name=name, reason=fault, code=code
    )


def _no_fault(_: command_pb2.Command) -> str | None:
    return None


def _mode_fault(command: command_pb2.Command) -> str | None:
    known = command.set_mode.mode in (command_pb2.MODE_LIVE, command_pb2.MODE_FILE)
    return None if known else "mode must be live or file"


def _video_fault(command: command_pb2.Command) -> str | None:
    return None if command.set_video.video.upload_id else "video must name an upload"


_FAULTS: Final[dict[str, Callable[[command_pb2.Command], str | None]]] = {
    "set_mode": _mode_fault,
    "set_video": _video_fault,
}
"""What can be wrong with a message before any session sees it, by command."""
