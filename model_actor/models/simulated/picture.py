"""The picture of `simulated`: the source dimly, a large frame counter, and the marker."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from model_actor.models.simulated.marker import (
    CANNED_RUN,
    UNMARKED,
    Origin,
    SourceReader,
    prompt_tag,
    write_marker,
)
from model_actor.plugin import Frames

_GLYPHS = (
    "01110 10001 10011 10101 11001 10001 01110", "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111", "11110 00001 00001 01110 00001 00001 11110",
    "00010 00110 01010 10010 11111 00010 00010", "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110", "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110", "01110 10001 10001 01111 00001 00010 01100",
)  # fmt: skip
"""Digits, five columns by seven rows."""
_INK = 210
_GROUND = 36


def _tiles(scale: int) -> list[npt.NDArray[np.bool_]]:
    """Returns the digits with a column of space, each dot `scale` pixels wide."""
    tiles = []
    for glyph in _GLYPHS:
        dots = np.array([[dot == "1" for dot in row] + [False] for row in glyph.split()])
        tiles.append(np.repeat(np.repeat(dots, scale, axis=0), scale, axis=1))
    return tiles


class Screen:
    """Draws frames of one size."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._digits = _tiles(max(1, height // 44))
        self._sources = SourceReader(width, height)

    def draw(
        self,
        source: Frames,
        first: int,
        run: int,
        tag: int,
        prompt: str,
        *,
        faint: bool = False,
    ) -> Frames:
        """Returns marked frames.

        Args:
            source: I420 frames; shown at a quarter of their contrast.
            first: Index of the first frame in the run.
            run: Run of the session.
            tag: `session_tag` of the session.
            prompt: Chooses the colour of the ground, so that a change of prompt is seen, and
                is told by the marker, but for canned pictures.
            faint: Whether the source is shown at an eighth of its contrast instead: fewer
                steps were taken.
        """
        frames = np.right_shift(source, 3 if faint else 2)
        luma = frames[:, : self._height]
        luma += _GROUND
        u, v = hashlib.blake2b(prompt.encode(), digest_size=2).digest()
        chroma = frames[:, self._height :].reshape(len(frames), 2, -1)
        chroma[:, 0] = 128 - 40 + u * 80 // 255
        chroma[:, 1] = 128 - 40 + v * 80 // 255
        shown = prompt_tag(prompt)
        for number, (plane, read) in enumerate(
            zip(luma, self._numbers(source), strict=True), first
        ):
            self._count(plane, number)
            origin = None if run == CANNED_RUN else Origin(shown, read)
            write_marker(plane, number, run, tag, origin)
        return frames

    def _numbers(self, source: Frames) -> list[int]:
        """Returns the numbers of source frames; a clip or camera is marked throughout or not."""
        pictures = source[:, : self._height]
        if self._sources.read(pictures[0]) == UNMARKED:
            return [UNMARKED] * len(pictures)
        return [self._sources.read(picture) for picture in pictures]

    def _count(self, plane: npt.NDArray[np.uint8], number: int) -> None:
        """Draws a number in the middle, below the marker."""
        tiles = [self._digits[int(digit)] for digit in str(number)]
        tall, wide = tiles[0].shape
        top, left = self._height // 2, (self._width - wide * len(tiles)) // 2
        for at, tile in enumerate(tiles):
            spot = plane[top : top + tall, left + at * wide : left + (at + 1) * wide]
            spot[tile] = _INK
