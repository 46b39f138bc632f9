"""A page with our TypeScript client in it, as an app's build makes one of the packed package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.browser.chromium import Browser, Page
from tests.e2e.reactor.js.conftest import served
from tests.media.clips import Recipe, make
from tests.required import ROOT, require

HERE: Final = Path(__file__).resolve().parent
PACKAGE: Final = ROOT / "sdk_adapters/typescript"
LONGEST_S: Final = 150.0
"""Longest time of a flow: a machine that runs other tests beside this one is slow."""


SOURCES: Final = ("src", "build.js", "package.json", "README.md", "tsconfig.json")
"""What the package is made of."""


def pack(out: Path) -> Path:
    """Builds the package and packs it as `npm pack` does; returns the archive.

    In a copy of its own: other tests may do the same at the same time.
    """
    node = require(".tools/bin/node").resolve()
    npm = shutil.which("npm")
    beside = node.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    command = [npm] if npm else [str(node), str(beside)]
    copy = out / "sources"
    copy.mkdir()
    for path in map(PACKAGE.joinpath, SOURCES):
        if path.is_dir():
            shutil.copytree(path, copy / path.name)
        else:
            shutil.copy(path, copy)
    (copy / "node_modules").symlink_to(require(PACKAGE / "node_modules"))
    subprocess.run(
        [*command, "pack", "--silent", "--pack-destination", str(out)],
        cwd=copy,
        env={**os.environ, "PATH": f"{node.parent}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    (archive,) = out.glob("*.tgz")
    return archive


def install(archive: Path, folder: Path) -> Path:
    """Puts a packed package where an app has its packages; returns that folder."""
    packages = folder / "node_modules"
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    (packages / "@sana-gateway").mkdir(parents=True)
    (folder / "unpacked/package").rename(packages / "@sana-gateway/client")
    return packages


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the page, on another origin than the service."""
    folder = tmp_path_factory.mktemp("typescript")
    packages = install(pack(folder), folder)
    pages = folder / "pages"
    pages.mkdir()
    for path in (HERE / "page.html", HERE.parent / "browser/marker.js"):
        shutil.copy(path, pages)
    subprocess.run(
        [
            require(".tools/bin/node"),
            require(PACKAGE / "node_modules/esbuild/bin/esbuild"),
            *(str(HERE / "page.ts"), "--bundle", f"--outfile={pages / 'page.js'}"),
            *("--format=iife", "--log-level=warning", "--tsconfig-raw={}"),
            '--define:process.env.NODE_ENV="production"',
        ],
        env={**os.environ, "NODE_PATH": f"{packages}:{PACKAGE / 'node_modules'}"},
        check=True,
    )
    with served(pages) as origin:
        yield f"{origin}/page.html"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with Browser() as running:
        yield running


Flow = Callable[..., Future[Any]]


@pytest.fixture
def flow(browser: Browser, site: str) -> Iterator[Flow]:
    """Begins a flow of `flows.ts` in a page of its own; the future has what it returns."""
    pages: list[Page] = []

    def begin(name: str, *given: object) -> Future[Any]:
        page = browser.open(site)
        pages.append(page)
        return page.begin(f"flows.{name}(...{json.dumps(given)})")

    yield begin
    faults = [fault for page in pages for fault in page.run("faults")]
    for page in pages:
        page.close()
    assert faults == [], "nobody caught these"


@pytest.fixture(scope="package")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Clips in base64, by their number of frames."""
    folder = tmp_path_factory.mktemp("clips")

    def clip(frames: int) -> str:
        path = make(folder / f"{frames}.mp4", Recipe(frames=frames))
        return base64.b64encode(path.read_bytes()).decode()

    return {frames: clip(frames) for frames in (40, 57, 105)}
