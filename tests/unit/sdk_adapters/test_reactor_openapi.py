"""The schema of a model, generated from what its plugin declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from model_actor.plugin import ModelInfo
from sana_gateway.v1 import command_pb2, message_pb2, session_pb2
from scheduler.core.commands import MAX_SEED, MAX_TRANSITION_CHUNKS, NAMES
from scheduler.core.staging import MAX_PROMPT_CHARACTERS
from sdk_adapters.reactor import openapi, translate
from tests.fakes.hub import FakeHub
from tests.unit.sdk_adapters.reactor_site import Site

pytestmark = pytest.mark.unit

DECLARED = ModelInfo(name="m", summary="A model.", stages=()).commands


def described(*commands: str) -> session_pb2.Capabilities:
    return session_pb2.Capabilities(
        tracks=[
            session_pb2.Track(name="camera", direction=session_pb2.TRACK_DIRECTION_SEND),
            session_pb2.Track(name="main_video", direction=session_pb2.TRACK_DIRECTION_RECEIVE),
            session_pb2.Track(name="future"),
        ],
        commands=commands,
        minimum_frames=33,
    )


def arguments(document: dict[str, Any], command: str) -> dict[str, Any]:
    """Returns the JSON Schema of a command's arguments, references resolved."""
    body = document["paths"][f"/events/{command}"]["post"]["requestBody"]
    schema: dict[str, Any] = body["content"]["application/json"]["schema"]
    return schema | {"components": document["components"]}


@pytest.mark.parametrize("commands", [DECLARED, ("set_prompt", "start"), ()], ids=len)
def test_the_document_is_openapi_3_1(commands: tuple[str, ...]) -> None:
    OpenAPIV31SpecValidator(openapi.document("m", described(*commands))).validate()


def test_every_command_of_the_contract_has_its_words_and_limits() -> None:
    contract = {each.name: each for each in command_pb2.Command.DESCRIPTOR.oneofs[0].fields}
    assert set(openapi.COMMANDS) == set(contract) == set(NAMES.values()) == set(DECLARED)
    for name, words in openapi.COMMANDS.items():
        # What may be left out is no part of the seed's wire.
        fields = {
            each.name
            for each in contract[name].message_type.fields
            if each.message_type or not each.has_presence
        }
        assert set(words.fields) == fields, name
        assert set(words.limits) <= fields, name


def test_transitions_are_shown_where_the_model_has_them() -> None:
    able = described("set_prompt")
    assert (
        "transition_chunks"
        not in arguments(openapi.document("m", able), "set_prompt")["properties"]
    )
    able.prompt_transitions = True
    schema = arguments(openapi.document("m", able), "set_prompt")
    assert schema["required"] == ["prompt"]
    for chunks, fits in ((0, True), (MAX_TRANSITION_CHUNKS, True), (17, False), ("4", False)):
        said = {"prompt": "oil", "transition_chunks": chunks}
        assert jsonschema.Draft202012Validator(schema).is_valid(said) is fits


def test_every_message_of_the_wire_has_its_words() -> None:
    assert set(openapi.MESSAGES) == set(translate.MESSAGE_FIELDS)
    for name, words in openapi.MESSAGES.items():
        assert set(words.fields) <= set(translate.MESSAGE_FIELDS[name]), name
        assert set(words.commands) <= set(openapi.COMMANDS), name


def test_a_plugin_with_fewer_commands_shows_fewer_and_fewer_messages() -> None:
    document = openapi.document("m", described("set_prompt", "start", "of_another_wire"))
    assert list(document["paths"]) == ["/events/set_prompt", "/events/start"]
    assert set(document["webhooks"]) == {
        "prompt_accepted",
        "generation_started",
        "chunk_complete",
        "generation_complete",
        "command_error",
        "state",
    }
    assert "VideoAccepted" not in document["components"]["schemas"]
    whole = openapi.document("m", described(*DECLARED))
    assert set(whole["webhooks"]) == set(translate.MESSAGE_FIELDS)


GOOD: list[tuple[str, dict[str, Any]]] = [
    ("set_mode", {"mode": "live"}),
    ("set_mode", {"mode": "file"}),
    ("set_prompt", {"prompt": "x" * MAX_PROMPT_CHARACTERS}),
    ("set_seed", {"seed": MAX_SEED}),
    ("set_seed", {"seed": 0}),
    ("set_video", {"video": {"upload_id": "u", "name": "n", "mime_type": "m", "size": 3}}),
    ("start", {}),
    ("reset", {}),
]
BAD: list[tuple[str, dict[str, Any]]] = [
    ("set_mode", {"mode": "unspecified"}),
    ("set_mode", {"mode": "sideways"}),
    ("set_mode", {}),
    ("set_prompt", {"prompt": ""}),
    ("set_prompt", {"prompt": "x" * (MAX_PROMPT_CHARACTERS + 1)}),
    ("set_prompt", {"prompt": 3}),
    ("set_seed", {"seed": -1}),
    ("set_seed", {"seed": MAX_SEED + 1}),
    ("set_seed", {"seed": 0.5}),
    ("set_video", {"video": "a name"}),
    ("set_video", {"video": {"upload_id": "u"}}),
]


@pytest.mark.parametrize(("command", "given"), GOOD, ids=str)
def test_what_a_command_takes_fits_its_schema(command: str, given: dict[str, Any]) -> None:
    jsonschema.validate(given, arguments(openapi.document("m", described(*DECLARED)), command))


@pytest.mark.parametrize(("command", "given"), BAD, ids=lambda each: str(each)[:40])
def test_what_a_command_refuses_does_not(command: str, given: dict[str, Any]) -> None:
    schema = arguments(openapi.document("m", described(*DECLARED)), command)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(given, schema)


@pytest.mark.parametrize("name", translate.MESSAGE_FIELDS)
@pytest.mark.parametrize("prompt", [None, "an engraving"])
def test_what_is_said_fits_its_schema(name: str, prompt: str | None) -> None:
    said = message_pb2.Message(state={"current_prompt": prompt} if name == "state" else None)
    getattr(said, name).SetInParent()
    translated = translate.message(said)
    assert translated is not None
    document = openapi.document("m", described(*DECLARED))
    body = document["webhooks"][name]["post"]["requestBody"]["content"]["application/json"]
    jsonschema.validate(translated[1], body["schema"] | {"components": document["components"]})


def test_commands_with_a_reply_say_which() -> None:
    paths = openapi.document("m", described(*DECLARED))["paths"]
    replies = {
        path.removeprefix("/events/"): list(operation["post"]["responses"])
        for path, operation in paths.items()
    }
    with_reply = {"set_prompt", "set_video", "reset"}
    assert replies == {name: ["200" if name in with_reply else "202"] for name in DECLARED}


def test_tracks_keep_their_order_and_unknown_directions_are_left_out() -> None:
    tracks = [
        {"name": "camera", "kind": "video", "direction": "sendonly"},
        {"name": "main_video", "kind": "video", "direction": "recvonly"},
    ]
    assert openapi.document("m", described())["x-reactor"] == {"tracks": tracks}


# The route.


async def test_the_schema_is_served_to_whoever_has_no_session(site: Site) -> None:
    status, document = await site.ask("GET", "/schema")
    assert status == 200
    OpenAPIV31SpecValidator(document).validate()
    assert document["info"]["title"] == "painter"
    assert (await site.ask("GET", "/schema?model=painter"))[1] == document


async def test_a_model_that_nobody_has_just_now_has_no_schema_just_now(
    serve: Callable[..., Any],
) -> None:
    class Empty(FakeHub):
        def capabilities(self, model: str) -> session_pb2.Capabilities | None:
            return None

    site: Site = await serve(hub=Empty())
    status, body = await site.ask("GET", "/schema")
    assert status == 503
    assert site.headers["Retry-After"]
    status, body = await site.ask("GET", "/schema?model=nobody")
    assert status == 404
    assert body["served_models"] == ["painter"]
