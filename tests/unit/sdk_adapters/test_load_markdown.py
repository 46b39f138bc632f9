"""The report for a comment on a pull request."""

from __future__ import annotations

import pytest

from sdk_adapters.harness.report import markdown
from sdk_adapters.harness.report.model import Failure
from tests.unit.sdk_adapters.load_reports import bounds, empty, full

pytestmark = pytest.mark.unit


def test_it_begins_with_what_came_of_it() -> None:
    lines = markdown.render(full({"join": bounds(p95=100)})).splitlines()
    assert lines[0] == "### ❌ Load test `made-up`: failed"
    assert lines[2].startswith("1 of 1 threshold missed. 30 s measured, 3 sessions, seed 1.")
    assert "| join p95 | 120 ms | ≤ 100 ms | ❌ |" in lines


def test_all_tables_are_whole() -> None:
    lines = markdown.render(full({"join": bounds(p95=100)})).splitlines()
    widths: list[int] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|"):
            cells = line.count(" | ")
            if not before.startswith("|"):
                widths.append(cells)
            assert cells == widths[-1], line
    assert len(widths) == 4


def test_an_invalid_run_says_why() -> None:
    text = markdown.render(full(invalid=["the generator was slow"]))
    assert "### ⚠ Load test `made-up`: invalid" in text
    assert "* the generator was slow" in text


def test_names_with_markup_stay_names() -> None:
    bad = "</details><script>|`x`@all\n# [a](b)"
    report = full()
    report = report.model_copy(
        update={
            "failures": (Failure(outcome="failed", kind=bad, sessions=1),),
            "run": report.run.model_copy(update={"scenario": bad, "summary": bad}),
        }
    )
    text = markdown.render(report)
    assert "<script" not in text.replace("`</details><script>|'x'@all # [a](b)`", "")
    assert text.count("</details>") == 2
    assert "\n# " not in text
    assert "\\@all" in text


def test_a_run_that_nobody_came_to_has_a_report() -> None:
    assert "no session counts" in markdown.render(empty())
