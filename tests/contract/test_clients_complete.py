"""No client forgets a command, a message or a field of the contract."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

import sana_gateway
from sana_gateway import events
from sana_gateway.v1 import command_pb2, message_pb2
from sdk_adapters.reactor import openapi, translate
from tests.required import ROOT

pytestmark = pytest.mark.contract

TYPESCRIPT = ROOT / "sdk_adapters/typescript/src"


def fields(message: Descriptor, oneof: str) -> list[FieldDescriptor]:
    """Returns the fields of a oneof."""
    return list(message.oneofs_by_name[oneof].fields)


COMMANDS = fields(command_pb2.Command.DESCRIPTOR, "command")
MESSAGES = fields(message_pb2.Message.DESCRIPTOR, "payload")
BEYOND_REACTOR = {"session_moved"}
"""Messages that Reactor's clients are not told."""


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def names(found: Iterable[FieldDescriptor]) -> list[str]:
    return [each.name for each in found]


@pytest.mark.parametrize("name", names(COMMANDS))
def test_python_has_a_method_for_every_command(name: str) -> None:
    method = getattr(sana_gateway.Session, name)
    assert inspect.iscoroutinefunction(method)
    assert inspect.getdoc(method)
    command = command_pb2.Command.DESCRIPTOR.fields_by_name[name].message_type
    assert command is not None
    given = list(inspect.signature(method).parameters)[1:]
    assert given == [each.name for each in command.fields]


def test_python_sends_each_command_as_what_it_is() -> None:
    source = inspect.getsource(sana_gateway.Session)
    sent = {
        keyword.arg
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "_command"
        for keyword in call.keywords
    }
    assert sent == set(names(COMMANDS))


def overloads() -> str:
    """Returns the source of what `Session.on` may be asked for; nothing is left at run time."""
    return inspect.getsource(events.Subscribe).partition("@overload")[2]


@pytest.mark.parametrize("field", MESSAGES, ids=lambda each: each.name)
def test_python_calls_back_with_the_type_of_every_message(field: FieldDescriptor) -> None:
    typed = dict(
        re.findall(r'Literal\["(\w+)"\].*?Callable\[\[(\w+\.\w+)\]', overloads(), re.DOTALL)
    )
    assert field.message_type is not None
    assert typed[field.name] == f"message_pb2.{field.message_type.name}"


@pytest.mark.parametrize("enum", ["Mode", "Phase", "RejectReason", "Codec"])
def test_python_exports_what_the_fields_are_told_in(enum: str) -> None:
    assert enum in sana_gateway.__all__


@pytest.mark.parametrize("name", names(COMMANDS))
def test_typescript_has_a_method_for_every_command(name: str) -> None:
    # That its arguments and its answer are right is for its own compiler to say.
    model = (TYPESCRIPT / "model.ts").read_text()
    called = camel(name)
    assert re.search(rf'^  {called}\(.*\): Promise<Reply<"{called}">> \{{$', model, re.MULTILINE)
    assert "implements CommandMethods" in model


@pytest.mark.parametrize("field", MESSAGES, ids=lambda each: each.name)
def test_typescript_types_every_field_of_every_message(field: FieldDescriptor) -> None:
    contract = (TYPESCRIPT / "contract.ts").read_text()
    assert f'  {field.name}: "{camel(field.name)}",\n' in contract
    assert field.message_type is not None
    head = f"export interface {field.message_type.name} {{\n"
    body = contract.partition(head)[2].partition("\n}\n")[0]
    typed = re.findall(r"^  readonly (\w+): ", body, re.MULTILINE)
    assert typed == [camel(each.name) for each in field.message_type.fields]


@pytest.mark.parametrize("name", names(COMMANDS))
def test_the_wires_over_data_channels_take_every_command(name: str) -> None:
    made = translate.command("1", name, {}, {})
    # One that lacks its arguments is known all the same.
    code = getattr(made, "code", None)
    assert code != message_pb2.REJECT_REASON_UNKNOWN_COMMAND
    assert translate.name_of(made) == name


def test_reactor_clients_are_told_every_message_that_they_know() -> None:
    assert set(translate.MESSAGE_FIELDS) == set(names(MESSAGES)) - BEYOND_REACTOR


def test_every_command_and_message_is_described_in_the_schema() -> None:
    assert set(openapi.COMMANDS) == set(names(COMMANDS))
    assert set(openapi.MESSAGES) == set(translate.MESSAGE_FIELDS)
