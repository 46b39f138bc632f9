"""Choices out of the bytes of an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")


class Reader:
    """Reads an input from its beginning; past its end everything is 0, or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there is more."""
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """Returns at most so many bytes."""
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        """Returns all that is left."""
        return self.take(len(self._data))

    def number(self, size: int = 1) -> int:
        """Returns a number of so many bytes."""
        return int.from_bytes(self.take(size), "big")

    def signed(self, size: int = 1) -> int:
        """Returns a number of so many bytes that may be negative."""
        return int.from_bytes(self.take(size), "big", signed=True)

    def choose(self, options: Sequence[ItemT]) -> ItemT:
        """Returns one of some options."""
        return options[self.number() % len(options)]

    def chunk(self) -> bytes:
        """Returns bytes after their length: one byte, or two behind 255."""
        size = self.number()
        return self.take(self.number(2) if size == 255 else size)

    def text(self) -> str:
        """Returns such bytes as text, whatever they are; it may hold lone surrogates."""
        return self.chunk().decode("utf-8", "surrogateescape")

    def value(self, words: Sequence[str], depth: int = 4) -> object:
        """Returns a JSON value of any kind that is made of some words."""
        kind = self.number()
        match kind % 8:
            case 0 if depth:
                return {
                    self.choose(words): self.value(words, depth - 1) for _ in range(kind >> 3 & 7)
                }
            case 1 if depth:
                return [self.value(words, depth - 1) for _ in range(kind >> 3 & 7)]
            case 2 | 3 | 4:
                return self.choose(words)
            case 5:
                return self.choose((None, True, False, 0, -1, 0.5, 1e300, 2**63, 600.0, ""))
            case 6:
                return self.signed(4)
            case _:
                return self.chunk().decode("utf-8", "replace")


def chunk(data: bytes) -> bytes:
    """Writes what `Reader.chunk` reads."""
    if len(data) < 255:
        return bytes([len(data)]) + data
    return b"\xff" + len(data).to_bytes(2, "big") + data
