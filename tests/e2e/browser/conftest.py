"""A browser, the page it shows, and the service that the page is a client of."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.browser.chromium import Browser
from tests.e2e.browser.viewer import Viewer
from tests.stack import Stack

HERE = Path(__file__).resolve().parent
Open = Callable[[], Viewer]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        """Says nothing."""


@pytest.fixture(scope="package")
def site() -> Iterator[str]:
    """Address of our page, on another origin than the service."""
    handler = functools.partial(_Quiet, directory=str(HERE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/page.html"
        server.shutdown()
        thread.join()


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
