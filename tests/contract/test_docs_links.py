"""Links in the documents lead somewhere, in the repository as on the site."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pymdownx.slugs import slugify

from tests.contract import documents, repository
from tests.contract.documents import Place
from tests.required import ROOT
from tools.docs import markdown

pytestmark = pytest.mark.contract

OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:|//")
NAMED = re.compile(r"\bdocs/[\w./-]+\.(?:md|toml|json|svg|png)\b")
"""A file of the documentation, wherever it is named."""


def links() -> Iterator[tuple[Place, str]]:
    """Yields all links of all pages."""
    for page in documents.pages():
        for link in markdown.links(documents.text(page)):
            yield Place(page, link.line), link.target


def there() -> set[str]:
    """Returns all files and folders of the repository."""
    files = repository.files()
    return {path.as_posix() for path in files} | {
        parent.as_posix() for path in files for parent in path.parents
    }


def test_links_within_the_repository_lead_to_files_and_headings() -> None:
    known, broken, looked_at = there(), [], 0
    for place, target in links():
        if OUTSIDE.match(target):
            continue
        looked_at += 1
        path, _, anchor = target.partition("#")
        page = Path(os.path.normpath(place.page.parent / path)) if path else place.page
        if page.as_posix() not in known:
            broken.append(f"{place}: {target}")
        elif anchor and anchor not in {each.anchor for each in documents.headings(page)}:
            broken.append(f"{place}: {target} (no such heading)")
    assert broken == []
    assert looked_at > 300


def test_links_to_elsewhere_are_addresses() -> None:
    for place, target in links():
        if OUTSIDE.match(target):
            parts = urlsplit(target)
            assert parts.scheme in {"http", "https", "mailto"}, place
            assert parts.scheme == "mailto" or re.fullmatch(r"[\w.-]+(:\d+)?", parts.netloc), place


def test_the_site_makes_the_anchors_that_the_repository_has() -> None:
    site = slugify(case="lower")
    for page in documents.pages():
        for heading in documents.headings(page):
            assert site(heading.text, "-") == markdown.slug(heading.text), (page, heading)


def test_every_page_of_the_folder_is_on_its_front_page() -> None:
    linked = {
        Path(os.path.normpath(documents.INDEX.parent / link.target.partition("#")[0]))
        for link in markdown.links(documents.text(documents.INDEX))
        if not OUTSIDE.match(link.target)
    }
    pages = {page for page in documents.pages() if page.parts[0] == "docs"}
    # The pages of the contract's files have a front page of their own.
    pages = {page for page in pages if page.parent.name != "proto" or page.name == "index.md"}
    assert pages - linked == {documents.INDEX}


def test_pages_that_the_code_names_exist() -> None:
    known = there()
    named = [
        (f"{path}:{number}", found)
        for path in repository.files()
        if path.suffix in {".py", ".ts", ".tsx", ".js", ".yaml", ".toml", ".tpl", ".txt", ".proto"}
        for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), start=1)
        for found in NAMED.findall(line)
    ]
    assert [each for each in named if each[1] not in known] == []
    assert len(named) > 30
