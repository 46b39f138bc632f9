"""The benchmark runs: a figure that nobody can take any more is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.media.registry import ROWS
from tests.bench.media.results import INCUMBENT, OURS, SCHEMA, STOCK
from tests.required import ROOT, require

pytestmark = [pytest.mark.e2e, pytest.mark.alone]


def measured(out: Path, *names: str, timeout: float = 110) -> dict[str, Any]:
    """Runs rows of the benchmark, quickly; returns the report."""
    command = [sys.executable, "-m", "tests.bench.media", "--quick", "--json", str(out)]
    done = subprocess.run(
        [*command, "--only", *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(out.read_text())
    return report


@pytest.mark.slow
def test_a_row_of_the_media_benchmark_can_be_measured(tmp_path: Path) -> None:
    report = measured(tmp_path / "out.json", "gateway_cpu")
    assert report["schema"] == SCHEMA
    assert {figure["system"] for figure in report["figures"]} == {OURS, STOCK}
    for figure in report["figures"]:
        assert figure["median"] >= 0
        assert min(figure["detail"]["fps worst"]) > 0
        assert figure["detail"]["lost packets"] == [0]
    costs = [each for each in report["figures"] if each["name"].endswith("CPU an outgoing frame")]
    assert all(0 < cost["median"] < 100 for cost in costs)
    assert "gateway" in (tmp_path / "out.md").read_text()
    assert (tmp_path / "out.svg").read_text().startswith("<svg")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_row_of_the_media_benchmark_can_be_measured(tmp_path: Path) -> None:
    require(".venvs/reactor-native/bin/python")
    report = measured(tmp_path / "out.json", *ROWS, timeout=1700)
    assert {figure["row"] for figure in report["figures"]} == set(ROWS)
    assert {OURS, INCUMBENT} <= {figure["system"] for figure in report["figures"]}
