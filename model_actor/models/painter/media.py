"""The media: how the whole picture is made anew from the source.

A medium owns its textures, made from a seed. `paint` depends on its view alone, so the
same source at the same place of a run always gives the same picture.
"""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np

from model_actor.models.painter.picture import Picture, Plane, View, grow, shrink
from model_actor.models.painter.textures import (
    Rng,
    Size,
    chroma_curve,
    hatching,
    paper,
    shifted,
    smooth_curve,
    smooth_noise,
    strokes,
    to_plane,
)

_WHOLE = np.empty(0, np.uint16)
"""The fractions of a map of whole pixels: none."""


class Medium(Protocol):
    """One way of making a picture."""

    def paint(self, view: View) -> Picture:
        """Returns a new picture; the view stays as it is."""


class Brushes:
    """Layers of strokes in `DIRECTIONS` directions and two sizes, made once for all seeds."""

    DIRECTIONS = 4
    COARSE = (46.0, 13.0)
    FINE = (20.0, 6.0)

    def __init__(self, size: Size) -> None:
        rng = np.random.default_rng(0)
        angles = [direction * math.pi / self.DIRECTIONS for direction in range(self.DIRECTIONS)]
        self.layers = [
            strokes(rng, size, angle, *brush)
            for brush in (self.COARSE, self.FINE)
            for angle in angles
        ]

    @property
    def size_bytes(self) -> int:
        """Memory that the layers take."""
        return sum(layer.anchor.nbytes + layer.bristles.nbytes for layer in self.layers)


class Oil:
    """Oil: strokes that follow the shapes, long ones in calm places, short ones on detail."""

    _tone = smooth_curve((0, 14), (30, 22), (128, 134), (225, 232), (255, 240))
    _colour = chroma_curve(1.55)
    _relief = 0.9
    _calm_below = 90

    def __init__(self, rng: Rng, size: Size, brushes: Brushes) -> None:
        height, width = size
        rows, columns = int(rng.integers(height // 2)), int(rng.integers(width // 2))
        self._strokes = [shifted(layer, rows, columns) for layer in brushes.layers]
        turn = 1.3 * smooth_noise(rng, (height // 4, width // 4), 90)
        self._calm = 90 * np.cos(turn), 90 * np.sin(turn)

    def paint(self, view: View) -> Picture:
        """Returns the picture in strokes."""
        chosen = self._choose(view)
        anchor = np.empty_like(self._strokes[0].anchor)
        relief = np.empty_like(view.full.y)
        chosen_full = cv2.resize(chosen, relief.shape[::-1], interpolation=cv2.INTER_NEAREST)
        for index, layer in enumerate(self._strokes):
            cv2.copyTo(layer.anchor, cv2.inRange(chosen, index, index), anchor)
            cv2.copyTo(layer.bristles, cv2.inRange(chosen_full, index, index), relief)
        source = cv2.merge([cv2.medianBlur(view.half, 5), view.full.u, view.full.v])
        y, u, v = cv2.split(cv2.remap(source, anchor, _WHOLE, cv2.INTER_NEAREST))
        y = grow(cv2.LUT(y, self._tone), view.full.y)
        y = cv2.addWeighted(y, 1.0, relief, self._relief, -128 * self._relief)
        return Picture(y, cv2.LUT(u, self._colour), cv2.LUT(v, self._colour))

    def _choose(self, view: View) -> Plane:
        """Returns for each place, at half size, the index of the layer whose stroke shows.

        Both questions, which way and how fine, are answered once for each stroke, or the
        borders between the layers would cut strokes and show as a grid.
        """
        ways, detail = self._directions(view.quarter)
        ways = cv2.resize(ways, view.half.shape[::-1], interpolation=cv2.INTER_NEAREST)
        ways = cv2.remap(ways, self._strokes[0].anchor, _WHOLE, cv2.INTER_NEAREST)
        fine = cv2.threshold(detail, self._calm_below, Brushes.DIRECTIONS, cv2.THRESH_BINARY)[1]
        fine = cv2.resize(fine, view.half.shape[::-1], interpolation=cv2.INTER_NEAREST)
        fine = cv2.remap(fine, self._strokes[-1].anchor, _WHOLE, cv2.INTER_NEAREST)
        return cv2.add(ways, fine)

    def _directions(self, quarter: Plane) -> tuple[Plane, Plane]:
        """Returns the direction index of each place, and how much detail it has.

        The direction is that of the least change, from the structure tensor (Förstner and
        Gülch 1987); in calm places it falls back to a slowly turning field.
        """
        gx = cv2.Sobel(quarter, cv2.CV_32F, 1, 0)
        gy = cv2.Sobel(quarter, cv2.CV_32F, 0, 1)
        energy = cv2.blur(cv2.add(cv2.multiply(gx, gx), cv2.multiply(gy, gy)), (5, 5))
        real = cv2.blur(cv2.subtract(cv2.multiply(gx, gx), cv2.multiply(gy, gy)), (9, 9))
        imaginary = cv2.blur(cv2.multiply(gx, gy, scale=2), (9, 9))
        # Twice the angle of the gradient; the stroke lies across it.
        doubled = cv2.phase(
            cv2.subtract(self._calm[0], real),
            cv2.subtract(self._calm[1], imaginary),
            angleInDegrees=True,
        )
        ways = cv2.convertScaleAbs(doubled, alpha=Brushes.DIRECTIONS / 360)
        ways[ways == Brushes.DIRECTIONS] = 0
        detail = cv2.convertScaleAbs(cv2.sqrt(energy), alpha=2.2)
        return ways, detail


class Pencil:
    """Graphite on paper: dark outlines, and up to four layers of hatching in the shadows."""

    _layers = ((0.62, 6.4, 158), (-0.5, 5.8, 112), (1.45, 5.4, 78), (0.1, 5.0, 48))
    """Angle, spacing and the luma below which the layer sets in."""
    _boil = 6
    """Frames for which the lines stay where they are, as in hand-drawn animation."""
    _places = 4
    _reach = 8
    """Pixels that the lines move at most."""

    def __init__(self, rng: Rng, size: Size) -> None:
        height, width = size
        larger = (height + self._reach, width + self._reach)
        self._lines = [hatching(rng, larger, angle, gap) for angle, gap, _ in self._layers]
        self._gates = [
            smooth_curve((level - 54, 142 - 28 * index), (level, 255))
            for index, (_, _, level) in enumerate(self._layers)
        ]
        self._paper = to_plane(paper(rng, size, 6).astype(np.float32) + 106)
        self._edge = smooth_curve((196, 30), (243, 255))
        self._offsets = rng.integers(0, self._reach, (self._places, 2)).tolist()
        self._u = np.full((height // 2, width // 2), 123, np.uint8)
        self._v = np.full((height // 2, width // 2), 131, np.uint8)

    def paint(self, view: View) -> Picture:
        """Returns the drawing."""
        negative = cv2.bitwise_not(view.half)
        soft = cv2.bitwise_not(cv2.blur(cv2.blur(negative, (5, 5)), (5, 5)))
        edges = cv2.divide(view.half, soft, scale=250)
        drawing = cv2.LUT(grow(edges, view.full.y), self._edge)
        tone = grow(cv2.blur(view.half, (5, 5)), view.full.y)
        height, width = tone.shape
        dy, dx = self._offsets[view.time // self._boil % self._places]
        for lines, gate in zip(self._lines, self._gates, strict=True):
            near = lines[dy : dy + height, dx : dx + width]
            cv2.min(drawing, cv2.max(near, cv2.LUT(tone, gate)), dst=drawing)
        return Picture(cv2.multiply(drawing, self._paper, scale=1 / 255), self._u, self._v)


class Cartoon:
    """Flat colours in few steps, and ink along the edges."""

    _steps = smooth_curve(
        (0, 22), (44, 34), (58, 74), (88, 80), (102, 122), (138, 128), (152, 172), (184, 180),
        (200, 222), (255, 232),
    )  # fmt: skip
    _colour = smooth_curve(
        (0, 20), (88, 48), (100, 84), (114, 106), (121, 124), (128, 128), (135, 132), (142, 150),
        (156, 172), (168, 212), (255, 236),
    )  # fmt: skip
    _ink = smooth_curve((4, 255), (14, 20))

    def __init__(self, rng: Rng, size: Size) -> None:
        height, width = size
        self._dots = to_plane(128 + 3 * smooth_noise(rng, (height, width), 3))

    def paint(self, view: View) -> Picture:
        """Returns the picture in flat colours with outlines."""
        flat = cv2.bilateralFilter(cv2.medianBlur(view.half, 5), 5, 40, 5)
        y = cv2.LUT(grow(flat, view.full.y), self._steps)
        # Difference of two blurs (Winnemöller 2011): ink where a place is darker than around.
        around = cv2.blur(cv2.blur(flat, (7, 7)), (5, 5))
        darker = cv2.subtract(around, cv2.GaussianBlur(flat, (5, 5), 0.9))
        ink = cv2.LUT(grow(cv2.convertScaleAbs(darker, alpha=2.4), view.full.y), self._ink)
        y = cv2.min(cv2.addWeighted(y, 1.0, self._dots, 0.5, -64), ink)
        u = cv2.LUT(cv2.medianBlur(view.full.u, 5), self._colour)
        v = cv2.LUT(cv2.medianBlur(view.full.v, 5), self._colour)
        return Picture(y, u, v)


class Watercolour:
    """Transparent washes: wandering outlines, pigment along their rims, rough white paper."""

    _light = smooth_curve((16, 62), (70, 112), (150, 190), (235, 238))
    _pools = smooth_curve((3, 0), (26, 46))
    _colour = chroma_curve(1.35)

    def __init__(self, rng: Rng, size: Size) -> None:
        height, width = size
        half = (height // 2, width // 2)
        x, y = np.meshgrid(
            np.arange(half[1], dtype=np.float32), np.arange(half[0], dtype=np.float32)
        )
        self._wander = cv2.convertMaps(
            x + 2.6 * smooth_noise(rng, half, 26, 3),
            y + 2.6 * smooth_noise(rng, half, 26, 3),
            cv2.CV_16SC2,
        )
        pigment = 9 * smooth_noise(rng, size, 70, 3) + 3 * smooth_noise(rng, size, 5, 2)
        self._grain = to_plane(paper(rng, size, 7).astype(np.float32) + pigment)
        painted = self._painted(rng, size)
        self._share = to_plane(255 * painted)
        self._bare = to_plane(236 * (1 - painted))
        small = shrink(self._share)
        self._share_half = small
        self._grey = to_plane(128 * (1 - small.astype(np.float32) / 255))

    @staticmethod
    def _painted(rng: Rng, size: Size) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Returns where paint lies: all but an uneven margin of the paper."""
        height, width = size
        y = np.minimum(np.arange(height), np.arange(height)[::-1]).astype(np.float32)[:, None]
        x = np.minimum(np.arange(width), np.arange(width)[::-1]).astype(np.float32)[None, :]
        inward = np.minimum(y, x) - 26 - 12 * smooth_noise(rng, size, 90, 4)
        return np.clip(inward / 9, 0, 1)

    def paint(self, view: View) -> Picture:
        """Returns the washes on the paper."""
        calm = cv2.bilateralFilter(cv2.medianBlur(view.half, 5), 5, 46, 6)
        washes = cv2.merge([calm, cv2.blur(view.full.u, (7, 7)), cv2.blur(view.full.v, (7, 7))])
        washes = cv2.remap(washes, *self._wander, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        luma, u, v = cv2.split(washes)
        rims = cv2.morphologyEx(luma, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        luma = cv2.subtract(
            cv2.LUT(luma, self._light), cv2.LUT(cv2.blur(rims, (3, 3)), self._pools)
        )
        y = cv2.addWeighted(grow(luma, view.full.y), 1.0, self._grain, 1.0, -128)
        y = cv2.add(cv2.multiply(y, self._share, scale=1 / 255), self._bare)
        return Picture(y, self._on_paper(u), self._on_paper(v))

    def _on_paper(self, chroma: Plane) -> Plane:
        coloured = cv2.LUT(chroma, self._colour)
        return cv2.add(cv2.multiply(coloured, self._share_half, scale=1 / 255), self._grey)


class Neon:
    """Glowing tubes along the edges, in colours that drift over the picture, on darkness."""

    _tube = smooth_curve((14, 0), (48, 150), (120, 255))
    _dark = smooth_curve((16, 17), (128, 26), (255, 62))
    _drift = 2
    """Pixels at half size that the colours move in a frame."""

    def __init__(self, rng: Rng, size: Size) -> None:
        height, width = size[0] // 2, size[1] // 2
        y, x = np.mgrid[:height, :width].astype(np.float32)
        # Whole waves over the width, so that the field fits together when it is rolled.
        waves = int(rng.integers(1, 3))
        phase = 2 * math.pi * (x / width * waves + y / height * 0.9) + rng.uniform(0, 6.28)
        wobble = 0.9 * np.sin(phase * 1.0 + 3 * np.sin(y / height * 5))
        hue = phase + wobble
        self._u = self._doubled(128 + 78 * np.cos(hue) + 14)
        self._v = self._doubled(128 + 78 * np.cos(hue * 1.0 + 1.9) + 10)

    @staticmethod
    def _doubled(field: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Plane:
        """Returns a field twice side by side: any cut of its width is a rolled copy."""
        return np.hstack([to_plane(field)] * 2)

    def paint(self, view: View) -> Picture:
        """Returns the tubes and their glow."""
        calm = cv2.bilateralFilter(view.half, 5, 26, 4)
        across = cv2.convertScaleAbs(cv2.Sobel(calm, cv2.CV_16S, 1, 0))
        down = cv2.convertScaleAbs(cv2.Sobel(calm, cv2.CV_16S, 0, 1))
        edges = cv2.add(across, down)
        # Where everything is an edge nothing should shine: only what stands out does.
        edges = cv2.subtract(edges, cv2.convertScaleAbs(cv2.blur(edges, (21, 21)), alpha=0.75))
        tubes = cv2.LUT(edges, self._tube)
        small = shrink(tubes)
        near = cv2.blur(cv2.blur(small, (5, 5)), (5, 5))
        far = cv2.blur(cv2.blur(small, (25, 25)), (25, 25))
        glow = grow(cv2.addWeighted(near, 0.7, far, 0.9, 0), view.half)
        crisp = cv2.LUT(grow(edges, view.full.y), self._tube)
        y = cv2.LUT(view.full.y, self._dark)
        y = cv2.add(y, cv2.addWeighted(grow(glow, y), 0.42, crisp, 0.62, 0))
        light = cv2.add(glow, cv2.addWeighted(tubes, 0.6, glow, 0.5, 24))
        at = view.time * self._drift % view.half.shape[1]
        u = self._lit(self._u[:, at : at + view.half.shape[1]], light)
        v = self._lit(self._v[:, at : at + view.half.shape[1]], light)
        return Picture(y, u, v)

    @staticmethod
    def _lit(hue: Plane, light: Plane) -> Plane:
        """Returns chroma as far from grey as there is light."""
        coloured = cv2.multiply(hue, light, scale=1 / 255)
        return cv2.add(coloured, cv2.convertScaleAbs(cv2.bitwise_not(light), alpha=128 / 255))
