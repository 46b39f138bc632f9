"""Pages as text: their headings, links and blocks of code, and how to write some of them.

Anchors are those of GitHub; the site makes the same (`mkdocs.yml`), so that one link serves both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

GENERATED: Final = "<!-- Made by `python -m tools.docs --write`: mend the code, not this page. -->"
"""Stands on every page that is made as a whole."""
_TEXT: Final = {"text", "code_inline"}


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a page."""

    level: int
    text: str
    """Without marks."""
    anchor: str
    """As GitHub makes it; the second of a name has a number."""
    line: int


@dataclass(frozen=True, slots=True)
class Link:
    """A link or a picture of a page."""

    target: str
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code; an indented one has no language."""

    language: str
    text: str
    line: int
    """Of its first line of code, from 1."""
    indented: bool = False


@cache
def _parsed(text: str) -> tuple[Token, ...]:
    return tuple(MarkdownIt("commonmark").enable("table").parse(text))


def headings(text: str) -> list[Heading]:
    """Returns the headings of a page, in order."""
    found: list[Heading] = []
    seen: Counter[str] = Counter()
    tokens = _parsed(text)
    for token, inside in pairwise(tokens):
        if token.type == "heading_open":
            said = "".join(
                each.content
                for each in inside.children or ()
                if each.type in {"text", "code_inline"}
            )
            anchor = slug(said)
            again = seen[anchor]
            seen[anchor] += 1
            line = (token.map or [0])[0] + 1
            numbered = f"{anchor}-{again}" if again else anchor
            found.append(Heading(int(token.tag[1:]), said, numbered, line))
    return found


def slug(text: str) -> str:
    """Returns the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def links(text: str) -> Iterator[Link]:
    """Yields the links and pictures of a page."""
    for token in _parsed(text):
        line = (token.map or [0])[0] + 1
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target is not None:
                yield Link(str(target), line)


def spans(text: str) -> Iterator[tuple[str, int]]:
    """Yields the pieces of code within sentences, each with its line or one near it."""
    for token in _parsed(text):
        line = (token.map or [0])[0] + 1
        for child in token.children or ():
            if child.type == "code_inline":
                yield child.content, line


def blocks(text: str) -> Iterator[Block]:
    """Yields the blocks of code of a page."""
    for token in _parsed(text):
        line = (token.map or [0])[0] + 1
        if token.type == "fence":
            language = token.info.split()[0] if token.info.strip() else ""
            yield Block(language, token.content, line + 1)
        elif token.type == "code_block":
            yield Block("", token.content, line, indented=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a table; cells are Markdown, and may have line breaks and bars."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(cell, line)) + " |" for line in lines]


def cell(text: str) -> str:
    """Returns text as a cell of a table takes it."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def prose(text: str) -> str:
    """Returns a comment of code as Markdown: what looks like HTML is text."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if index % 2 else part.replace("&", "&amp;").replace("<", "&lt;")
        for index, part in enumerate(parts)
    )
