"""The pages of documentation, and what they hold."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.contract import repository
from tests.required import ROOT
from tools.docs import markdown
from tools.docs.markdown import GENERATED, Block, Heading

INDEX: Final = Path("docs/index.md")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a page."""

    page: Path
    line: int

    def __str__(self) -> str:
        """As editors and terminals take it."""
        return f"{self.page}:{self.line}"


@functools.cache
def pages() -> tuple[Path, ...]:
    """Returns all pages of the repository, relative to its root."""
    return tuple(path for path in repository.files() if path.suffix == ".md")


@functools.cache
def text(page: Path) -> str:
    """Returns a page."""
    return (ROOT / page).read_text("utf-8")


@functools.cache
def written() -> tuple[Path, ...]:
    """Returns the pages that people write: those that are made say what the code says."""
    return tuple(page for page in pages() if GENERATED not in text(page))


@functools.cache
def headings(page: Path) -> tuple[Heading, ...]:
    """Returns the headings of a page."""
    return tuple(markdown.headings(text(page)))


def section(page: Path, anchor: str) -> str:
    """Returns what stands below a heading, up to the next of its level or above.

    Raises:
        KeyError: There is no such heading.
    """
    found = headings(page)
    for number, each in enumerate(found):
        if each.anchor == anchor:
            after = (next_ for next_ in found[number + 1 :] if next_.level <= each.level)
            end = next((next_.line for next_ in after), None)
            return "\n".join(text(page).splitlines()[each.line : end and end - 1])
    raise KeyError(f"{page}#{anchor}")


def blocks(*languages: str) -> Iterator[tuple[Place, Block]]:
    """Yields the blocks of code in some languages, of all pages that people write."""
    for page in written():
        for block in markdown.blocks(text(page)):
            if block.language in languages:
                yield Place(page, block.line), block


def of(languages: tuple[str, ...]) -> dict[str, Block]:
    """Returns the blocks of code in some languages by where they stand: cases of tests."""
    return {str(place): block for place, block in blocks(*languages)}
