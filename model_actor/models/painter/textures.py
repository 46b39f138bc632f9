"""Textures: noise, paper, hatching, flakes and brush strokes, all made from a seed.

They are made once and then only shifted or looked up; none is made while frames wait,
except for a session's first window with a new look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Rng = np.random.Generator
Field = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Curve = Bytes
"""A table of 256 values."""
Size = tuple[int, int]
"""Height and width."""

_LEVELS = np.arange(256, dtype=np.float32)


def curve(*points: tuple[float, float]) -> Curve:
    """Returns the table that runs through the given (in, out) points, straight between them."""
    xs, ys = zip(*points, strict=True)
    return to_plane(np.interp(_LEVELS, xs, ys))


def smooth_curve(*points: tuple[float, float]) -> Curve:
    """Like `curve`, eased in and out between the points."""
    xs, ys = (np.array(column, np.float32) for column in zip(*points, strict=True))
    after = np.clip(np.searchsorted(xs, _LEVELS, side="right"), 1, len(xs) - 1)
    share = np.clip((_LEVELS - xs[after - 1]) / (xs[after] - xs[after - 1]), 0, 1)
    eased = share * share * (3 - 2 * share)
    return to_plane(ys[after - 1] + (ys[after] - ys[after - 1]) * eased)


def chroma_curve(gain: float, offset: float = 0.0) -> Curve:
    """Returns the table that scales chroma around grey and moves it."""
    return to_plane(np.clip((_LEVELS - 128) * gain + 128 + offset, 16, 240))


def smooth_noise(rng: Rng, size: Size, scale: int, octaves: int = 1) -> Field:
    """Returns noise of mean 0 and deviation 1 whose largest blots are `scale` pixels wide."""
    height, width = size
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        step = max(1, scale >> octave)
        coarse = rng.standard_normal((height // step + 3, width // step + 3), dtype=np.float32)
        fine = cv2.resize(
            coarse, (width + 2 * step, height + 2 * step), interpolation=cv2.INTER_CUBIC
        )
        total += fine[step : step + height, step : step + width] / (1 << octave)
    total -= total.mean()
    total /= max(1e-6, float(total.std()))
    return total


def to_plane(field: npt.ArrayLike) -> Bytes:
    """Rounds to bytes."""
    return np.clip(np.asarray(field, np.float32).round(), 0, 255).astype(np.uint8)


def vignette(size: Size, strength: float) -> Bytes:
    """Returns a factor of 255 in the middle that falls off towards the corners."""
    height, width = size
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    radius = np.sqrt(x * x + y * y) / math.sqrt(2)
    return to_plane(255 * (1 - strength * np.clip((radius - 0.35) / 0.65, 0, 1) ** 1.6))


def paper(rng: Rng, size: Size, contrast: float) -> Bytes:
    """Returns rough paper lit from the upper left, around 128."""
    relief = smooth_noise(rng, size, 9, 3) + 0.5 * smooth_noise(rng, size, 2)
    light = cv2.Sobel(relief, cv2.CV_32F, 1, 0) + cv2.Sobel(relief, cv2.CV_32F, 0, 1)
    return to_plane(128 + contrast * light / max(1e-6, float(light.std())))


def hatching(rng: Rng, size: Size, angle: float, spacing: float) -> Bytes:
    """Returns pencil lines, 0 in the middle of a line and 255 between lines."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    across = x * math.cos(angle) + y * math.sin(angle)
    across += 0.9 * smooth_noise(rng, size, 60)
    wave = 0.5 + 0.5 * np.cos(across * (2 * math.pi / spacing))
    pressure = 1 + 0.28 * smooth_noise(rng, size, 24, 2) + 0.22 * smooth_noise(rng, size, 2)
    return to_plane(255 - 255 * np.clip(wave**2 * pressure * 1.25, 0, 1))


def flakes(rng: Rng, size: Size, count: int, radius: float, blur: float) -> Bytes:
    """Returns snow flakes on black that fit together at opposite borders."""
    height, width = size
    plane = np.zeros(size, np.uint8)
    for x, y, grain in zip(
        rng.uniform(0, width, count), rng.uniform(0, height, count), rng.random(count), strict=True
    ):
        reach, light = radius * (0.6 + 0.7 * grain), int(150 + 105 * grain)
        for dx in (-width, 0, width) if not reach < x < width - reach else (0,):
            for dy in (-height, 0, height) if not reach < y < height - reach else (0,):
                centre = (round((x + dx) * 16), round((y + dy) * 16))
                cv2.circle(plane, centre, max(8, round(reach * 16)), light, -1, cv2.LINE_AA, 4)
    if blur <= 0:
        return plane
    border = math.ceil(blur * 4)
    wrapped = cv2.copyMakeBorder(plane, *(border,) * 4, cv2.BORDER_WRAP)
    return cv2.GaussianBlur(wrapped, (0, 0), blur)[border:-border, border:-border].astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Strokes:
    """Brush strokes of one direction and size that cover a plane.

    A stroke has one colour, that of the source at its middle: `anchor` says for each
    pixel where that is, as the maps of `cv2.remap` do (x, y).
    """

    anchor: npt.NDArray[np.int16]
    """At half size."""
    bristles: Bytes
    """Relief of the paint at full size, around 128."""


def strokes(rng: Rng, size: Size, angle: float, length: float, width: float) -> Strokes:
    """Lays strokes over a plane in random order until it is covered.

    Args:
        rng: Source of the places and of the bristles.
        size: Full size of the plane.
        angle: Direction in radians, clockwise from the x axis.
        length: Length of a stroke in pixels at full size.
        width: Its width.
    """
    height, width_px = size
    step_y, step_x = width * 0.62, length * 0.42
    cos, sin = math.cos(angle), math.sin(angle)
    diagonal = math.hypot(height, width_px) / 2 + length
    along = np.arange(-diagonal, diagonal, step_x, dtype=np.float32)
    across = np.arange(-diagonal, diagonal, step_y, dtype=np.float32)
    a, b = (grid.ravel() for grid in np.meshgrid(along, across))
    a = a + rng.uniform(-0.7, 0.7, a.size).astype(np.float32) * step_x
    b = b + rng.uniform(-0.7, 0.7, b.size).astype(np.float32) * step_y
    tilt = angle + rng.normal(0, 0.16, a.size)
    centres = np.stack([a * cos - b * sin + width_px / 2, a * sin + b * cos + height / 2], axis=1)
    inside = (
        (centres[:, 0] > -length)
        & (centres[:, 0] < width_px + length)
        & (centres[:, 1] > -length)
        & (centres[:, 1] < height + length)
    )
    order = rng.permutation(np.flatnonzero(inside))
    centres, tilt = centres[order].astype(np.float32), tilt[order].astype(np.float32)
    number = _number_strokes(centres, tilt, size, length, width)
    half = number[::2, ::2]
    anchor = centres[half] / 2
    anchor[..., 0] = np.clip(anchor[..., 0], 0, width_px // 2 - 1)
    anchor[..., 1] = np.clip(anchor[..., 1], 0, height // 2 - 1)
    return Strokes(anchor.astype(np.int16), _bristles(rng, number, centres, tilt, width))


def _number_strokes(
    centres: Field, tilt: Field, size: Size, length: float, width: float
) -> npt.NDArray[np.int32]:
    """Draws each stroke in its number; later ones cover earlier ones."""
    canvas = np.zeros(size, np.int32)
    reach = np.stack([np.cos(tilt), np.sin(tilt)], axis=1) * ((length - width) / 2)
    starts = ((centres - reach) * 16).round().astype(int).tolist()
    ends = ((centres + reach) * 16).round().astype(int).tolist()
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        cv2.line(canvas, start, end, index, round(width), cv2.LINE_8, 4)
    return canvas


def _bristles(
    rng: Rng, number: npt.NDArray[np.int32], centres: Field, tilt: Field, width: float
) -> Bytes:
    """Returns the relief of strokes: furrows along each, a ridge at its sides."""
    height, width_px = number.shape
    y, x = np.mgrid[:height, :width_px].astype(np.float32)
    x -= centres[:, 0][number]
    y -= centres[:, 1][number]
    cos, sin = np.cos(tilt)[number], np.sin(tilt)[number]
    along, across = x * cos + y * sin, y * cos - x * sin
    rows, columns = 64, 48
    grooves = rng.standard_normal((rows, columns), dtype=np.float32)
    furrows = np.zeros_like(grooves)
    cv2.GaussianBlur(grooves, (0, 0), sigmaX=5, sigmaY=0.6, dst=furrows)
    furrows /= float(furrows.std())
    row = (across * 1.1 + number * 7.3).astype(np.int32) % rows
    column = (along * 0.5 + number * 3.1).astype(np.int32) % columns
    side = np.clip(np.abs(across) / (width / 2), 0, 1)
    lit = np.sign(across * cos + along * sin)
    relief = 11 * furrows[row, column] + 26 * lit * side**4
    load = rng.normal(0, 9, len(centres)).astype(np.float32)
    return to_plane(128 + cv2.GaussianBlur(relief, (0, 0), 0.7) + load[number])


def shifted(layer: Strokes, rows: int, columns: int) -> Strokes:
    """Moves strokes by some pixels at half size; what leaves on one side enters opposite."""
    height, width = layer.anchor.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    moved = np.roll(layer.anchor - grid, (rows, columns), (0, 1)) + grid
    np.clip(moved, 0, (width - 1, height - 1), out=moved)
    bristles = np.roll(layer.bristles, (2 * rows, 2 * columns), (0, 1))
    return Strokes(moved.astype(np.int16), bristles)
