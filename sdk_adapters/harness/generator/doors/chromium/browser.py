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
from contextlib import suppress
from typing import Any, Final

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_S: Final = 60.0
"""How long the browser may take to start; on a busy machine that is long."""
ANSWER_S: Final = 30.0
"""How long a call of the protocol may take."""
STOP_S: Final = 5.0
MESSAGE: Final = 1 << 24
"""Longest message."""

_FLAGS: Final = (
    "--headless",
    "--disable-gpu",
    "--mute-audio",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--allow-file-access-from-files",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
)
_LAUNCH: Final = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
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
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.WriteTransport | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, path: str) -> None:
        """Starts it.

        Raises:
            BrowserError: It does not start.
        """
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        loop = asyncio.get_running_loop()
        flags = [*_FLAGS, f"--user-data-dir={self._profile.name}"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _LAUNCH,
                str(theirs_in),
                str(theirs_out),
                path,
                *flags,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,
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
        await self.ask("Browser.getVersion", wait_s=START_S)

    async def ask(
        self,
        method: str,
        session: str = "",
        wait_s: float = ANSWER_S,
        **parameters: Any,  # noqa: ANN401 - of the protocol
    ) -> dict[str, Any]:
        """Calls a method of the protocol and returns what it returns.

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
        """Opens a page in a profile of its own."""
        context = str((await self.ask("Target.createBrowserContext"))["browserContextId"])
        target = await self.ask("Target.createTarget", url=url, browserContextId=context)
        attached = await self.ask(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        return Page(self, str(attached["sessionId"]), context)

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
        try:
            while True:
                message = json.loads((await reader.readuntil(b"\0"))[:-1])
                answer = self._asked.get(message.get("id", 0))
                if answer is None or answer.done():
                    continue
                if "error" in message:
                    answer.set_exception(BrowserError(message["error"]["message"]))
                else:
                    answer.set_result(message["result"])
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(BrowserError("the browser has ended"))


class Page:
    """A page of the browser."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context

    async def run(self, expression: str) -> Any:  # noqa: ANN401 - whatever the page returns
        """Returns the value of an expression, awaited where it is a promise.

        Raises:
            BrowserError: It threw, no answer came, or the browser has ended.
        """
        result = await self._browser.ask(
            "Runtime.evaluate",
            self._session,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        if (thrown := result.get("exceptionDetails")) is not None:
            exception = thrown.get("exception", {})
            raise BrowserError(str(exception.get("description") or thrown.get("text")))
        return result["result"].get("value")

    async def close(self) -> None:
        """Closes it."""
        with suppress(BrowserError):
            await self._browser.ask(
                "Target.disposeBrowserContext", browserContextId=self._context, wait_s=STOP_S
            )
