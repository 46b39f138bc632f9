"""Drives a headless Chromium over its DevTools protocol, through a pipe.

A pipe needs no port and no library: messages are JSON, each ended by a zero byte. One
browser serves all sessions of a process, a page and a profile each.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_S: Final = 60.0
"""How long the browser may take to start, or a page to load; on a busy machine that is long."""
ANSWER_S: Final = 30.0
"""How long a call of the protocol may take."""
STOP_S: Final = 5.0
MESSAGE: Final = 1 << 26
"""Longest message."""
SAID: Final = 256
"""Most lines of a page's console that are kept; then the oldest goes."""

_FLAGS: Final = (
    "--headless",
    "--disable-gpu",
    "--mute-audio",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--allow-file-access-from-files",
    "--use-fake-device-for-media-stream",
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
_TRUSTING: Final = (
    # The camera without asking, and this host's addresses before that.
    "--use-fake-ui-for-media-stream",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
)
_LAUNCH: Final = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execvp(sys.argv[3], sys.argv[3:])"
)
"""The ends of the pipe are descriptors 3 and 4 of the browser."""


class BrowserError(Exception):
    """The browser did not do what it was asked, or has ended."""


def found() -> str | None:
    """Returns the path of a browser; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A running browser."""

    def __init__(self) -> None:
        self.version = ""
        """For example `Chrome/156.0.8078.79`; known once started."""
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._number = 0
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.WriteTransport | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(
        self, path: str, *flags: str, prefix: Sequence[str] = (), trusting: bool = True
    ) -> None:
        """Starts it with an empty profile.

        Args:
            path: The program.
            flags: Options to add.
            prefix: Words before the command, for example `ip netns exec NAME`.
            trusting: Whether pages get what they want. As users have it, a page has no camera
                before `Page.allow_camera`, and does not know this host's addresses until then.

        Raises:
            BrowserError: It does not start.
        """
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        loop = asyncio.get_running_loop()
        options = [*_FLAGS, f"--user-data-dir={self._profile.name}", *flags]
        if trusting:
            options += _TRUSTING
        if os.geteuid() == 0:
            options.append("--no-sandbox")
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _LAUNCH,
                str(theirs_in),
                str(theirs_out),
                *prefix,
                path,
                *options,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,
                env={**os.environ, "HOME": self._profile.name},
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        reader = asyncio.StreamReader(limit=MESSAGE)
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours_in, "rb", buffering=0)
        )
        self._writer, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(ours_out, "wb", buffering=0)
        )
        self._reading = asyncio.create_task(self._read(reader))
        self.version = str((await self.ask("Browser.getVersion", wait_s=START_S))["product"])

    async def ask(
        self,
        method: str,
        session: str = "",
        wait_s: float | None = ANSWER_S,
        **parameters: Any,  # noqa: ANN401 - of the protocol
    ) -> dict[str, Any]:
        """Calls a method of the protocol and returns what it returns.

        Args:
            method: Its name.
            session: The page that it is about, if it is about one.
            wait_s: How long to wait for the answer; None: for ever.
            parameters: Its parameters.

        Raises:
            BrowserError: It was refused, no answer came, or the browser has ended.
        """
        if self._writer is None or self._writer.is_closing():
            raise BrowserError("the browser is closed")
        self._number += 1
        number = self._number
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._writer.write(json.dumps(message).encode() + b"\0")
        try:
            async with asyncio.timeout(wait_s):
                return await answer
        except TimeoutError:
            raise BrowserError(f"no answer to {method}") from None
        finally:
            self._asked.pop(number, None)

    async def open(self, url: str) -> Page:
        """Opens a page in a window and a profile of its own.

        Raises:
            BrowserError: It does not load.
        """
        context = str((await self.ask("Target.createBrowserContext"))["browserContextId"])
        target = await self.ask(
            "Target.createTarget", url="about:blank", browserContextId=context, newWindow=True
        )
        attached = await self.ask(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self, str(attached["sessionId"]), context)
        self._pages[page.session] = page
        try:
            for domain in ("Page", "Runtime", "Log"):
                await self.ask(f"{domain}.enable", page.session)
            await page.go(url)
        except BaseException:
            await page.close()
            raise
        return page

    def forget(self, page: Page) -> None:
        """A page is closed."""
        self._pages.pop(page.session, None)

    async def close(self) -> None:
        """Ends it with all its processes. Repeating it is no error."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(BrowserError):
                await self.ask("Browser.close", wait_s=STOP_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await asyncio.to_thread(self._profile.cleanup)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            while True:
                self._received(json.loads((await reader.readuntil(b"\0"))[:-1]))
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(BrowserError("the browser has ended"))

    def _received(self, message: dict[str, Any]) -> None:
        answer = self._asked.get(message.get("id", 0))
        if answer is not None and not answer.done():
            if "error" in message:
                answer.set_exception(BrowserError(message["error"]["message"]))
            else:
                answer.set_result(message["result"])
        elif (page := self._pages.get(message.get("sessionId", ""))) and "method" in message:
            page.happened(message["method"], message["params"])


class Page:
    """A page of the browser."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self.session = session
        self.said: deque[str] = deque(maxlen=SAID)
        """Its console, and what nobody caught."""
        self._browser = browser
        self._context = context
        self._loaded = asyncio.Event()

    async def go(self, url: str) -> None:
        """Loads a document and waits until it and its scripts are there.

        Raises:
            BrowserError: It does not load.
        """
        self._loaded.clear()
        told = await self._browser.ask("Page.navigate", self.session, url=url)
        if reason := told.get("errorText"):
            raise BrowserError(f"{url} does not load: {reason}")
        try:
            async with asyncio.timeout(START_S):
                await self._loaded.wait()
        except TimeoutError:
            raise BrowserError(f"{url} does not load: {[*self.said]}") from None

    async def run(
        self,
        expression: str,
        wait_s: float | None = ANSWER_S,
    ) -> Any:  # noqa: ANN401 - whatever the page returns
        """Returns the value of an expression, awaited where it is a promise.

        Raises:
            BrowserError: It threw, no answer came, or the browser has ended.
        """
        result = await self._browser.ask(
            "Runtime.evaluate",
            self.session,
            wait_s,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        if (thrown := result.get("exceptionDetails")) is not None:
            raise BrowserError(_words(thrown))
        return result["result"].get("value")

    async def allow_camera(self, origin: str) -> None:
        """Gives documents of an origin the camera, as a user does who is asked."""
        await self._browser.ask(
            "Browser.grantPermissions",
            origin=origin,
            permissions=["videoCapture"],
            browserContextId=self._context,
        )

    async def close(self) -> None:
        """Closes it."""
        self._browser.forget(self)
        with suppress(BrowserError):
            await self._browser.ask(
                "Target.disposeBrowserContext", browserContextId=self._context, wait_s=STOP_S
            )

    def happened(self, method: str, parameters: dict[str, Any]) -> None:
        """Takes an event of the protocol."""
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.exceptionThrown":
                self.said.append(_words(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                values = [str(each.get("value", "")) for each in parameters["args"]]
                self.said.append(" ".join(values))
            case "Log.entryAdded":
                self.said.append(str(parameters["entry"]["text"]))


def _words(thrown: dict[str, Any]) -> str:
    exception = thrown.get("exception", {})
    return str(exception.get("description") or exception.get("value") or thrown.get("text"))
