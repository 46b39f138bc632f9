"""Each target of `tests/fuzz`, led by coverage, for a minute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from tests.required import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 60


@pytest.mark.parametrize("name", TARGETS)
def test_a_minute_of_search_finds_nothing(name: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.fuzz", name, "--runs", "0"]
    command += ["--seconds", str(SECONDS), "--corpus", str(tmp_path / name), "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert figures.exists(), done.stderr[-4000:]
    found = json.loads(figures.read_text())
    assert not found["failed"], done.stderr[-4000:]
    assert found["inputs"] > 100
    assert found["coverage"] > 50
