"""The benchmark's report: JSON, table and chart."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from tests.bench.media import quoted, results
from tests.bench.media.chart import svg
from tests.bench.media.registry import ROWS
from tests.bench.media.results import INCUMBENT, OURS, Figure, Machine, Report, Target, report_of
from tests.bench.media.table import markdown, number, spread

pytestmark = pytest.mark.unit

TITLES = {name: row.title for name, row in ROWS.items()}


def report(*figures: Figure, notes: tuple[str, ...] = ()) -> Report:
    return Report(
        commit="abc",
        began="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        runs=3,
        quick=False,
        machine=Machine("a & b <cpu>", 2, 24.0, "Linux", 0.1),
        versions={"aiortc": "1"},
        figures=figures,
        notes=notes,
    )


FAST = Figure("latency", "to the packet", OURS, "ms", (9.0, 14.0, 11.0), Target(15))
SLOW = Figure("latency", "to the packet", INCUMBENT, "ms", (44.0,), quoted=True, note="Quoted.")
FEW = Figure("clean", "sessions", OURS, "", (4.0, 5.0, 4.0), Target(5, at_least=True))


def test_the_median_decides_whether_a_target_is_met() -> None:
    assert (FAST.median, FAST.met) == (11.0, True)
    assert (FEW.median, FEW.met) == (4.0, False)
    assert SLOW.met is None


def test_a_report_is_read_back_as_it_was_written() -> None:
    written = report(FAST, SLOW, FEW, notes=("one",))
    plain = json.loads(json.dumps(written.as_json()))
    assert report_of(plain) == written
    assert plain["figures"][0]["median"] == 11.0
    assert (plain["figures"][0]["min"], plain["figures"][0]["max"]) == (9.0, 14.0)


def test_a_report_of_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match=results.SCHEMA):
        report_of({**report().as_json(), "schema": "other"})


def test_the_table_shows_spread_target_and_what_was_quoted() -> None:
    text = markdown(report(FAST, SLOW, FEW, notes=("no GPU",)), TITLES)
    assert "| to the packet | ours | 11.0 (9.00-14.0) ms | ≤ 15 | met |" in text
    assert "| to the packet | incumbent (quoted) | 44.0 ms |  |  |" in text
    assert "| sessions | ours | 4.00 (4.00-5.00) | ≥ 5 | **missed** |" in text
    assert TITLES["clean"] in text
    assert "* no GPU" in text


def test_numbers_have_three_digits() -> None:
    assert [number(value) for value in (0, 0.1234, 1.234, 12.34, 123.4, 1234)] == [
        "0",
        "0.123",
        "1.23",
        "12.3",
        "123",
        "1,234",
    ]
    assert number(float("nan")) == "-"
    assert spread(SLOW) == "44.0"


def test_the_chart_is_well_formed_and_names_every_figure() -> None:
    root = ET.fromstring(svg(report(FAST, SLOW, FEW), TITLES))  # noqa: S314 - our own
    texts = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert any("to the packet" in text for text in texts)
    assert "incumbent (quoted)" in texts
    assert "target ≥ 5: missed" in texts
    assert any("<cpu>" in text for text in texts)


def test_what_is_quoted_belongs_to_a_row_and_says_so() -> None:
    assert quoted.FIGURES.keys() <= ROWS.keys()
    assert "quoted" in quoted.SOURCE
