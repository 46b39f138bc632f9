"""Generates `src/contract.ts` from the public contract, or checks that it is fresh.

The words of the TypeScript client are those of `proto/sana_gateway/v1`: commands, messages,
the fields of the state, enumerations, with the comments that stand there. What travels in
snake case is camel case in TypeScript, as everywhere in that language.

Usage: python sdk_adapters/typescript/generate.py [--check]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

HERE: Final = Path(__file__).resolve().parent
PROTO: Final = HERE.parent.parent / "proto"
OUT: Final = HERE / "src/contract.ts"
SOURCES: Final = ("command", "message", "error", "media")
HEAD: Final = """\
// Generated from proto/sana_gateway/v1 by generate.py (`make proto`). Do not edit.
"""
TYPES: Final = {
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_BOOL: "boolean",
    FieldDescriptorProto.TYPE_INT32: "number",
    FieldDescriptorProto.TYPE_UINT32: "number",
    FieldDescriptorProto.TYPE_INT64: "number",
    FieldDescriptorProto.TYPE_UINT64: "number",
    FieldDescriptorProto.TYPE_FLOAT: "number",
    FieldDescriptorProto.TYPE_DOUBLE: "number",
}
MESSAGES_FIELD, ENUMS_FIELD, FIELDS_FIELD, VALUES_FIELD = 4, 5, 2, 2
"""Field numbers of `descriptor.proto`: comments are found by paths made of them."""


class Contract:
    """The files of the contract, with their comments."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        self.messages: dict[str, DescriptorProto] = {}
        self.enums: dict[str, EnumDescriptorProto] = {}
        self._comments: dict[tuple[str, ...], str] = {}
        for file in files.file:
            self._add(file)

    def comment(self, *names: str) -> str:
        """Returns what stands above a message, an enumeration, or one of its members."""
        return self._comments.get(names, "")

    def _add(self, file: FileDescriptorProto) -> None:
        self.messages |= {each.name: each for each in file.message_type}
        self.enums |= {each.name: each for each in file.enum_type}
        for location in file.source_code_info.location:
            names = _named(file, tuple(location.path))
            if names and location.leading_comments:
                self._comments[names] = " ".join(location.leading_comments.split())


def _named(file: FileDescriptorProto, path: tuple[int, ...]) -> tuple[str, ...]:
    """Returns the names along a path of source information; empty for what has no name here."""
    if len(path) not in (2, 4):
        return ()
    if path[0] == MESSAGES_FIELD:
        message = file.message_type[path[1]]
        if len(path) == 2:
            return (message.name,)
        is_field = path[2] == FIELDS_FIELD
        return (message.name, message.field[path[3]].name) if is_field else ()
    if path[0] == ENUMS_FIELD:
        enum = file.enum_type[path[1]]
        if len(path) == 2:
            return (enum.name,)
        return (enum.name, enum.value[path[3]].name) if path[2] == VALUES_FIELD else ()
    return ()


def load() -> Contract:
    """Reads the contract from its sources."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "contract.bin"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                f"-I{PROTO}",
                "--include_source_info",
                f"--descriptor_set_out={out}",
                *(str(PROTO / f"sana_gateway/v1/{name}.proto") for name in SOURCES),
            ],
            check=True,
        )
        return Contract(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()))


def camel(name: str) -> str:
    """Returns a snake-case name in camel case."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def short(name: str) -> str:
    """Returns the last part of a full type name."""
    return name.rpartition(".")[2]


def in_oneof(message: DescriptorProto) -> list[FieldDescriptorProto]:
    """Returns the fields of a message's only real oneof."""
    return [
        each for each in message.field if each.HasField("oneof_index") and not each.proto3_optional
    ]


def doc(text: str, indent: str = "") -> str:
    """Returns a comment, on one line where it has room there."""
    if not text:
        return ""
    line = f"{indent}/** {text} */\n"
    if len(line) <= 101:
        return line
    lines, room = [""], 96 - len(indent)
    for word in text.split():
        if len(lines[-1]) + len(word) > room:
            lines.append("")
        lines[-1] += f"{word} "
    body = "".join(f"{indent} * {each.rstrip()}\n" for each in lines)
    return f"{indent}/**\n{body}{indent} */\n"


def type_of(field: FieldDescriptorProto) -> str:
    """Returns the TypeScript type of a field."""
    name = TYPES.get(field.type) or short(field.type_name)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"readonly {name}[]"
    return f"{name} | null" if field.proto3_optional else name


def member(field: FieldDescriptorProto, *, said: bool) -> str:
    """Returns name and type of a field; what a client says and may leave out, it leaves out."""
    if said and field.proto3_optional:
        return f"{camel(field.name)}?: {TYPES[field.type]}"
    return f"{camel(field.name)}: {type_of(field)}"


def interface(contract: Contract, message: DescriptorProto, *, said: bool) -> str:
    """Returns the interface of a message."""
    head = doc(contract.comment(message.name))
    if not message.field:
        return f"{head}export type {message.name} = Readonly<Record<string, never>>;\n"
    fields = "".join(
        f"{doc(contract.comment(message.name, each.name), '  ')}"
        f"  readonly {member(each, said=said)};\n"
        for each in message.field
    )
    return f"{head}export interface {message.name} {{\n{fields}}}\n"


def union(contract: Contract, enum: EnumDescriptorProto) -> str:
    """Returns the union of an enumeration's names, and what each means."""
    prefix = enum.value[0].name.removesuffix("UNSPECIFIED")
    names = {each.name: each.name.removeprefix(prefix).lower() for each in enum.value}
    meanings = "".join(
        f'{doc(contract.comment(enum.name, full), "  ")}  | "{name}"\n'
        for full, name in names.items()
    )
    return f"{doc(contract.comment(enum.name))}export type {enum.name} =\n{meanings.rstrip()};\n"


def reached(contract: Contract, names: list[str]) -> Iterator[str]:
    """Yields the types that some messages are made of, those within first."""
    seen: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name in seen:
            return
        seen.add(name)
        if name in contract.messages:
            for field in contract.messages[name].field:
                if field.type_name:
                    yield from visit(short(field.type_name))
        yield name

    for name in names:
        yield from visit(name)


def table(name: str, about: str, rows: dict[str, str]) -> str:
    """Returns a constant that maps names to names."""
    body = "".join(f'  {key}: "{value}",\n' for key, value in rows.items())
    return f"{doc(about)}export const {name} = {{\n{body}}} as const;\n"


def types_of(about: str, name: str, rows: dict[str, str]) -> str:
    """Returns an interface that maps names to types."""
    body = "".join(f"  readonly {key}: {value};\n" for key, value in rows.items())
    return f"{doc(about)}export interface {name} {{\n{body}}}\n"


def render(contract: Contract) -> str:
    """Returns the module."""
    commands = {each.name: short(each.type_name) for each in in_oneof(contract.messages["Command"])}
    messages = {each.name: short(each.type_name) for each in in_oneof(contract.messages["Message"])}
    wanted = [*commands.values(), *messages.values(), "ErrorReason", "ViewerStats"]
    parts = [HEAD]
    for name in reached(contract, wanted):
        if name in contract.enums:
            parts.append(union(contract, contract.enums[name]))
        else:
            said = name in commands.values()
            parts.append(interface(contract, contract.messages[name], said=said))
    figures = contract.messages["ViewerStats"].field
    parts += [
        types_of(
            "Arguments of every command, by the name of its method.",
            "Commands",
            {camel(name): kind for name, kind in commands.items()},
        ),
        types_of(
            "Payload of every message, by its name.",
            "Messages",
            {camel(name): kind for name, kind in messages.items()},
        ),
        table(
            "COMMANDS",
            "Name on the wire of every command.",
            {camel(name): name for name in commands},
        ),
        table(
            "MESSAGES",
            "Name here of every message on the wire.",
            {name: camel(name) for name in messages},
        ),
        table(
            "VIEWER_STATS",
            "Kind of every field of `ViewerStats`.",
            {camel(each.name): type_of(each) for each in figures},
        ),
    ]
    return "\n".join(parts)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; write nothing")
    check = parser.parse_args().check
    fresh = render(load())
    if not check:
        OUT.write_text(fresh)
    elif not OUT.exists() or OUT.read_text() != fresh:
        print(f"stale: {OUT.relative_to(PROTO.parent)}; run `make proto`")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
