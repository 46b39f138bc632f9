"""Reads commands as they stand in documents. Knows what documents use of a shell, and no more."""

from __future__ import annotations

import re
from typing import Final

_ENDS: Final = set("\n;&|()<>")
_ASSIGNMENT: Final = re.compile(r"\w+=")
_WORDS: Final = {"if", "then", "do", "while", "time", "export", "exec", "{", "}", "$", "sudo"}
"""Words before a command that are none of it."""


def commands(text: str) -> list[list[str]]:
    """Returns the commands of a text, each as its words.

    Comments, redirections and settings of variables are left out; what a variable or another
    command would put in stands as it is written.
    """
    found: list[list[str]] = [[]]
    for token in _tokens(text):
        if token is None:
            found.append([])
        else:
            found[-1].append(token)
    return [words for each in found if (words := _bare(each))]


def _bare(words: list[str]) -> list[str]:
    """Returns a command without what stands before it."""
    for number, word in enumerate(words):
        if word not in _WORDS and not _ASSIGNMENT.match(word):
            return words[number:]
    return []


def _tokens(text: str) -> list[str | None]:
    """Returns words, and None where a command ends."""
    made: list[str | None] = []
    word: str | None = None
    at = 0
    while at < len(text):
        sign = text[at]
        if sign == "\\" and at + 1 < len(text):
            word = word if text[at + 1] == "\n" else (word or "") + text[at + 1]
            at += 2
        elif sign in "'\"":
            end = _closing(text, at)
            word = (word or "") + text[at + 1 : end]
            at = end + 1
        elif text.startswith("$(", at):
            end = _balanced(text, at + 1)
            word = (word or "") + text[at : end + 1]
            at = end + 1
        elif sign in _ENDS or sign.isspace() or (sign == "#" and word is None):
            if word is not None:
                made.append(word)
                word = None
            if sign == "#":
                at = text.find("\n", at) if "\n" in text[at:] else len(text)
                continue
            if sign in "<>":
                # What follows is a file.
                made.append(sign)
            elif sign in _ENDS:
                made.append(None)
            at += 1
        else:
            word = (word or "") + sign
            at += 1
    return _without_files([*made, word] if word is not None else made)


def _without_files(tokens: list[str | None]) -> list[str | None]:
    """Takes out redirections and the files that they name."""
    kept: list[str | None] = []
    skip = False
    for token in tokens:
        if token in ("<", ">"):
            skip = True
        elif skip:
            skip = token is None
        else:
            kept.append(token)
    return kept


def _closing(text: str, at: int) -> int:
    """Returns where a quotation ends."""
    quote = text[at]
    at += 1
    while at < len(text) and text[at] != quote:
        at += 2 if quote == '"' and text[at] == "\\" else 1
    return at


def _balanced(text: str, at: int) -> int:
    """Returns where a bracket is closed."""
    depth = 0
    for end in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return end
    return len(text)
