"""Media in a headless Chromium: what a user of a browser sees, for a sample of the sessions.

The page tells when a frame was on the screen; the trailer with the frame's number is taken
off between network and decoder. Frames that were decoded and never painted count with the
one that was painted next: they were not lost. The camera is the browser's own, so that
glass to glass is not measured here. The browser's CPU is in no figure of the generator.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sana_gateway import GatewayError
from sdk_adapters.harness.generator.doors import Seat, trailer
from sdk_adapters.harness.generator.doors.chromium.browser import (
    Browser,
    BrowserError,
    Page,
    found,
)

PAGE: Final = Path(__file__).with_name("page.html").as_uri()
POLL_S: Final = 0.25
"""Time between two looks at what the page noted."""
EARLY: Final = 16
"""Chunks that may be told of before their first frame is on the screen."""
CONNECT_S: Final = 60.0
"""How long a page may take to connect: the browser may have to start first."""


class PageFailedError(GatewayError):
    """The browser did not do what it was asked."""


def why_missing() -> str:
    """Returns why no session can come in a browser; empty: it can."""
    return "" if found() else "no Chromium is installed"


class ChromiumDoor:
    """Implements `Door`: one browser for all."""

    def __init__(self) -> None:
        """Starts nothing yet."""
        self._browser: Browser | None = None
        self._starting = asyncio.Lock()

    async def prepare(self) -> None:
        """Starts the browser, so that no join waits for it; see `Door.prepare`."""
        with suppress(BrowserError):
            await self._started()

    async def connect(self, seat: Seat) -> ChromiumLine:
        """Connects; see `Door.connect`."""
        line: ChromiumLine | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                line = ChromiumLine(seat, await (await self._started()).open(PAGE))
                await line.begin()
        except BrowserError as error:
            if line is not None:
                await line.close()
            raise PageFailedError(str(error)) from error
        except BaseException:
            if line is not None:
                await line.close()
            raise
        return line

    async def close(self) -> None:
        """Ends the browser."""
        async with self._starting:
            if self._browser is not None:
                await self._browser.close()

    async def _started(self) -> Browser:
        async with self._starting:
            if self._browser is None:
                path = found()
                if path is None:
                    raise BrowserError(why_missing())
                browser = Browser()
                try:
                    await browser.start(path)
                except BaseException:
                    await browser.close()
                    raise
                self._browser = browser
            return self._browser


class ChromiumLine:
    """A page that watches; implements `Line`."""

    def __init__(self, seat: Seat, page: Page) -> None:
        self._seat = seat
        self._page = page
        self._number = 0
        self._ahead_s = 0.0
        self._ticks = 0
        self._last_timestamp: int | None = None
        self._told: deque[dict[str, Any]] = deque(maxlen=EARLY)
        self._polling: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Has the page offer, and waits until it is connected.

        Raises:
            BrowserError: The page failed.
            GatewayError: The gateway refused.
        """
        seat, page = self._seat, self._page
        camera = None
        if seat.camera is not None:
            camera = {"width": 320, "height": 176, "rate": seat.camera.reel.frame_rate}
        offer = await page.run(f"offer({json.dumps(seat.codec)}, {json.dumps(camera)})")
        self._number, answer = await seat.session.offer(
            trailer.asked_for(offer["sdp"]), offer["tracks"]
        )
        times = await page.run(f"answered({json.dumps(answer)})")
        await self._set_clock()
        if {"answered", "ice", "dtls"} <= times.keys():
            at = self._at(times["dtls"])
            seat.add("join_ice", times["ice"] - times["answered"], at)
            seat.add("join_dtls", times["dtls"] - times["ice"], at)
        seat.watching.connected()
        self._polling = asyncio.create_task(self._poll())

    async def lost(self) -> None:
        """Waits until the page has lost its connection; see `Line.lost`."""
        if self._polling is not None:
            await self._polling

    async def close(self) -> None:
        """Closes the page; see `Line.close`."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
        number, self._number = self._number, 0
        with suppress(GatewayError, TimeoutError):
            async with asyncio.timeout(POLL_S * 8):
                if number and self._seat.session.end_reason is None:
                    await self._seat.session.hangup(number)
        await self._page.close()

    async def _set_clock(self) -> None:
        """Learns how far the page's clock is from ours, from the quickest of some answers."""
        best = float("inf")
        for _ in range(5):
            asked = self._seat.clock()
            now = float(await self._page.run("performance.now()"))
            took = self._seat.clock() - asked
            if took < best:
                best, self._ahead_s = took, asked + took / 2 - now / 1e3

    def _at(self, now_ms: float) -> float:
        return now_ms / 1e3 + self._ahead_s

    async def _poll(self) -> None:
        with suppress(BrowserError):
            while True:
                told = await self._page.run("take()")
                for entry in told["noted"]:
                    self._take(entry)
                if told["state"] not in ("connected", "disconnected"):
                    return
                await asyncio.sleep(POLL_S)

    def _take(self, entry: list[Any]) -> None:
        """Takes a frame that was shown, or what the service tells of a chunk."""
        watching, at = self._seat.watching, self._at(entry[0])
        if len(entry) == 2:
            self._told.append(entry[1])
            return
        _, run, frame, timestamp, size = entry
        if self._last_timestamp is not None:
            self._ticks += (timestamp - self._last_timestamp + 2**31) % 2**32 - 2**31
        self._last_timestamp = timestamp
        watching.arrivals.append((at, run, frame, self._ticks / 90_000, size, 0.0))
        while self._told and _began(self._told[0]) <= (run, frame):
            told = self._told.popleft()
            of, first = _began(told)
            watching.chunk(of, told.get("chunk", 0), first, told.get("underruns", 0), at)


def _began(stats: dict[str, Any]) -> tuple[int, int]:
    """Returns run and index of a chunk's first frame."""
    return int(stats.get("run", 0)), int(stats.get("frame", 0))
