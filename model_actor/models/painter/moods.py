"""The moods: light, weather and film stock, laid over a picture that is made already."""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np

from model_actor.models.painter.picture import Picture, Plane, grow, shrink
from model_actor.models.painter.recipe import Palette
from model_actor.models.painter.textures import (
    Curve,
    Rng,
    Size,
    chroma_curve,
    curve,
    flakes,
    smooth_curve,
    smooth_noise,
    to_plane,
    vignette,
)


class Mood(Protocol):
    """One change of a picture."""

    def grade(self, picture: Picture, time: int) -> Picture:
        """Returns a changed picture; the planes of the given one stay as they are."""


class Night:
    """Day for night: dark and blue, lamps where lights are, stars where a sky could be."""

    _dark = smooth_curve((16, 18), (90, 46), (170, 86), (235, 132))
    _blue_u, _blue_v = chroma_curve(0.55, 17), chroma_curve(0.45, -7)
    _lamp = smooth_curve((16, 0), (60, 235))
    _sky = smooth_curve((120, 0), (165, 255))
    _small = np.ones((19, 19), np.uint8)
    _plain = smooth_curve((3, 255), (12, 0))

    def __init__(self, rng: Rng, size: Size) -> None:
        height, width = size
        self._edge = vignette(size, 0.5)
        stars = flakes(rng, (height, width), 520, 1.0, 0.0)
        self._stars = [
            cv2.multiply(stars, to_plane(150 + 75 * smooth_noise(rng, size, 14)), scale=1 / 255)
            for _ in range(2)
        ]
        down = np.clip(1.25 - 2.6 * np.arange(height // 4) / (height // 4), 0, 1)
        self._up = to_plane(255 * np.repeat(down[:, None], width // 4, axis=1))

    def grade(self, picture: Picture, time: int) -> Picture:
        """Returns the picture by night."""
        half = shrink(picture.y)
        quarter = shrink(half)
        calm = cv2.blur(quarter, (7, 7))
        # What is bright and small is a lamp: the top-hat leaves out all larger than its kernel.
        lamps = cv2.LUT(cv2.morphologyEx(calm, cv2.MORPH_TOPHAT, self._small), self._lamp)
        sky = self._open_sky(quarter, calm)
        lamps = cv2.subtract(lamps, cv2.dilate(sky, self._small))
        glow = cv2.addWeighted(
            cv2.blur(cv2.blur(lamps, (9, 9)), (9, 9)),
            0.6,
            cv2.blur(cv2.blur(lamps, (35, 35)), (35, 35)),
            0.7,
            0,
        )
        y = cv2.multiply(cv2.LUT(picture.y, self._dark), self._edge, scale=1 / 255)
        sky_full = grow(sky, y)
        y = cv2.subtract(y, cv2.multiply(y, sky_full, scale=0.62 / 255))
        twinkle = 0.5 + 0.5 * math.sin(time * 0.19)
        stars = cv2.addWeighted(self._stars[0], twinkle, self._stars[1], 1 - twinkle, 0)
        y = cv2.add(y, cv2.multiply(stars, sky_full, scale=1 / 255))
        y = cv2.addWeighted(y, 1.0, grow(glow, y), 0.62, 0)
        warm = grow(glow, half)
        u = cv2.subtract(cv2.LUT(picture.u, self._blue_u), cv2.convertScaleAbs(warm, alpha=0.30))
        v = cv2.add(cv2.LUT(picture.v, self._blue_v), cv2.convertScaleAbs(warm, alpha=0.17))
        return Picture(y, u, v)

    def _open_sky(self, quarter: Plane, calm: Plane) -> Plane:
        """Returns where the picture is bright, plain and high up."""
        plain = cv2.LUT(cv2.blur(cv2.absdiff(quarter, calm), (5, 5)), self._plain)
        bright = cv2.min(plain, cv2.LUT(calm, self._sky))
        return cv2.multiply(cv2.blur(bright, (5, 5)), self._up, scale=1 / 255)


class Sepia:
    """An old print: brown tones, faded blacks, grain, dust, dark corners, a little weave."""

    _tone = smooth_curve((16, 34), (128, 132), (235, 226))

    def __init__(self, rng: Rng, size: Size) -> None:
        self._u = curve((16, 116), (120, 102), (200, 108), (235, 118))
        self._v = curve((16, 134), (120, 147), (200, 143), (235, 134))
        self._edge = vignette(size, 0.62)
        self._grain = [to_plane(128 + 5 * smooth_noise(rng, size, 3, 2)) for _ in range(3)]
        self._dust = [self._scratched(rng, size) for _ in range(3)]

    @staticmethod
    def _scratched(rng: Rng, size: Size) -> Plane:
        height, width = size
        plane = np.zeros(size, np.uint8)
        for _ in range(3):
            x, top = int(rng.integers(width)), int(rng.integers(height))
            end = (x + int(rng.integers(-8, 9)), top + int(rng.integers(100, height)))
            cv2.line(plane, (x, top), end, int(rng.integers(18, 46)), 1, cv2.LINE_AA)
        for x, y, radius in zip(
            rng.integers(0, width, 9),
            rng.integers(0, height, 9),
            rng.integers(1, 4, 9),
            strict=True,
        ):
            cv2.ellipse(
                plane,
                (int(x), int(y)),
                (int(radius), int(radius) + 2),
                int(x) % 180,
                0,
                360,
                90,
                -1,
                cv2.LINE_AA,
            )
        return plane

    def grade(self, picture: Picture, time: int) -> Picture:
        """Returns the picture as an old print."""
        y = cv2.LUT(picture.y, self._tone)
        y = cv2.addWeighted(y, 1.0, self._grain[time // 2 % 3], 1.0, -128)
        y = cv2.add(y, self._dust[time // 8 * 7 % 3])
        y = cv2.multiply(y, self._edge, scale=1 / 255)
        half = shrink(y)
        return Picture(y, cv2.LUT(half, self._u), cv2.LUT(half, self._v))


class Snow:
    """Winter: cold pale light, snow on what faces up, haze, and flakes at three depths."""

    _cold = smooth_curve((16, 40), (110, 126), (235, 192))
    _pale_u, _pale_v = chroma_curve(0.36, 9), chroma_curve(0.36, -5)
    _caps = smooth_curve((10, 0), (48, 215))
    _layers = ((1500, 1.3, 0.0, 2.5, 0.6), (420, 2.6, 0.9, 5.5, 1.4), (70, 6.5, 2.6, 11.0, 3.0))
    """Count, radius and blur of the flakes; pixels a frame down, and across."""

    def __init__(self, rng: Rng, size: Size) -> None:
        height, width = size
        self._flakes = [flakes(rng, size, *layer[:3]) for layer in self._layers]
        self._phases = rng.uniform(0, 6.28, len(self._layers)).tolist()
        self._wind = float(rng.choice([-1.0, 1.0]))
        rows = np.arange(height // 2, dtype=np.float32)[:, None] / (height // 2)
        drift = 0.5 * smooth_noise(rng, (height // 2, width // 2), 120, 3)
        ground = 92 * np.clip((rows - 0.45 + 0.06 * drift) / 0.55, 0, 1) ** 1.3
        self._ground = to_plane(ground + 20 + 8 * drift)
        self._crumbs = to_plane(190 + 50 * smooth_noise(rng, (height // 2, width // 2), 3))

    def grade(self, picture: Picture, time: int) -> Picture:
        """Returns the picture in winter."""
        half = shrink(picture.y)
        calm = cv2.blur(half, (5, 5))
        # Brighter above than below is the upper side of something.
        falling = cv2.Sobel(calm, cv2.CV_8U, 0, 1, scale=-1)
        caps = cv2.multiply(
            cv2.LUT(cv2.blur(falling, (5, 5)), self._caps), self._crumbs, scale=1 / 255
        )
        white = cv2.add(caps, cv2.multiply(self._ground, half, scale=1.7 / 255))
        y = cv2.add(cv2.LUT(picture.y, self._cold), grow(white, picture.y))
        y = cv2.threshold(y, 232, 0, cv2.THRESH_TRUNC)[1]
        for layer, plane, phase in zip(self._layers, self._flakes, self._phases, strict=True):
            down, across = layer[3], layer[4]
            sway = 3 * down * math.sin(time * 0.045 + phase)
            _add_rolled(y, plane, round(time * down), round(self._wind * time * across + sway))
        return Picture(y, cv2.LUT(picture.u, self._pale_u), cv2.LUT(picture.v, self._pale_v))


class Sunset:
    """Golden hour: warm light from one side, long soft shadows, a red haze."""

    _tone = smooth_curve((16, 20), (90, 82), (235, 226))

    def __init__(self, rng: Rng, size: Size) -> None:
        height, width = size[0] // 2, size[1] // 2
        y, x = np.mgrid[:height, :width].astype(np.float32)
        sun = (width * rng.uniform(0.2, 0.8), height * 0.18)
        far = np.hypot((x - sun[0]) / width, (y - sun[1]) / height * 0.7)
        light = np.clip(1 - far / 0.75, 0, 1)
        self._light = to_plane(78 * light**1.7)
        self._u, self._v = to_plane(128 - 24 - 22 * light), to_plane(128 + 17 + 12 * light)
        self._edge = vignette(size, 0.45)

    def grade(self, picture: Picture, time: int) -> Picture:
        """Returns the picture in low sun."""
        del time
        y = cv2.multiply(cv2.LUT(picture.y, self._tone), self._edge, scale=1 / 255)
        y = cv2.add(y, grow(self._light, y))
        y = cv2.threshold(y, 236, 0, cv2.THRESH_TRUNC)[1]
        u = cv2.addWeighted(picture.u, 0.8, self._u, 0.9, -0.7 * 128)
        v = cv2.addWeighted(picture.v, 0.8, self._v, 0.9, -0.7 * 128)
        return Picture(y, u, v)


class Noir:
    """Black and white film: hard light, deep blacks, coarse grain."""

    _tone = smooth_curve((30, 17), (80, 46), (150, 170), (215, 235))

    def __init__(self, rng: Rng, size: Size) -> None:
        self._grain = [to_plane(128 + 5 * smooth_noise(rng, size, 4, 3)) for _ in range(3)]
        self._edge = vignette(size, 0.7)
        self._grey = np.full((size[0] // 2, size[1] // 2), 128, np.uint8)

    def grade(self, picture: Picture, time: int) -> Picture:
        """Returns the picture in black and white."""
        y = cv2.LUT(picture.y, self._tone)
        y = cv2.addWeighted(y, 1.0, self._grain[time // 2 % 3], 1.0, -128)
        return Picture(cv2.multiply(y, self._edge, scale=1 / 255), self._grey, self._grey)


class Tint:
    """Colours that were named, over everything."""

    _keep = 0.45

    def __init__(self, tint: tuple[int, int]) -> None:
        self._u, self._v = (chroma_curve(self._keep, offset) for offset in tint)

    def grade(self, picture: Picture, time: int) -> Picture:
        """Returns the picture with its colours moved."""
        del time
        return Picture(picture.y, cv2.LUT(picture.u, self._u), cv2.LUT(picture.v, self._v))


class Graded:
    """A palette of three colours: for shadows, middle tones and lights."""

    _share = 0.72

    def __init__(self, palette: Palette) -> None:
        self._u, self._v = (
            _three_tones(palette.shadows[i], palette.middle[i], palette.lights[i]) for i in (0, 1)
        )

    def grade(self, picture: Picture, time: int) -> Picture:
        """Returns the picture in the colours of the palette."""
        del time
        half = shrink(picture.y)
        rest = 1 - self._share
        return Picture(
            picture.y,
            cv2.addWeighted(picture.u, rest, cv2.LUT(half, self._u), self._share, 0),
            cv2.addWeighted(picture.v, rest, cv2.LUT(half, self._v), self._share, 0),
        )


def _three_tones(shadows: int, middle: int, lights: int) -> Curve:
    return smooth_curve((30, 128 + shadows), (125, 128 + middle), (215, 128 + lights))


def _add_rolled(target: Plane, plane: Plane, down: int, right: int) -> None:
    """Adds a plane, rolled by some pixels, to another in place, without a rolled copy."""
    height, width = plane.shape
    down, right = down % height, right % width
    for rows, rows_of in (
        (slice(down, height), slice(0, height - down)),
        (slice(0, down), slice(height - down, height)),
    ):
        for cols, cols_of in (
            (slice(right, width), slice(0, width - right)),
            (slice(0, right), slice(width - right, width)),
        ):
            part = target[rows, cols]
            if part.size:
                cv2.add(part, plane[rows_of, cols_of], dst=part)
