"""Drives Debian's Chromium over its DevTools protocol, through a pipe.

A pipe needs no port and no library: messages are JSON, each ended by a zero byte. One thread
reads; whoever asked waits on a future. Tests may therefore be plain functions, and what goes on
in several pages at once is begun with `Page.begin`.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from tests.required import require_command

WAIT_S: Final = 60.0
"""Longest wait for a page: a machine that runs other tests beside this one is slow."""
STOP_S: Final = 10.0

FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--mute-audio",
    "--no-first-run",
    "--remote-debugging-pipe",
    # A camera, without asking.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    # Pages that nobody looks at run at full speed.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    # No calls home.
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
)


class PageError(Exception):
    """What a page threw."""


class Browser:
    """A running Chromium. A context manager: it ends with all its processes."""

    def __init__(self, *flags: str, prefix: Sequence[str] = ()) -> None:
        """Starts it with an empty profile.

        Args:
            flags: Options to add.
            prefix: Words before the command, for example `ip netns exec NAME`.
        """
        chromium = require_command("chromium", "install Debian's package chromium, or `make setup`")
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        command = [*prefix, str(chromium), *FLAGS, f"--user-data-dir={self._profile.name}", *flags]
        self.log = Path(self._profile.name) / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                # The ends of the pipe are its descriptors 3 and 4.
                ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "-", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,
                env={**os.environ, "HOME": self._profile.name},
            )
        os.close(theirs_in)
        os.close(theirs_out)
        self._out = os.fdopen(ours_out, "wb", buffering=0)
        self._number = 0
        self._asked: dict[int, Future[Any]] = {}
        self._pages: dict[str, Page] = {}
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, args=(os.fdopen(ours_in, "rb"),))
        self._reader.start()
        self.version = str(self.ask("Browser.getVersion")["product"])
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
        with suppress(OSError, PageError, TimeoutError):
            self.ask("Browser.close", wait_s=STOP_S)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._out.close()
        self._reader.join(STOP_S)
        self._profile.cleanup()

    def open(self, url: str) -> Page:
        """Opens a page in a window and a profile of its own."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask(
            "Target.createTarget", url="about:blank", browserContextId=context, newWindow=True
        )
        attached = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"], context)
        self._pages[page.session] = page
        page.go(url)
        return page

    def begin(self, method: str, session: str = "", **parameters: Any) -> Future[Any]:
        """Calls a method of the protocol; the future has what it returns."""
        future: Future[Any] = Future()
        with self._lock:
            self._number += 1
            self._asked[self._number] = future
            message = {"id": self._number, "method": method, "params": parameters}
            if session:
                message["sessionId"] = session
            self._out.write(json.dumps(message).encode() + b"\0")
        return future

    def ask(
        self, method: str, session: str = "", wait_s: float = WAIT_S, **parameters: Any
    ) -> dict[str, Any]:
        """Calls a method of the protocol and returns what it returns.

        Raises:
            PageError: It was refused.
            TimeoutError: No answer came.
        """
        result: dict[str, Any] = self.begin(method, session, **parameters).result(wait_s)
        return result

    def forget(self, page: Page) -> None:
        """A page is closed."""
        self._pages.pop(page.session, None)

    def _read(self, stream: BinaryIO) -> None:
        rest = b""
        with stream:
            while part := os.read(stream.fileno(), 1 << 16):
                *messages, rest = (rest + part).split(b"\0")
                for message in messages:
                    self._received(json.loads(message))
        for future in list(self._asked.values()):
            future.set_exception(PageError("Chromium has ended"))

    def _received(self, message: dict[str, Any]) -> None:
        with self._lock:
            future = self._asked.pop(message.get("id", 0), None)
        if future is not None and "error" in message:
            future.set_exception(PageError(message["error"]["message"]))
        elif future is not None:
            future.set_result(message["result"])
        elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
            page.happened(message["method"], message["params"])


class Page:
    """A page of the browser. A context manager: it is closed at the end."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        """Takes a page that is open."""
        self.session = session
        self.said: list[str] = []
        """Its console, and what nobody caught."""
        self._browser = browser
        self._context = context
        self._loaded = threading.Event()

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
        """Closes it."""
        self._browser.ask("Target.disposeBrowserContext", browserContextId=self._context)
        self._browser.forget(self)

    def go(self, url: str) -> None:
        """Loads a document and waits until it and its scripts are there."""
        for domain in ("Page", "Runtime", "Log"):
            self._browser.ask(f"{domain}.enable", self.session)
        self._loaded.clear()
        self._browser.ask("Page.navigate", self.session, url=url)
        if not self._loaded.wait(WAIT_S):
            raise TimeoutError(f"{url} does not load: {self.said}")

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
        value: Future[Any] = Future()

        def done(answer: Future[Any]) -> None:
            if (error := answer.exception()) is not None:
                value.set_exception(error)
            elif (thrown := answer.result().get("exceptionDetails")) is not None:
                value.set_exception(PageError(_words(thrown)))
            else:
                value.set_result(answer.result()["result"].get("value"))

        self._browser.begin(
            "Runtime.evaluate",
            self.session,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        ).add_done_callback(done)
        return value

    def screenshot(self, path: Path) -> Path:
        """Writes what it shows as a PNG file."""
        picture = self._browser.ask("Page.captureScreenshot", self.session, format="png")
        path.write_bytes(base64.b64decode(picture["data"]))
        return path

    def happened(self, method: str, parameters: dict[str, Any]) -> None:
        """Takes an event of the protocol. Runs on the browser's thread."""
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            self.said.append(_words(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            values = [str(each.get("value", "")) for each in parameters["args"]]
            self.said.append(" ".join(values))
        elif method == "Log.entryAdded":
            self.said.append(parameters["entry"]["text"])


def _words(thrown: dict[str, Any]) -> str:
    exception = thrown.get("exception", {})
    return str(exception.get("description") or exception.get("value") or thrown["text"])
