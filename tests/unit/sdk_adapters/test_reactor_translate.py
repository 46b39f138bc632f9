"""Commands in, messages out."""

from __future__ import annotations

import pytest

from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.commands import MAX_SEED
from sdk_adapters.reactor import translate

pytestmark = pytest.mark.unit

UPLOAD = {"upload_id": "u-1", "name": "clip.mp4", "mime_type": "video/mp4", "size": 69763}
FILE = command_pb2.FileRef(upload_id="u-1", name="clip.mp4", mime_type="video/mp4", size=69763)


def _command(**said: object) -> command_pb2.Command:
    return command_pb2.Command(command_id="c", **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "arguments", "uploads", "meaning"),
    [
        ("set_mode", {"mode": "live"}, {}, _command(set_mode={"mode": command_pb2.MODE_LIVE})),
        ("set_mode", {"mode": "file"}, {}, _command(set_mode={"mode": command_pb2.MODE_FILE})),
        ("set_video", {}, {"video": UPLOAD}, _command(set_video={"video": FILE})),
        ("set_video", {"video": UPLOAD}, {}, _command(set_video={"video": FILE})),
        ("set_prompt", {"prompt": "a cat"}, {}, _command(set_prompt={"prompt": "a cat"})),
        ("set_prompt", {"prompt": ""}, {}, _command(set_prompt={"prompt": ""})),
        (
            "set_prompt",
            {"prompt": "p", "transition_chunks": 4.0},
            {},
            _command(set_prompt={"prompt": "p", "transition_chunks": 4}),
        ),
        (
            "set_prompt",
            {"prompt": "p", "transition_chunks": None},
            {},
            _command(set_prompt={"prompt": "p"}),
        ),
        ("set_seed", {"seed": 42.0}, {}, _command(set_seed={"seed": 42})),
        ("set_seed", {"seed": 42, "more": 1}, {}, _command(set_seed={"seed": 42})),
        ("set_seed", {"seed": float(MAX_SEED)}, {}, _command(set_seed={"seed": MAX_SEED})),
        ("start", {}, {}, _command(start={})),
        ("pause", {}, {}, _command(pause={})),
        ("resume", {}, {}, _command(resume={})),
        ("reset", {}, {}, _command(reset={})),
    ],
)
def test_commands_are_understood(
    name: str, arguments: object, uploads: object, meaning: command_pb2.Command
) -> None:
    assert translate.command("c", name, arguments, uploads) == meaning


@pytest.mark.parametrize(
    ("name", "arguments", "uploads"),
    [
        ("set_mode", {}, {}),
        ("set_mode", {"mode": "LIVE"}, {}),
        ("set_mode", {"mode": ["live"]}, {}),
        ("set_video", {}, {}),
        ("set_video", {"video": "u-1"}, {}),
        ("set_video", {}, {"video": {"upload_id": "../etc/passwd"}}),
        ("set_video", {}, {"video": {"upload_id": 5}}),
        ("set_video", {}, {"video": {**UPLOAD, "size": "big"}}),
        ("set_video", {}, {"video": {**UPLOAD, "size": 2**63}}),
        ("set_video", {}, {"video": {**UPLOAD, "name": None}}),
        ("set_prompt", {}, {}),
        ("set_prompt", {"prompt": 5}, {}),
        ("set_prompt", {"prompt": "\ud800"}, {}),
        ("set_prompt", {"prompt": "p", "transition_chunks": 17}, {}),
        ("set_prompt", {"prompt": "p", "transition_chunks": -1}, {}),
        ("set_prompt", {"prompt": "p", "transition_chunks": "4"}, {}),
        ("set_prompt", {"prompt": "p", "transition_chunks": 1.5}, {}),
        ("set_seed", {}, {}),
        ("set_seed", {"seed": "42"}, {}),
        ("set_seed", {"seed": True}, {}),
        ("set_seed", {"seed": 42.5}, {}),
        ("set_seed", {"seed": float("inf")}, {}),
        ("set_seed", {"seed": float("nan")}, {}),
        ("set_seed", {"seed": -1}, {}),
        ("set_seed", {"seed": 2**53}, {}),
        ("start", [], {}),
        ("start", {}, "video"),
    ],
)
def test_bad_arguments_become_invalid_commands(
    name: str, arguments: object, uploads: object
) -> None:
    made = translate.command("c", name, arguments, uploads)
    assert isinstance(made, stream_pb2.InvalidCommand)
    assert (made.command_id, made.name) == ("c", name)
    assert made.code == message_pb2.REJECT_REASON_BAD_ARGUMENT
    assert made.reason


def test_unknown_commands_are_named_but_not_at_any_length() -> None:
    made = translate.command("c", "fly" + "\udcff" * 100, {}, {})
    assert isinstance(made, stream_pb2.InvalidCommand)
    assert made.code == message_pb2.REJECT_REASON_UNKNOWN_COMMAND
    assert made.name.startswith("fly")
    assert len(made.name) == 64


def test_a_name_that_is_no_string_is_a_bad_argument() -> None:
    made = translate.command("c", 5, {}, {})
    assert isinstance(made, stream_pb2.InvalidCommand)
    assert made.code == message_pb2.REJECT_REASON_BAD_ARGUMENT


def test_reasons_never_repeat_what_the_client_wrote() -> None:
    made = translate.command("c", "set_mode", {"mode": "secret words"}, {})
    assert isinstance(made, stream_pb2.InvalidCommand)
    assert "secret" not in made.reason


def test_state_has_exactly_the_nine_documented_fields() -> None:
    state = message_pb2.State(
        running=True,
        started=True,
        current_chunk=3,
        has_prompt=True,
        current_prompt="p",
        seed=MAX_SEED,
        mode=command_pb2.MODE_FILE,
        phase=message_pb2.PHASE_RUNNING,
        queue_position=2,
    )
    assert translate.message(message_pb2.Message(revision=9, state=state)) == (
        "state",
        {
            "running": True,
            "started": True,
            "paused": False,
            "current_chunk": 3,
            "current_prompt": "p",
            "has_prompt": True,
            "has_video": False,
            "num_source_frames": 0,
            "seed": MAX_SEED,
        },
    )


def test_no_prompt_is_null() -> None:
    translated = translate.message(message_pb2.Message(state=message_pb2.State()))
    assert translated is not None
    assert translated[1]["current_prompt"] is None


@pytest.mark.parametrize(
    ("said", "payload"),
    [
        ({"prompt_accepted": {"prompt": "p"}}, {"prompt": "p"}),
        (
            {"video_accepted": {"width": 1, "height": 2, "num_frames": 33, "num_latent_frames": 5}},
            {"width": 1, "height": 2, "num_frames": 33, "num_latent_frames": 5},
        ),
        (
            {"generation_started": {"prompt": "p"}},
            {"prompt": "p", "chunk_num": 0, "frame_num": 0},
        ),
        (
            {"chunk_complete": {"chunk_index": 1, "frames_emitted": 24, "active_prompt": "p"}},
            {"chunk_index": 1, "frames_emitted": 24, "active_prompt": "p"},
        ),
        ({"generation_complete": {"total_chunks": 4}}, {"total_chunks": 4}),
        ({"generation_reset": {"reason": "r"}}, {"reason": "r"}),
        (
            {"command_error": {"command": "start", "reason": "r", "retry_after_s": 3}},
            {"command": "start", "reason": "r"},
        ),
    ],
)
def test_messages_have_the_documented_fields(
    said: dict[str, dict[str, object]], payload: dict[str, object]
) -> None:
    (name,) = said
    assert translate.message(message_pb2.Message(**said)) == (name, payload)  # type: ignore[arg-type]


def test_every_message_of_the_contract_is_translated() -> None:
    names = {each.name for each in message_pb2.Message.DESCRIPTOR.oneofs_by_name["payload"].fields}
    assert set(translate.MESSAGE_FIELDS) == names - {"session_moved"}, "which is ours alone"


def test_an_empty_message_is_not_passed_on() -> None:
    assert translate.message(message_pb2.Message(revision=4)) is None


def test_what_the_wire_has_no_word_for_is_not_said() -> None:
    moved = message_pb2.SessionMoved(continuity=message_pb2.CONTINUITY_EXACT, reason="moved")
    assert translate.message(message_pb2.Message(revision=4, session_moved=moved)) is None
