"""The reference of the gRPC contract, from `proto/sana_gateway.binpb` and its comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from google.protobuf import descriptor_pb2

from tools.docs.markdown import GENERATED, prose, slug, table

ROOT: Final = Path(__file__).resolve().parents[2]
DESCRIPTORS: Final = ROOT / "proto/sana_gateway.binpb"
FOLDER: Final = "docs/reference/proto"
PACKAGE: Final = "sana_gateway.v1"
ORDER: Final = (
    "session", "command", "message", "media", "error", "pool", "event", "usage", "replay",
)  # fmt: skip
"""Files of the package as they are best read; others follow by name."""

_File = descriptor_pb2.FileDescriptorProto
_Field = descriptor_pb2.FieldDescriptorProto
_TYPES: Final = {number: name.removeprefix("TYPE_").lower() for name, number in _Field.Type.items()}
_MESSAGES, _ENUMS, _SERVICES, _FIELDS, _VALUES, _METHODS, _SYNTAX = 4, 5, 6, 2, 2, 2, 12
"""Numbers of fields of descriptors, of which the paths to comments are made."""


@dataclass(frozen=True, slots=True)
class Call:
    """An rpc."""

    service: str
    name: str
    request: str
    response: str
    kind: str
    """`unary`, `server stream`, `client stream` or `two-way stream`."""
    comment: str

    @property
    def title(self) -> str:
        """As its heading has it."""
        return f"{self.service}.{self.name}"


@cache
def files() -> tuple[_File, ...]:
    """Returns the files of the public contract in their order."""
    described = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    ours = {_stem(file): file for file in described.file if file.package == PACKAGE}
    ranks = {name: rank for rank, name in enumerate(ORDER)}
    return tuple(ours[name] for name in sorted(ours, key=lambda each: (ranks.get(each, 99), each)))


def calls(file: _File) -> list[Call]:
    """Returns the rpcs of a file."""
    comments = _comments(file)
    return [
        Call(
            service.name,
            method.name,
            method.input_type,
            method.output_type,
            _kind(method),
            comments.get((_SERVICES, i, _METHODS, j), ""),
        )
        for i, service in enumerate(file.service)
        for j, method in enumerate(service.method)
    ]


def pages() -> dict[str, str]:
    """Returns the pages by their paths."""
    made = {f"{FOLDER}/{_stem(file)}.md": _page(file) for file in files()}
    return {f"{FOLDER}/index.md": _overview(), **made}


def _overview() -> str:
    lines = [
        "# The gRPC contract",
        "",
        GENERATED,
        "",
        f"The package `{PACKAGE}`, a page a file. [The gRPC API](../../grpc.md) says how the",
        "calls belong together, and what a failed one carries.",
        "",
        *table(
            ("File", "Holds"),
            (
                (f"[`{_stem(file)}.proto`]({_stem(file)}.md)", _said(_comments(file), _SYNTAX))
                for file in files()
            ),
        ),
        "",
        "## All calls",
        "",
        *table(
            ("Call", "Kind", "What it does"),
            (
                (
                    f"[`{call.title}`]({_stem(file)}.md#{slug(call.title)})",
                    call.kind,
                    _first(call.comment),
                )
                for file in files()
                for call in calls(file)
            ),
        ),
    ]
    return "\n".join(lines) + "\n"


def _page(file: _File) -> str:
    comments = _comments(file)
    lines = [f"# {_stem(file)}.proto", "", GENERATED, "", _said(comments, _SYNTAX)]
    for number, service in enumerate(file.service):
        lines += ["", f"## {service.name}", "", _said(comments, _SERVICES, number)]
    for call in calls(file):
        lines += ["", f"### {call.title}", "", _marked(call.comment), ""]
        takes, gives = _linked(file, call.request), _linked(file, call.response)
        lines += [f"{call.kind.capitalize()}: {takes} → {gives}."]
    if file.message_type:
        lines += ["", "## Messages"]
    for number, message in enumerate(file.message_type):
        lines += _message(file, message, comments, (_MESSAGES, number))
    if file.enum_type:
        lines += ["", "## Enumerations"]
    for number, enum in enumerate(file.enum_type):
        path = (_ENUMS, number)
        lines += ["", f"### {enum.name}", "", _said(comments, *path), ""]
        rows = (
            (f"`{value.name}`", str(value.number), _said(comments, *path, _VALUES, each))
            for each, value in enumerate(enum.value)
        )
        lines += table(("Value", "Number", "Meaning"), rows)
    return "\n".join(lines) + "\n"


def _message(
    file: _File,
    message: descriptor_pb2.DescriptorProto,
    comments: Mapping[tuple[int, ...], str],
    path: tuple[int, ...],
) -> Iterator[str]:
    yield from ("", f"### {message.name}", "", _said(comments, *path))
    if message.field:
        rows = (
            (
                f"`{field.name}`",
                str(field.number),
                _type(file, message, field),
                _said(comments, *path, _FIELDS, each),
            )
            for each, field in enumerate(message.field)
        )
        yield from ("", *table(("Field", "Number", "Type", "Meaning"), rows))


def _type(file: _File, message: descriptor_pb2.DescriptorProto, field: _Field) -> str:
    named = field.type_name
    entry = next(
        (each for each in message.nested_type if named.endswith(f".{message.name}.{each.name}")),
        None,
    )
    if entry is not None and entry.options.map_entry:
        key, value = (_type(file, entry, each) for each in entry.field)
        return f"map of {key} to {value}"
    told = _linked(file, named) if named else f"`{_TYPES[field.type]}`"
    if field.label == _Field.LABEL_REPEATED:
        told = f"repeated {told}"
    elif field.proto3_optional:
        told = f"optional {told}"
    elif field.HasField("oneof_index"):
        told += f", one of `{message.oneof_decl[field.oneof_index].name}`"
    if field.options.debug_redact:
        told += ", user content"
    return told


def _linked(file: _File, name: str) -> str:
    """Returns the name of a type, linked to where it is described."""
    short = name.rpartition(".")[2]
    for other in files():
        if short in names(other) and name == f".{PACKAGE}.{short}":
            where = "" if other is file else f"{_stem(other)}.md"
            return f"[`{short}`]({where}#{slug(short)})"
    return f"`{name.removeprefix('.')}`"


def names(file: _File) -> set[str]:
    """Returns the types that a file defines."""
    return {each.name for each in file.message_type} | {each.name for each in file.enum_type}


def _comments(file: _File) -> dict[tuple[int, ...], str]:
    """Returns the comments of a file by the paths to what they stand above."""
    return {
        tuple(each.path): " ".join(each.leading_comments.split())
        for each in file.source_code_info.location
        if each.leading_comments
    }


def _said(comments: Mapping[tuple[int, ...], str], *path: int) -> str:
    return _marked(comments.get(path, ""))


@cache
def _words() -> re.Pattern[str]:
    """What the comments name: types, calls, fields and values that are no plain words."""
    members = {value.name for file in files() for enum in file.enum_type for value in enum.value}
    types = {name for file in files() for name in names(file)}
    for file in files():
        members |= {field.name for message in file.message_type for field in message.field}
        members |= {call.name for call in calls(file)}
    plain = re.compile(r"[A-Za-z][a-z]*")
    alone = {name for name in members | types if not plain.fullmatch(name)}
    told = "|".join(sorted(alone, key=len, reverse=True))
    dotted = "|".join(sorted(types, key=len, reverse=True))
    return re.compile(
        rf"(?<![\w.`\"-])(?:(?:{dotted})\.[a-z]\w*|(?:\w+\.)?(?:{told})(?:\.\w+)?)(?![\w`\"-])"
    )


def _marked(comment: str) -> str:
    """Returns a comment as Markdown, with the names of the contract set as code."""
    parts = re.split(r"(`[^`]*`)", comment)
    return prose(
        "".join(
            part if index % 2 else _words().sub(lambda found: f"`{found[0]}`", part)
            for index, part in enumerate(parts)
        )
    )


def _first(comment: str) -> str:
    """Returns the first sentence of a comment."""
    return _marked(re.split(r"(?<=[.;:]) ", comment, maxsplit=1)[0].rstrip(".;:") + ".")


def _kind(method: descriptor_pb2.MethodDescriptorProto) -> str:
    kinds: Sequence[str] = ("unary", "server stream", "client stream", "two-way stream")
    return kinds[2 * method.client_streaming + method.server_streaming]


def _stem(file: _File) -> str:
    return Path(file.name).stem
