"""The pages: their types and tests, and that what is served is what their sources build."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.required import ROOT, require

pytestmark = pytest.mark.contract

SOURCES = ROOT / "sdk_adapters/web"
DIST = ROOT / "gateway/web/dist"
PAGES = ("index.html", "console/index.html")
MOST_BYTES = 150_000
"""Of the JavaScript of a page, compressed."""
LOADED = re.compile(r'(?:src|href)="/(assets/[^"]+\.(?:js|css))"')
IMPORTED = re.compile(r"""(?:from|import)\(?["`]\./([^"`]+\.js)["`]""")
ELSEWHERE = re.compile(r"""(?:src|href|url\()\s*=?\s*["'(]?(?:https?:)?//""")
"""An address of another origin that a page would load something from."""


def node(*words: str | Path) -> None:
    """Runs one of the tools; fails with what it says unless it succeeds."""
    require(SOURCES / "node_modules/.setup")
    done = subprocess.run(
        [require(".tools/bin/node"), *words],
        cwd=SOURCES,
        env={**os.environ, "NO_COLOR": "1", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def scripts(page: str) -> set[str]:
    """Returns all scripts that a page loads, at once or later."""
    found: set[str] = set()
    waiting = {name for name in LOADED.findall((DIST / page).read_text()) if name.endswith(".js")}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= {f"assets/{each}" for each in IMPORTED.findall((DIST / name).read_text())}
        waiting -= found
    return found


def test_the_types_are_right() -> None:
    node("node_modules/typescript/bin/tsc")


def test_their_own_tests_pass() -> None:
    node("node_modules/vitest/vitest.mjs", "run", "--reporter=default")


def test_what_is_served_is_what_the_sources_build(tmp_path: Path) -> None:
    # To renew it: make web
    node("node_modules/vite/bin/vite.js", "build", "--outDir", tmp_path, "--logLevel", "warn")
    built, served = files(tmp_path), files(DIST)
    assert set(built) == set(served)
    assert [name for name in built if built[name] != served[name]] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_little_and_only_what_is_there(page: str) -> None:
    loaded = scripts(page)
    assert loaded
    size = sum(len(gzip.compress((DIST / name).read_bytes(), 9)) for name in loaded)
    print(f"{page}: {size} bytes of JavaScript, compressed")
    assert size <= MOST_BYTES
    styles = {name for name in LOADED.findall((DIST / page).read_text()) if name.endswith(".css")}
    assert styles
    assert all((DIST / name).is_file() for name in styles)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_inline_code_and_nothing_of_other_origins(page: str) -> None:
    text = (DIST / page).read_text()
    assert not re.findall(r"<script(?![^>]*\ssrc=)", text)
    assert "<style" not in text
    assert not re.findall(r"\s(?:style|on\w+)=", text)
    for name, content in files(DIST).items():
        if not name.endswith(".js"):
            assert not ELSEWHERE.search(content.decode()), name


def test_no_source_maps_are_served() -> None:
    assert not [name for name, content in files(DIST).items() if b"sourceMappingURL" in content]


def test_the_version_is_that_of_the_service() -> None:
    package = (SOURCES / "package.json").read_text()
    assert (version := re.search(r'"version": "([^"]+)"', package))
    assert f'\nversion = "{version[1]}"\n' in (ROOT / "pyproject.toml").read_text()
