"""The documentation becomes a site, without a warning, that asks nobody else for anything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.contract import documents
from tests.required import ROOT
from tools.docs.markdown import headings
from tools.docs.site import ELSEWHERE, MERMAID

pytestmark = pytest.mark.contract

LOADING = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
}
LOADED_LINKS = {"stylesheet", "preconnect", "preload", "icon", "dns-prefetch", "modulepreload"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site. Instead of Mermaid, which takes a registry, it has an empty file."""
    folder = tmp_path_factory.mktemp("site")
    mermaid = folder / "mermaid.js"
    mermaid.write_text("\n")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder / "built"],
        cwd=ROOT,
        env={**os.environ, "DOCS_MERMAID": str(mermaid), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "built"


class Loads(HTMLParser):
    """What a page makes a browser load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [
            value for (name, value) in attrs if (tag, name) in LOADING and value is not None
        ]
        if tag == "link" and LOADED_LINKS & set((given.get("rel") or "").split()):
            self.found.append(given.get("href") or "")


def pages(site: Path) -> dict[str, str]:
    return {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}


def test_every_page_is_on_the_site(site: Path) -> None:
    ours = {page.relative_to("docs") for page in documents.pages() if page.parts[0] == "docs"}
    wanted = {page.with_suffix(".html").as_posix() for page in ours}
    wanted |= {str(Path(uri).with_suffix(".html")) for uri in ELSEWHERE.values()}
    assert wanted <= pages(site).keys()


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for name, page in pages(site).items():
        loaded = Loads(page).found
        assert any(MERMAID in each for each in loaded) or name == "404.html"
        for each in loaded:
            assert not re.match(r"(?:[a-z]+:)?//", each), (name, each)
            if name != "404.html":
                there = (site / name).parent / each.partition("?")[0]
                assert there.resolve().is_file() or each.startswith("data:"), (name, each)
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", path.read_text()), path


def test_drawings_are_left_to_mermaid_and_formulas_are_made(site: Path) -> None:
    made = pages(site)
    assert made["concepts.html"].count('<pre class="mermaid">') == 4
    assert made["sana-streaming.html"].count("<math") > 5
    assert "formulaNo" not in "".join(made.values())


def test_headings_have_the_anchors_that_links_in_the_repository_use(site: Path) -> None:
    made = pages(site)
    for page in documents.pages():
        if page.parts[0] == "docs":
            html = made[page.relative_to("docs").with_suffix(".html").as_posix()]
            ids = set(re.findall(r'<h[1-6] id="([^"]*)"', html))
            first = [each for each in headings(documents.text(page)) if each.level > 1]
            seconds = {each.anchor for each in first if re.search(r"-\d$", each.anchor)}
            assert {each.anchor for each in first} - seconds <= ids, page


def test_it_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text())
    assert len(index["docs"]) > 500
