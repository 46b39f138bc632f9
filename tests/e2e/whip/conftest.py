"""Publishers and players that are not ours, and the service between them."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser.chromium import Browser, Page
from tests.e2e.driving import POLL_S, WAIT_S
from tests.e2e.whip.ffmpeg import pictures
from tests.required import require
from tests.stack import Stack

HERE = Path(__file__).resolve().parent
PACKAGES = ".tools/node/node_modules"
CLIENTS = f"{PACKAGES}/whip-whep"
STATIC = (
    HERE / "page.html",
    HERE / "page.js",
    HERE.parent / "browser/marker.js",
    HERE.parent / "browser/camera.js",
)


Publish = Callable[[str, int], "Publisher"]
"""Publishes grey of a luma to a URL."""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        """Says nothing."""


class Door:
    """The service over plain HTTP, as curl speaks it."""

    def __init__(self, url: str) -> None:
        """Knows its address."""
        self.url = url

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Message, bytes]:
        """Returns status, headers and body of an answer."""
        url = path if path.startswith("http") else self.url + path
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, body, named, method=method)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.headers, refused.read()

    def command(self, stream: str, kind: str, **data: Any) -> tuple[int, dict[str, Any]]:
        """Sends a command; returns status and answer."""
        body = json.dumps({"type": kind, "data": data}).encode()
        status, _, told = self.ask("POST", f"/sessions/{stream}/commands", body)
        return status, json.loads(told)

    def told(self, stream: str, kind: str, **data: Any) -> dict[str, Any]:
        """Sends a command that is accepted; returns the answer."""
        status, told = self.command(stream, kind, **data)
        assert status == 200, told
        return told

    def state(self, stream: str) -> dict[str, Any] | None:
        """Returns session and state of a stream; None while there is none."""
        status, _, told = self.ask("GET", f"/sessions/{stream}/state")
        return json.loads(told) if status == 200 else None

    def until(self, stream: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Waits until the state of a stream is so; returns it with the session."""
        ends = time.monotonic() + WAIT_S
        while not ((told := self.state(stream)) and condition(told["state"])):
            assert time.monotonic() < ends, f"the state is {told}"
            time.sleep(POLL_S * 5)
        return told

    def until_no_publisher(self) -> None:
        """Waits until the service knows of no publisher: one that goes without a word is noticed
        when its host refuses what is sent to it.
        """
        ends = time.monotonic() + WAIT_S
        while b'sana_gateway_whip_resources{kind="whip"} 0.0' not in self.ask("GET", "/metrics")[2]:
            assert time.monotonic() < ends, "somebody still publishes"
            time.sleep(POLL_S * 5)


class Publisher:
    """A program that publishes until its standard input ends."""

    def __init__(self, *words: str | Path) -> None:
        """Starts it."""
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, text=True, stdin=pipe, stdout=pipe, stderr=pipe)

    def publishing(self) -> None:
        """Waits until it publishes."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "publishing\n", self.words()

    def refused(self) -> str:
        """Waits until it has given up; returns its complaints."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        assert self.process.stdout.readline() == ""
        return self.process.stderr.read()

    def words(self) -> str:
        """Ends it in order; returns its complaints."""
        return self.process.communicate(timeout=WAIT_S)[1]

    def kill(self) -> None:
        """Ends it without a word."""
        self.process.kill()
        self.process.communicate(timeout=WAIT_S)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of our page, on another origin than the service."""
    folder = tmp_path_factory.mktemp("site")
    for path in (*STATIC, require(CLIENTS) / "whip.js", require(CLIENTS) / "whep.js"):
        shutil.copy(path, folder)
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/page.html"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as users have it: no page knows this host's addresses."""
    with Browser(trusting=False) as running:
        yield running


@pytest.fixture
def open_page(browser: Browser, site: str) -> Iterator[Callable[[], Page]]:
    """Opens pages, which are closed after the test; a page that complained fails it."""
    with ExitStack() as pages:
        opened: list[Page] = []

        def one() -> Page:
            page = pages.enter_context(browser.open(site))
            opened.append(page)
            return page

        yield one
        assert [page.said for page in opened] == [[]] * len(opened)


@pytest.fixture
def door(simulated: Stack) -> Door:
    """The service that marks its pictures."""
    return Door(simulated.http_url)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """What is ended after the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def ffmpeg(running: ExitStack) -> Publish:
    """Starts FFmpeg's muxer in processes of their own."""

    def publish(url: str, level: int) -> Publisher:
        made = Publisher(sys.executable, HERE / "ffmpeg.py", url, str(level))
        running.callback(made.kill)
        return made

    return publish


@pytest.fixture
def obs(running: ExitStack, tmp_path: Path) -> Publish:
    """Starts publishers made of what OBS is made of."""
    node, packages = require(".tools/bin/node"), require(PACKAGES)
    script = shutil.copy(HERE / "obs.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(packages)

    def publish(url: str, level: int) -> Publisher:
        path = tmp_path / f"{level}.bin"
        path.write_bytes(b"".join(len(each).to_bytes(4) + each for each in pictures(level)))
        made = Publisher(node, script, url, path)
        running.callback(made.kill)
        return made

    return publish
