"""Code in the documents: Python compiles and names what there is, data can be read."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

import sana_gateway
from gateway.settings import GatewaySettings
from sana_gateway.camera import Camera
from sana_gateway.webrtc import Peer
from scheduler.scenario.scenario import parse
from tests.contract import documents
from tests.contract.documents import Place
from tests.required import ROOT
from tools.docs import markdown

pytestmark = pytest.mark.contract

FOREIGN: Final = {"reactor_sdk"}
"""Packages of others that are not installed beside ours."""
CALLED: Final = {
    "client": sana_gateway.Client,
    "session": sana_gateway.Session,
    "camera": Camera,
    "peer": Peer,
}
"""What the examples call by these names."""
LANGUAGES: Final = {
    "", "bash", "html", "js", "json", "mermaid", "python", "sh", "text", "toml", "ts", "tsx",
    "yaml",
}  # fmt: skip
"""Each is tested somewhere, but for plain text: another wants a test before it is used."""
ROLES: Final = {"head", "actor"}


def parsed(source: str) -> ast.Module:
    """Compiles an example; it may await at its top."""
    compile(source, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return ast.parse(source)


def examples() -> Iterator[tuple[Place, ast.Module]]:
    for place, block in documents.blocks("python"):
        yield place, parsed(block.text)


def test_only_languages_that_are_tested_are_used() -> None:
    used = {block.language for _, block in documents.blocks(*LANGUAGES)}
    found = {
        block.language
        for page in documents.written()
        for block in markdown.blocks(documents.text(page))
    }
    assert found <= LANGUAGES
    assert {"python", "json", "yaml", "toml"} <= used


def test_python_imports_what_there_is() -> None:
    looked_at = 0
    for place, tree in examples():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module not in FOREIGN:
                module = importlib.import_module(node.module)
                for each in node.names:
                    assert hasattr(module, each.name), (str(place), each.name)
                    looked_at += 1
            elif isinstance(node, ast.Import):
                for each in node.names:
                    importlib.import_module(each.name)
    assert looked_at > 10


def attributes(kind: type) -> set[str]:
    """Returns what objects of a class have, what their constructor sets included."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    assigned = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return {name for name in {*dir(kind), *assigned} if not name.startswith("_")}


def test_python_calls_what_the_client_has() -> None:
    known = {name: attributes(kind) for name, kind in CALLED.items()}
    used = [
        (str(place), node.value.id, node.attr)
        for place, tree in examples()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in known
    ]
    assert [each for each in used if each[2] not in known[each[1]]] == []
    assert len(used) > 20


def test_json_can_be_read() -> None:
    for place, block in documents.blocks("json"):
        try:
            json.loads(block.text)
        except json.JSONDecodeError as error:
            pytest.fail(f"{place}: {error}")


def test_yaml_can_be_read_and_is_what_it_says_it_is() -> None:
    schema = json.loads((ROOT / "helm/sana-gateway/values.schema.json").read_text())
    kinds = set()
    for place, block in documents.blocks("yaml"):
        loaded: Any = list(yaml.safe_load_all(block.text))
        if block.text.startswith("# my-values.yaml"):
            kinds.add("values")
            # Each value by itself: what is left out is in the chart's own.
            jsonschema.validate(loaded[0], _without_required(schema))
        elif "workload:" in block.text:
            kinds.add("scenario")
            parse(loaded[0], str(place))
    assert kinds == {"values", "scenario"}


def _without_required(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_required(value) for key, value in schema.items() if key != "required"}
    return [_without_required(each) for each in schema] if isinstance(schema, list) else schema


def test_settings_in_toml_are_settings_of_ours() -> None:
    looked_at = 0
    for place, block in documents.blocks("toml"):
        loaded = tomllib.loads(block.text)
        if "project" in loaded:
            continue
        looked_at += 1
        ours = {key: value for key, value in loaded.items() if key not in ROLES}
        known = GatewaySettings.model_fields
        assert set(ours) <= set(known), str(place)
        try:
            GatewaySettings(**ours)
        except ValidationError as error:
            wrong = [each for each in error.errors() if each["type"] == "extra_forbidden"]
            assert wrong == [], str(place)
    assert looked_at > 1


class Balance(HTMLParser):
    """Notices elements that are not closed."""

    VOID: Final = {"br", "img", "input", "link", "meta"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_first_steps_name_what_the_playground_shows() -> None:
    sources = (ROOT / "sdk_adapters/web/src").rglob("*.ts*")
    shown = "\n".join(path.read_text() for path in sources if path.suffix in {".ts", ".tsx"})
    steps = documents.section(Path("docs/start.md"), "3-your-camera")
    named = set(re.findall(r"\*\*([A-Z][\w ]*)\*\*", steps))
    assert len(named) > 10
    for each in named:
        assert re.search(rf"[\">]\s*{each}\s*[\"<]", shown), each


def test_html_is_closed() -> None:
    for _, block in documents.blocks("html"):
        balance = Balance()
        balance.feed(block.text)
        balance.close()
        assert balance.open == []


def test_drawings_are_of_a_known_kind() -> None:
    kinds = re.compile(r"flowchart (LR|TB|TD)$|sequenceDiagram$|stateDiagram-v2$")
    drawn = list(documents.blocks("mermaid"))
    assert len(drawn) > 5
    for place, block in drawn:
        lines = block.text.splitlines()
        assert kinds.match(lines[0]), str(place)
        for sign, other in ("[]", "()", "{}"):
            assert block.text.count(sign) == block.text.count(other), str(place)
        assert sum(line.strip().startswith("subgraph") for line in lines) + sum(
            line.strip().startswith(("loop", "note right")) for line in lines
        ) == sum(line.strip() in {"end", "end note"} for line in lines), str(place)
