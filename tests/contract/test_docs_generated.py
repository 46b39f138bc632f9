"""Pages that are made from the code say what the code says."""

from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

import sana_gateway
from sana_gateway_internal.v1 import placement_pb2, stream_pb2
from tests.required import ROOT, require
from tools.docs import __main__ as docs
from tools.docs import command_line, diagrams, protobuf, python_code, typescript
from tools.docs.markdown import slug

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """All pages, made anew."""
    require(typescript.PACKAGE / "node_modules/.setup")
    require(typescript.NODE)
    return docs.pages()


def test_no_page_is_stale(made: dict[str, str]) -> None:
    assert docs.stale(made) == [], "run: python -m tools.docs --write"


def test_every_call_message_field_and_value_of_the_contract_is_there() -> None:
    described = FileDescriptorSet.FromString((ROOT / "proto/sana_gateway.binpb").read_bytes())
    pages = protobuf.pages()
    for file in described.file:
        if file.package != protobuf.PACKAGE:
            continue
        page = pages[f"{protobuf.FOLDER}/{file.name.rpartition('/')[2].removesuffix('.proto')}.md"]
        for service in file.service:
            for method in service.method:
                assert f"\n### {service.name}.{method.name}\n" in page
        for kind in (*file.message_type, *file.enum_type):
            _, _, below = page.partition(f"\n### {kind.name}\n")
            rows = below.partition("\n### ")[0]
            members = getattr(kind, "field", None) or getattr(kind, "value", ())
            for member in members:
                # Name, number, type where it has one, and a meaning: nothing is without words.
                told = r"(?: [^|\n]+ \|)? [^|\n]*\w[^|\n]* \|$"
                row = rf"^\| `{member.name}` \| {member.number} \|{told}"
                assert re.search(row, rows, re.MULTILINE), (kind.name, member.name)


def test_everything_that_the_python_client_exports_is_there() -> None:
    page = python_code.pages()["docs/reference/python.md"]
    titles = set(re.findall(r"^#+ ([\w.]+)$", page, re.MULTILINE))
    listed = set(re.findall(r"\[`(\w+)`\]\(proto/|^\| `(\w+)` \|", page, re.MULTILINE))
    named = {name for names in listed for name in names}
    assert set(sana_gateway.__all__) <= titles | named
    public = [name for name in vars(sana_gateway.Session) if not name.startswith("_")]
    methods = [name for name in public if callable(getattr(sana_gateway.Session, name))]
    assert {f"Session.{name}" for name in methods} <= titles


def test_everything_that_the_typescript_client_exports_is_there(made: dict[str, str]) -> None:
    page = made[typescript.PAGE]
    titles = set(re.findall(r"^#+ (.+)$", page, re.MULTILINE))
    model = (typescript.PACKAGE / "src/model.ts").read_text()
    body = model.partition("export class SanaStreamingModel")[2]
    methods = re.findall(r"^  (?:async )?([a-z]\w+)[(<].*\{$", body, re.MULTILINE)
    assert {f"SanaStreamingModel.{name}" for name in methods if name != "constructor"} <= titles
    for entry in typescript.ENTRIES.values():
        source = (typescript.PACKAGE / "src" / entry).read_text()
        for names in re.findall(r"^export (?:type )?\{([^}]*)\}", source, re.MULTILINE):
            assert set(re.findall(r"\b(?!type\b)\w+", names)) <= titles


def test_every_command_and_option_is_there() -> None:
    (page,) = command_line.pages().values()
    for words, command in command_line.commands():
        if len(words) > 1:
            _, found, below = page.partition(f"\n## {' '.join(words)}\n")
            assert found
            rows = below.partition("\n## ")[0]
            for option in command_line.options(command):
                assert f"| `{option.opts[0]}" in rows, words
                assert option.help, words


def test_the_planes_have_every_call_between_our_processes() -> None:
    drawn = diagrams.planes()
    for file in (placement_pb2.DESCRIPTOR, stream_pb2.DESCRIPTOR):
        for service in file.services_by_name.values():
            calls = diagrams.callers(service)
            assert {name for made in calls.values() for name in made} == set(
                service.methods_by_name
            ), "a call that nobody makes"
            assert f"`{service.name}`" in drawn


def test_links_within_a_reference_lead_to_its_headings() -> None:
    for page in protobuf.pages().values():
        anchors = {slug(each) for each in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
        assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors
