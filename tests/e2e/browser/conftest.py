"""A browser, the page it shows, and the service that the page is a client of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.browser.chromium import Browser
from tests.e2e.browser.site import served
from tests.e2e.browser.viewer import Viewer
from tests.stack import Stack

ROOT = Path(__file__).resolve().parents[1]
"""What the page and its scripts lie below."""
Open = Callable[[], Viewer]


@pytest.fixture(scope="package")
def site() -> Iterator[str]:
    """Address of our page, on another origin than the service."""
    with served(ROOT) as origin:
        yield f"{origin}/browser/page.html"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with Browser() as running:
        yield running


@pytest.fixture
def open_viewer(browser: Browser, site: str, full_size: Stack) -> Iterator[Open]:
    """Opens pages, which are closed after the test; a page that complained fails it."""
    with ExitStack() as pages:
        opened: list[Viewer] = []

        def one() -> Viewer:
            viewer = Viewer(pages.enter_context(browser.open(site)), full_size.http_url)
            opened.append(viewer)
            return viewer

        yield one
        assert [viewer.page.said for viewer in opened] == [[]] * len(opened)
