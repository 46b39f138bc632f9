"""A browser with JavaScript clients of the Reactor wire in it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.e2e.browser.chromium import Browser, Page
from tests.e2e.browser.site import served
from tests.media.clips import Recipe, make
from tests.required import ROOT, require
from tests.stack import Stack

HERE = Path(__file__).resolve().parent
PACKAGES = ROOT / ".tools/node/node_modules"
STATIC = (
    HERE / "page.html",
    HERE / "hooks.js",
    HERE / "flows.js",
    HERE / "wire_2_12.js",
    HERE.parents[1] / "browser/marker.js",
)
SDK = "js-sdk 2.9.0"
WIRE = "js-sdk 2.12 wire"
CLASSES = {SDK: "sdk.Reactor", WIRE: "Wire212"}
"""The clients, by their names in the matrix."""
LONGEST_S = 60.0
"""A step of a flow takes a few seconds; on a machine that runs other tests beside, longer."""


def bundle(entry: Path, out: Path, *options: str) -> None:
    """Makes one script of a module and of what it imports, as an app's build does."""
    node = require(".tools/bin/node")
    esbuild = require(PACKAGES / "esbuild/bin/esbuild")
    words = (str(entry), "--bundle", f"--outfile={out}", "--log-level=warning")
    production = '--define:process.env.NODE_ENV="production"'
    subprocess.run(
        [node, esbuild, *words, production, *options],
        env={**os.environ, "NODE_PATH": str(PACKAGES)},
        check=True,
    )


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the page, on another origin than the service."""
    folder = tmp_path_factory.mktemp("site")
    for path in STATIC:
        shutil.copy(path, folder)
    bundle(HERE / "sdk.mjs", folder / "sdk.js", "--format=iife", "--global-name=sdk")
    with served(folder) as origin:
        yield f"{origin}/page.html"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium as users have it: pages are given a camera late, if at all."""
    with Browser(trusting=False) as running:
        yield running


@dataclass(frozen=True)
class Clip:
    """A clip, and how many frames it has."""

    data: str
    """In base64."""
    frames: int


@pytest.fixture(scope="package")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clip, Clip]:
    """A clip of two windows, and a shorter one."""
    folder = tmp_path_factory.mktemp("clips")

    def clip(frames: int) -> Clip:
        path = make(folder / f"{frames}.mp4", Recipe(frames=frames))
        return Clip(base64.b64encode(path.read_bytes()).decode(), frames)

    return clip(45), clip(33)


class Player:
    """A client in a page."""

    def __init__(self, page: Page, client: str, base: str, mode: str, **options: Any) -> None:
        """Makes a client that is not connected yet."""
        self.page = page
        self.client, self.mode = client, mode
        about = json.dumps({"base": base, "mode": mode, **options})
        page.run(f"play({CLASSES[client]}, {about})")

    def __call__(self, step: str, *arguments: Any) -> Any:
        """Takes a step of a flow; what goes wrong is told with what the client has seen."""
        try:
            return self.begin(step, *arguments).result(LONGEST_S)
        except Exception as error:
            report = json.dumps(self.page.run("player.report()"))
            raise AssertionError(f"{step}: {error!r}\n{report[-6000:]}") from error

    def begin(self, step: str, *arguments: Any) -> Future[Any]:
        """Begins a step."""
        return self.page.begin(f"player.{step}(...{json.dumps(arguments)})")

    def value(self, expression: str) -> Any:
        """Returns the value of an expression about the player."""
        return self.page.run(f"player.{expression}")

    def allow_camera(self) -> None:
        """The user lets the page have the camera."""
        self.page.allow_camera(self.page.run("location.origin"))

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What the page asked the service for."""
        return list(self.page.run("seen.requests"))

    def routes(self) -> list[tuple[str, str, int]]:
        """The same as method, route and status; ids are left out."""
        session = self.page.run("player.client.getSessionId()") or "-"
        return [
            (each["method"], each["path"].replace(session, "ID"), each["status"])
            for each in self.requests
            if "status" in each
        ]


def ask(player: Player, method: str, path: str, body: object = None) -> tuple[int, str]:
    """Asks the service for what no client asks; returns status and answer."""
    options = {"method": method, **({} if body is None else {"body": json.dumps(body)})}
    status, answer = player.page.run(
        f"fetchIt(player.base + {json.dumps(path)}, {json.dumps(options)})"
        ".then(async (response) => [response.status, await response.text()])"
    )
    return status, answer


@dataclass(frozen=True)
class Refusal:
    """What an app is told."""

    thrown: str
    code: str
    message: str


def refused(page: Page, client: str, base: str, mode: str, **how: object) -> Refusal:
    """Connects from a page and expects to be refused.

    Args:
        page: Where.
        client: Which one.
        base: The service.
        mode: Cloud or local.
        how: Model, token, and further options of `connect`.
    """
    options = {"base": base, "mode": mode}
    if model := how.pop("model", None):
        options["model"] = str(model)
    token = how.pop("token", "any")
    words = ", ".join(json.dumps(each) for each in (options, token, how))
    return Refusal(**page.run(f"refused({CLASSES[client]}, {words})"))


class Open(Protocol):
    """Opens pages with clients in them, which are closed after the test."""

    def __call__(self, client: str, mode: str, **options: Any) -> Player:
        """Makes a client that is not connected yet.

        Args:
            client: Which one.
            mode: Cloud or local.
            options: What it takes beside that.
        """


@pytest.fixture
def open_player(browser: Browser, site: str, full_size: Stack) -> Iterator[Open]:
    """Opens pages beside the service of full size."""
    with ExitStack() as pages:
        yield opener(pages, browser, site, full_size)


def opener(pages: ExitStack, browser: Browser, site: str, service: Stack) -> Open:
    """Returns what opens pages that are clients of a service."""

    def one(client: str, mode: str, **options: Any) -> Player:
        page = pages.enter_context(browser.open(site))
        player = Player(page, client, service.http_url, mode, **options)
        pages.callback(_leave, player)
        return player

    return one


def _leave(player: Player) -> None:
    """Ends a session that a failed test has left."""
    player.page.run("player.client.disconnect().catch(() => null)")
