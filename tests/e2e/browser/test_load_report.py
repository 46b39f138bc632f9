"""The page of a load report in a browser: it opens from disk, says nothing, fits a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk_adapters.harness.report import html
from tests.e2e.browser.chromium import Browser, Page
from tests.unit.sdk_adapters.load_reports import bounds, full
from tests.unit.sdk_adapters.test_load_html import CHARTS, hostile

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

POINT = """
(() => {
  const plot = document.querySelector("[data-chart='0']");
  const box = plot.getBoundingClientRect();
  const at = {clientX: box.x + box.width * 0.5, clientY: box.y + 10};
  plot.dispatchEvent(new PointerEvent("pointermove", at));
  const tip = plot.querySelector(".tip");
  return [getComputedStyle(tip).display, tip.innerText];
})()
"""
RAN = "performance.getEntriesByType('resource').length"
"""What a page asked for beside itself."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A report with something in every part, and markup in every name."""
    path = tmp_path / "report.html"
    path.write_text(html.render(hostile(full({"join": bounds(p95=100)}))), "utf-8")
    return path


@pytest.fixture
def page(browser: Browser, path: Path) -> Iterator[Page]:
    """The same, opened from disk; a page that complained fails the test."""
    with browser.open(f"file://{path}") as page:
        yield page
        assert page.said == []


def test_it_opens_without_a_word_and_asks_for_nothing(page: Page) -> None:
    assert page.run("document.querySelectorAll('[data-chart] svg path').length") > len(CHARTS)
    assert page.run(RAN) == 0


def test_values_under_the_pointer_are_told(page: Page) -> None:
    display, told = page.run(POINT)
    assert display == "block"
    assert told.splitlines() == [
        "20 s",
        "connected 2 sessions",
        "playing 1 sessions",
        "waiting 0 sessions",
    ]


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_a_phone_and_a_desk(browser: Browser, page: Page, width: int) -> None:
    browser.ask(
        "Emulation.setDeviceMetricsOverride",
        page.session,
        width=width,
        height=844,
        deviceScaleFactor=1,
        mobile=width < 500,
    )
    assert page.run("document.documentElement.scrollWidth") <= width
    # Of what is wide, only the inside of a table's box goes beyond the edge.
    assert page.run(
        "[...document.querySelectorAll('main > *, .card')]"
        ".every((each) => each.getBoundingClientRect().right <= innerWidth)"
    )
