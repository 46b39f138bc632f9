"""The wire contract: style, formatting, and user content marked for redaction."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Final

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

from sana_gateway.v1 import (
    command_pb2,
    error_pb2,
    event_pb2,
    media_pb2,
    message_pb2,
    pool_pb2,
    replay_pb2,
    session_pb2,
    usage_pb2,
)
from sana_gateway_internal.v1 import placement_pb2, snapshot_pb2, stream_pb2
from tests.required import ROOT, require

pytestmark = pytest.mark.contract

FILES: Final = tuple(
    module.DESCRIPTOR
    for module in (
        command_pb2,
        error_pb2,
        event_pb2,
        media_pb2,
        message_pb2,
        placement_pb2,
        pool_pb2,
        replay_pb2,
        session_pb2,
        snapshot_pb2,
        stream_pb2,
        usage_pb2,
    )
)
CONTENT: Final = ("prompt", "data")
"""Names, or ends of names, of fields that hold what users sent."""


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [require(".tools/bin/buf"), *arguments],
        cwd=ROOT / "proto",
        capture_output=True,
        text=True,
        check=False,
    )


def messages(file: FileDescriptor) -> Iterator[Descriptor]:
    stack = list(file.message_types_by_name.values())
    while stack:
        message = stack.pop()
        yield message
        stack.extend(message.nested_types)


def fields() -> Iterator[FieldDescriptor]:
    for file in FILES:
        for message in messages(file):
            yield from message.fields


def test_buf_finds_no_fault_of_style() -> None:
    done = buf("lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_formatted() -> None:
    done = buf("format", "--diff", "--exit-code")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_proto_file_is_looked_at_here() -> None:
    on_disk = {
        path.relative_to(ROOT / "proto").as_posix() for path in ROOT.glob("proto/*/v1/*.proto")
    }
    assert {file.name for file in FILES} == on_disk


def test_fields_with_user_content_are_redacted_in_texts() -> None:
    content = [
        field
        for field in fields()
        if field.name.split("_")[-1] in CONTENT
        and field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}
    ]
    assert content
    assert [field.full_name for field in content if not field.GetOptions().debug_redact] == []


def test_the_contract_imports_nothing_but_googles_own_types() -> None:
    imports = {dependency.name for file in FILES for dependency in file.dependencies} - {
        file.name for file in FILES
    }
    assert [name for name in imports if not name.startswith("google/protobuf/")] == []


def test_the_folder_proto_is_no_package() -> None:
    # `proto` is the import name of proto-plus, which Ray may bring.
    assert not (ROOT / "proto/__init__.py").exists()
