"""Protobuf messages of any content, out of the bytes of an input."""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.reader import Reader

WORDS: Final = (
    *("", "id", "s1", "camera", "main_video", "video", "prompt", "seed", "mode", "live", "file"),
    *("start", "pause", "resume", "set_video", "set_prompt", "set_seed", "set_mode", "reset"),
    *("upload_id", "name", "mime_type", "size", "x" * 65, "00-" + "ab" * 16 + "-" + "cd" * 8),
)
NUMBERS: Final = (0, 1, 2, 33, 57, 255, 2**31 - 1, 2**32 - 1, 2**53, 2**63 - 1)
SINGLE: Final = (0.0, 1.0, -0.5, 42.0, 2.0**40, 1e308, float("inf"), float("nan"))
_REAL: Final = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


def filled(reader: Reader, kind: Descriptor, depth: int = 5) -> Message:
    """Returns a message with some of its fields set."""
    message: Message = GetMessageClass(kind)()
    for _ in range(reader.number() % 8 if kind.fields else 0):
        described = reader.choose(kind.fields)
        if described.message_type is None or depth:
            _fill(reader, message, described, depth)
    return message


def _fill(reader: Reader, message: Message, described: FieldDescriptor, depth: int) -> None:
    inner = described.message_type
    if inner is not None and inner.GetOptions().map_entry:
        entry = inner.fields_by_name["value"]
        values = getattr(message, described.name)
        made = _value(reader, entry, depth)
        values[reader.choose(WORDS)].CopyFrom(made)
    elif described.is_repeated:
        getattr(message, described.name).append(_value(reader, described, depth))
    elif inner is not None:
        getattr(message, described.name).CopyFrom(filled(reader, inner, depth - 1))
    else:
        setattr(message, described.name, _value(reader, described, depth))


def _value(reader: Reader, described: FieldDescriptor, depth: int) -> object:
    match described.cpp_type:
        case FieldDescriptor.CPPTYPE_MESSAGE:
            return filled(reader, described.message_type, depth - 1)
        case FieldDescriptor.CPPTYPE_STRING:
            text = described.type == FieldDescriptor.TYPE_STRING
            words = reader.choose(WORDS) if reader.number() & 1 else None
            data = reader.chunk() if words is None else words.encode()
            return data.decode("utf-8", "replace") if text else data
        case FieldDescriptor.CPPTYPE_BOOL:
            return bool(reader.number() & 1)
        case FieldDescriptor.CPPTYPE_ENUM:
            return reader.number()
        case kind if kind in _REAL:
            return reader.choose(SINGLE)
        case FieldDescriptor.CPPTYPE_INT32:
            return reader.choose(NUMBERS) & 0x7FFFFFFF
        case FieldDescriptor.CPPTYPE_UINT32:
            return reader.choose(NUMBERS) & 0xFFFFFFFF
        case FieldDescriptor.CPPTYPE_INT64:
            return reader.choose(NUMBERS) * (-1 if reader.number() & 1 else 1)
        case _:
            return reader.choose(NUMBERS)
