"""The schema that is kept for editors, and what it is for."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from scheduler.scenario import library
from scheduler.scenario.scenario import schema
from tests.required import ROOT

pytestmark = pytest.mark.contract


@pytest.fixture
def kept() -> dict[str, Any]:
    """What stands in docs/."""
    document: dict[str, Any] = json.loads((ROOT / "docs/scenario.schema.json").read_text())
    return document


def test_the_schema_in_the_docs_is_what_the_command_prints() -> None:
    # To renew it: sana-gateway simulate --schema > docs/scenario.schema.json
    assert (ROOT / "docs/scenario.schema.json").read_text() == schema()


@pytest.mark.parametrize("name", [name for name in library.names() if name != "default"])
def test_every_preset_follows_it(kept: dict[str, Any], name: str) -> None:
    jsonschema.validate(yaml.safe_load(library.text(name)), kept)


@pytest.mark.parametrize(
    "wrong",
    [
        {"duration": "10 minutes"},
        {"workload": {"arrivals": {"kind": "steady", "conected": 3}}},
        {"load": {"wires": {"pigeon": 1}}},
        {"slo": {"join": {"p96": 1}}},
        {"hours": 3},
    ],
)
def test_what_the_command_refuses_an_editor_marks(
    kept: dict[str, Any], wrong: dict[str, Any]
) -> None:
    document = yaml.safe_load(library.text("smoke"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, **wrong}, kept)
