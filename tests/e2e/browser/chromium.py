"""The load generator's browser for tests that are plain functions.

A thread of its own runs the browser's event loop; whoever asked waits on a future. What goes on
in several pages at once is begun with `Page.begin`.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from sdk_adapters.harness.generator.doors.chromium import browser as chromium
from tests.required import require_command

WAIT_S: Final = 60.0
"""Longest wait for a page: a machine that runs other tests beside this one is slow."""

PageError = chromium.BrowserError
"""What a page threw."""

ResultT = TypeVar("ResultT")


class Browser:
    """A running Chromium. A context manager: it ends with all its processes."""

    def __init__(self, *flags: str, prefix: Sequence[str] = (), trusting: bool = True) -> None:
        """Starts it with an empty profile; the arguments are those of the browser's `start`."""
        path = require_command("chromium", "install Debian's package chromium, or `make setup`")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._browser = chromium.Browser()
        try:
            self.do(self._browser.start(str(path), *flags, prefix=prefix, trusting=trusting))
        except BaseException:
            self.close()
            raise
        self.version = self._browser.version
        """For example `Chrome/156.0.8078.79`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends it."""
        try:
            self.do(self._browser.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def open(self, url: str) -> Page:
        """Opens a page in a window and a profile of its own."""
        return Page(self, self.do(self._browser.open(url)))

    def ask(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol and returns what it returns.

        Raises:
            PageError: It was refused, or no answer came.
        """
        return self.do(self._browser.ask(method, session, WAIT_S, **parameters))

    def begin(self, job: Coroutine[Any, Any, ResultT]) -> Future[ResultT]:
        """Runs something on the browser's thread."""
        return asyncio.run_coroutine_threadsafe(job, self._loop)

    def do(self, job: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Runs something on the browser's thread and waits for it."""
        return self.begin(job).result(2 * WAIT_S)


class Page:
    """A page of the browser. A context manager: it is closed at the end."""

    def __init__(self, browser: Browser, page: chromium.Page) -> None:
        """Takes a page that is open."""
        self._browser = browser
        self._page = page

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def session(self) -> str:
        """What the browser calls it."""
        return self._page.session

    @property
    def said(self) -> list[str]:
        """Its console, and what nobody caught."""
        return list(self._page.said)

    def close(self) -> None:
        """Closes it."""
        self._browser.do(self._page.close())

    def go(self, url: str) -> None:
        """Loads a document and waits until it and its scripts are there."""
        self._browser.do(self._page.go(url))

    def allow_camera(self, origin: str) -> None:
        """Gives documents of an origin the camera, where the browser does not trust them."""
        self._browser.do(self._page.allow_camera(origin))

    def run(self, expression: str, wait_s: float = WAIT_S) -> Any:
        """Returns the value of an expression, awaited where it is a promise.

        Raises:
            PageError: It threw.
            TimeoutError: It took too long.
        """
        try:
            return self.begin(expression).result(wait_s)
        except TimeoutError:
            raise TimeoutError(f"{expression[:200]} takes too long: {self.said[-5:]}") from None

    def begin(self, expression: str) -> Future[Any]:
        """Evaluates an expression; the future has its value."""
        return self._browser.begin(self._page.run(expression, None))

    def screenshot(self, path: Path) -> Path:
        """Writes what it shows as a PNG file."""
        picture = self._browser.ask("Page.captureScreenshot", self.session, format="png")
        path.write_bytes(base64.b64decode(picture["data"]))
        return path
