"""The report as a page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib import resources

import pytest

from sdk_adapters.harness.metrics import METRICS
from sdk_adapters.harness.records import Event
from sdk_adapters.harness.report import charts, html
from sdk_adapters.harness.report.model import Failure, LoadReport
from tests.unit.sdk_adapters.load_reports import bounds, empty, full

pytestmark = pytest.mark.unit

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&lt;{{ 7*7 }}"
VOID = {"meta", "link", "br", "img", "input", "hr"}
REFERRING = {"src", "href", "action", "data", "poster", "srcset", "xlink:href", "background"}
CHARTS = (
    *("Sessions", "Frames", "What went wrong", "Join", "Start to first frame"),
    *("Command to acknowledgement", "Prompt to pixels", "Glass to glass", "Frame lateness"),
    *("Sessions of the pool", "Batch fill", "Deadline misses", "Queue age", "Loop lag"),
    *("Gateway CPU per session", "Memory", "CPU", "Lateness"),
    *("How long users wait", "How evenly pictures come", "How a join divides"),
)


class Seen(HTMLParser):
    """The elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    @property
    def said(self) -> str:
        """All text."""
        return " ".join(" ".join(self.text).split())


def hostile(report: LoadReport) -> LoadReport:
    """The same with markup wherever a name or a sentence of others stands."""
    return report.model_copy(
        update={
            "run": report.run.model_copy(
                update={
                    "scenario": HOSTILE,
                    "summary": HOSTILE,
                    "began_at": HOSTILE,
                    "commit": HOSTILE,
                    "versions": {HOSTILE: HOSTILE},
                    "service": report.run.service.model_copy(
                        update={"version": HOSTILE, "model": HOSTILE, "config": {HOSTILE: HOSTILE}}
                    ),
                }
            ),
            "validity": report.validity.model_copy(update={"valid": False, "reasons": (HOSTILE,)}),
            "failures": (Failure(outcome=HOSTILE, kind=HOSTILE, sessions=1),),
            "worst": tuple(
                each.model_copy(
                    update={"why": (HOSTILE,), "session_id": HOSTILE, "trace_ids": (HOSTILE,)}
                )
                for each in report.worst
            ),
            "not_measured": {HOSTILE: HOSTILE},
            "breakdowns": {HOSTILE: {HOSTILE: report.breakdowns["wire"]["grpc"]}},
            "notes": (HOSTILE,),
        }
    )


def test_everything_that_is_opened_is_closed() -> None:
    assert Seen(html.render(full())).open == []


def test_all_charts_are_there_each_with_lines() -> None:
    page = html.render(full())
    seen = Seen(page)
    plots = [attributes for _, attributes in seen.tags if "data-chart" in attributes]
    assert [plot["data-chart"] for plot in plots] == [str(n) for n in range(len(CHARTS))]
    for title in CHARTS:
        assert re.search(rf"<h3>{title}\b", page), title
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert re.search(r'<path class="(blue|amber|red|grey)', svg)


def test_every_metric_stands_there_with_its_meaning() -> None:
    report = full()
    said = Seen(html.render(report)).said
    for name in METRICS:
        assert name in said
        assert html.said(METRICS[name].meaning) in said


def test_it_says_what_was_run_and_what_was_not_measured() -> None:
    report = full({"join": bounds(p95=100)})
    said = Seen(html.render(report)).said
    assert "Failed. 1 of 1 threshold missed." in said
    assert "join p95 is 120 ms; asked: at most 100 ms" in said
    assert "Nobody came." in said
    assert "simulated" in said
    assert "kill -9 of an actor" in said
    assert "actor_lost" in said
    assert "a" * 32 in said
    assert "no session moved" in said
    assert report.run.config_hash[:12] in said


def test_a_run_that_was_ended_early_says_so() -> None:
    assert "The run was ended early." in Seen(html.render(full(measured_s=(10.0, 25.0)))).said


def test_nothing_refers_to_anything_outside() -> None:
    page = html.render(full())
    for tag, attributes in Seen(page).tags:
        for name in REFERRING & attributes.keys():
            assert (attributes[name] or "").startswith("data:"), (tag, name)
    assert not re.search(r"@import|url\(|https?://|fetch\(|XMLHttpRequest", page)
    assert "default-src 'none'" in page


def test_a_page_of_a_run_that_nobody_came_to_is_whole() -> None:
    seen = Seen(html.render(empty()))
    assert seen.open == []
    assert "Invalid." in seen.said
    assert not [1 for _, attributes in seen.tags if "data-chart" in attributes]


def test_names_with_markup_stay_names() -> None:
    tame, report = full(events=[]), hostile(full(events=[Event(20.0, HOSTILE)]))
    page = html.render(report)
    seen = Seen(page)
    elements = [tag for tag, _ in seen.tags]
    assert "img" not in elements
    assert elements.count("script") == [tag for tag, _ in Seen(html.render(tame)).tags].count(
        "script"
    )
    assert not [1 for _, attributes in seen.tags if any(n.startswith("on") for n in attributes)]
    assert HOSTILE in seen.said
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|\b49\b", seen.said)


def test_what_the_script_reads_cannot_end_its_element() -> None:
    report = full()
    timeline = report.timeline.model_copy(update={"levels": report.timeline.levels})
    page = html.render(report.model_copy(update={"timeline": timeline}))
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert len(json.loads(data)) == len(CHARTS)
    assert "<" not in data


def test_only_our_script_may_run() -> None:
    page = html.render(full())
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'", page)


def test_charts_are_thinned_when_a_run_is_long() -> None:
    report = full()
    seconds = 40
    times = 60
    long = report.timeline.model_copy(
        update={
            name: tuple(getattr(report.timeline, name)) * times
            for name in (
                "connected",
                "playing",
                "waiting",
                "frames",
                "lost",
                "freezes",
                "failures",
                "cpu",
                "lag_ms",
            )
        }
        | {
            "at_s": tuple(float(n + 1) for n in range(seconds * times)),
            "values": {},
            "levels": {},
            "rss_mb": (),
            "descriptors": (),
        }
    )
    sections = charts.over_time(report.model_copy(update={"timeline": long}))
    for chart in (chart for section in sections for chart in section.charts):
        assert len(chart.points) <= charts.COLUMNS
        assert {len(line.values) for line in chart.lines} == {len(chart.positions)}


# -- style ---------------------------------------------------------------------------------


def _schemes() -> list[dict[str, str]]:
    style = (resources.files("sdk_adapters.harness.report") / "page/page.css").read_text("utf-8")
    found = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    return [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", each)) for each in found]


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", _schemes(), ids=["light", "dark"])
def test_text_can_be_read_and_lines_be_told_from_the_ground(scheme: dict[str, str]) -> None:
    for text, ground in (
        *(("ink", "ground"), ("ink", "panel"), ("faint", "ground"), ("faint", "panel")),
        *(("met", "met-ground"), ("missed", "missed-ground"), ("invalid", "invalid-ground")),
        ("panel", "red"),
    ):
        assert _contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
    for line in charts.COLOURS:
        assert _contrast(scheme[line], scheme["panel"]) >= 3.0, line
