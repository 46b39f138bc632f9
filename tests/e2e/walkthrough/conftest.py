"""A browser with a camera that shows the bay, the clip of it, and a service to edit them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.browser.chromium import Browser
from tests.e2e.walkthrough.playground import Playground
from tests.e2e.walkthrough.scene import Film, write_camera, write_clip
from tests.e2e.walkthrough.window import Window
from tests.stack import Stack, serving

ROUNDS = 6
"""Times that the clip shows the bay: a minute, longer than any story on a slow machine."""
SERVICE = (
    *("--model", "simulated", "--backend", "in-process"),
    *("--model-option", "chunk_ms=50", "--model-option", "size=640x352"),
)
"""Options of a service that any machine can afford; its colours change with the prompt."""


@pytest.fixture(scope="package")
def camera_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser's camera shows."""
    return write_camera(tmp_path_factory.mktemp("bay") / "camera.y4m", Film())


@pytest.fixture(scope="package")
def bay(camera_file: Path) -> Path:
    """The clip."""
    return write_clip(camera_file.parent / "bay.mp4", camera_file, ROUNDS)


@pytest.fixture(scope="package")
def browser(camera_file: Path) -> Iterator[Browser]:
    """Chromium as users have it: a page has the camera when it is allowed, not before."""
    with Browser(f"--use-file-for-fake-video-capture={camera_file}", trusting=False) as running:
        yield running


@pytest.fixture(scope="package")
def service() -> Iterator[Stack]:
    """A service that asks nobody who they are, with room for a shot and three copies of it."""
    with serving(*SERVICE, "--model-option", "resident_slots=4") as running:
        yield running


OpenWindow = Callable[[], Window]


@pytest.fixture
def open_window(browser: Browser) -> Iterator[OpenWindow]:
    """Opens windows, which are closed after the test; whatever a page complained of fails it.

    Errors of scripts, refused content (CSP) and files that did not load are among that.
    """
    with ExitStack() as windows:
        opened: list[Window] = []

        def one() -> Window:
            opened.append(windows.enter_context(Window(browser)))
            return opened[-1]

        yield one
        assert [line for each in opened for line in each.said()] == []


@pytest.fixture
def playground(open_window: OpenWindow, service: Stack) -> Iterator[Playground]:
    """The playground in a window of its own; its session is ended after the test."""
    page = Playground(open_window())
    page.open(service.http_url)
    yield page
    page.leave()
