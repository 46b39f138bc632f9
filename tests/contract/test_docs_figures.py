"""Figures that other pages quote are those of the page of measurements."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract import documents

pytestmark = pytest.mark.contract

SOURCE = Path("docs/performance.md")
ROW = re.compile(r"^\|(?P<cells>.*)\|[^|]*\((?:docs/)?performance\.md#(?P<anchor>[\w-]+)\)[^|]*\|$")
NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?!\w|\.\d|,\d{3})")


def rows(page: Path) -> list[tuple[str, str]]:
    """Returns the rows of a page that quote measurements, and the sections that they quote."""
    found = [ROW.match(line) for line in documents.text(page).splitlines()]
    return [(match["cells"], match["anchor"]) for match in found if match]


def wrong(cells: str, source: str) -> list[str]:
    """Returns the figures of a row that its source does not have."""
    figure = cells.rpartition("|")[2]
    known = set(NUMBER.findall(source))
    # 33 quotes 32.9, and 0.22 quotes 0.224.
    return [
        number
        for number in NUMBER.findall(figure)
        if number not in known and not any(_rounds(each, number) for each in known)
    ]


def _rounds(exact: str, quoted: str) -> bool:
    digits = len(quoted.partition(".")[2])
    return f"{float(exact.replace(',', '')):,.{digits}f}" == quoted


@pytest.mark.parametrize("page", [Path("docs/sizing.md"), Path("README.md")], ids=str)
def test_quoted_figures_are_the_measured_ones(page: Path) -> None:
    for cells, anchor in rows(page):
        assert wrong(cells, documents.section(SOURCE, anchor)) == [], cells


def test_both_pages_quote() -> None:
    assert len(rows(Path("docs/sizing.md"))) > 8


@pytest.mark.parametrize(
    ("quoted", "right"),
    [("0.224 ms", True), ("0.22 ms", True), ("33 ms", True), ("0.23 ms", False), ("34 ms", False)],
)
def test_a_figure_may_be_rounded_and_no_more(quoted: str, right: bool) -> None:
    source = "| a | ours | 0.224 (0.218-0.246) ms | 32.9 ms |"
    assert (wrong(f" what | {quoted} ", source) == []) is right
