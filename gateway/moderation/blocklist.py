"""`--moderation blocklist`: refuses prompts in which listed words or patterns occur.

It stops what its list foresees and nothing else: it knows no meanings, no other spellings, no
other languages. Take it for an example, or for words that are never wanted; docs/moderation.md.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from pathlib import Path
from typing import Final

import structlog

from gateway.moderation import ALLOWED, NOT_ALLOWED, Question, Verdict
from scheduler.core.errors import ConfigurationError

LOOK_S: Final = 1.0
"""How often the file is looked at."""
PATTERN: Final = "re:"
"""Begins a line that is a regular expression and no word."""
MOST_LINES: Final = 10_000

_log = structlog.get_logger(__name__)


class Blocklist:
    """Knows the words and patterns of a file.

    Args:
        file: One a line: a word or several, found as whole words whatever their case and accents;
            or `re:` and a regular expression (Python's), searched in the same. Empty lines and
            those that begin with `#` say nothing.
        reason: What clients are told.

    Raises:
        ConfigurationError: The file cannot be used.
    """

    def __init__(self, file: str, reason: str = NOT_ALLOWED) -> None:
        self._path = Path(file)
        self._refused = Verdict(allowed=False, reason=reason)
        self._stamp = _stamp(self._path)
        self._patterns = read(self._path)

    async def check(self, question: Question) -> Verdict:
        """Judges a prompt; see `gateway.moderation.Moderator`."""
        text = folded(question.prompt)
        return self._refused if any(each.search(text) for each in self._patterns) else ALLOWED

    async def run(self) -> None:
        """Reads the file again whenever it changes, until cancelled. One that cannot be used
        changes nothing but the log: the list before it stays.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)

    def look(self) -> bool:
        """Reads the file again if it has changed; returns whether there is a new list."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._patterns = read(self._path)
        except ConfigurationError as error:
            _log.error("blocklist.kept", reason=str(error))
            return False
        _log.info("blocklist.read", entries=len(self._patterns))
        return True


def read(path: Path) -> tuple[re.Pattern[str], ...]:
    """Returns the patterns of a file.

    Raises:
        ConfigurationError: It cannot be read, is too long, or a line is no regular expression.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"the blocklist cannot be read: {why}") from None
    if len(lines) > MOST_LINES:
        raise ConfigurationError(f"the blocklist has more than {MOST_LINES:,} lines")
    words, patterns = [], []
    for number, line in enumerate(map(str.strip, lines), 1):
        if line.startswith(PATTERN):
            patterns.append(_compiled(line.removeprefix(PATTERN), number))
        elif line and not line.startswith("#"):
            words.append(r"\s+".join(map(re.escape, folded(line).split())))
    if words:
        # One search for all: a list may have thousands of words.
        patterns.insert(0, re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)"))
    return tuple(patterns)


def folded(text: str) -> str:
    """Returns a text without case, accents and invisible characters: what is compared."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in parts if unicodedata.category(each) not in ("Mn", "Cf"))


def _compiled(pattern: str, number: int) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error:
        raise ConfigurationError(
            f"line {number} of the blocklist is no regular expression"
        ) from None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size, told.st_ino
