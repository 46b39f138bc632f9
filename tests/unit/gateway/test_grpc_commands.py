"""What a wire may refuse to call a command."""

import pytest

from gateway.grpc_api.commands import checked
from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2

pytestmark = pytest.mark.unit

FILE = command_pb2.FileRef(upload_id="u")
GOOD = [
    command_pb2.Command(command_id="1", set_mode=command_pb2.SetMode(mode=command_pb2.MODE_LIVE)),
    command_pb2.Command(command_id="x" * 64, start=command_pb2.Start()),
    command_pb2.Command(command_id="1", set_video=command_pb2.SetVideo(video=FILE)),
    command_pb2.Command(command_id="1", set_prompt=command_pb2.SetPrompt()),
    command_pb2.Command(command_id="1", set_seed=command_pb2.SetSeed(seed=-1)),
    command_pb2.Command(command_id="1", pause=command_pb2.Pause()),
    command_pb2.Command(command_id="1", resume=command_pb2.Resume()),
    command_pb2.Command(command_id="1", reset=command_pb2.Reset()),
]


@pytest.mark.parametrize("command", GOOD, ids=lambda each: each.WhichOneof("command"))
def test_what_only_the_session_can_judge_passes(command: command_pb2.Command) -> None:
    assert checked(command) is command


@pytest.mark.parametrize(
    ("command", "name", "code"),
    [
        (command_pb2.Command(command_id="1"), "", message_pb2.REJECT_REASON_UNKNOWN_COMMAND),
        (
            command_pb2.Command(start=command_pb2.Start()),
            "start",
            message_pb2.REJECT_REASON_BAD_ARGUMENT,
        ),
        (
            command_pb2.Command(command_id="x" * 65, start=command_pb2.Start()),
            "start",
            message_pb2.REJECT_REASON_BAD_ARGUMENT,
        ),
        (
            command_pb2.Command(command_id="1", set_mode=command_pb2.SetMode()),
            "set_mode",
            message_pb2.REJECT_REASON_BAD_ARGUMENT,
        ),
        (
            command_pb2.Command.FromString(b"\x0a\x011\x52\x02\x08\x07"),
            "set_mode",
            message_pb2.REJECT_REASON_BAD_ARGUMENT,
        ),
        (
            command_pb2.Command(command_id="1", set_video=command_pb2.SetVideo()),
            "set_video",
            message_pb2.REJECT_REASON_BAD_ARGUMENT,
        ),
    ],
    ids=["nothing", "no id", "long id", "no mode", "mode 7", "no file"],
)
def test_what_is_no_command_is_named_and_explained(
    command: command_pb2.Command, name: str, code: message_pb2.RejectReason.ValueType
) -> None:
    invalid = checked(command)
    assert isinstance(invalid, stream_pb2.InvalidCommand)
    assert (invalid.name, invalid.code) == (name, code)
    assert invalid.command_id == command.command_id[:64]
    assert invalid.reason
