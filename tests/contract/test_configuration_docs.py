"""The settings file in the documentation is the one that the command writes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.required import ROOT

pytestmark = pytest.mark.contract

FILE = ROOT / "docs/sana-gateway.toml"
COMMAND = (str(Path(sys.executable).parent / "sana-gateway"), "config", "print", "--docs")


def test_the_documented_settings_are_those_of_the_code() -> None:
    # To renew it: .venv/bin/sana-gateway config print --docs > docs/sana-gateway.toml
    ours = ("SANA_", "RAY_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    made = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=True)
    assert FILE.read_text() == made.stdout


def test_the_example_of_the_guide_is_understood() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    example = text.partition("```toml\n")[2].partition("```")[0]
    assert {"head", "actor", "limits"} <= tomllib.loads(example).keys()
