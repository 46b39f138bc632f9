"""What is filmed: a bay at sunset, drawn; a boat sails through it, and lamps count the frames.

The camera of the browser and the clip that is uploaded show the same. The lamps stand at the
foot of the picture, a pair for each bit, one of the two lit: which one can be read after any
codec, at any size, and from a painting of the picture, as long as light stays lighter than dark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
import numpy.typing as npt

RATE: Final = 24
BITS: Final = 8
COUNTED: Final = 1 << BITS
"""Numbers of frames are modulo this: ten seconds."""

Rgb = npt.NDArray[np.uint8]
"""A picture of shape `(height, width, 3)`."""

_Stops = tuple[tuple[float, tuple[int, int, int]], ...]
_SKY: Final[_Stops] = (
    (0.0, (38, 52, 98)),
    (0.45, (196, 112, 118)),
    (0.8, (250, 178, 96)),
    (1.0, (255, 214, 140)),
)
_SEA: Final[_Stops] = ((0.0, (236, 168, 110)), (0.3, (84, 118, 150)), (1.0, (14, 44, 74)))
_FRAME: Final = b"FRAME\n"
_HORIZON: Final = 0.56
"""Height of the horizon, as a part of the picture's."""
_LAMPS: Final = (0.03, 0.97, 0.80, 0.985)
"""Left, right, top and bottom of the lamps, as parts of the picture's size."""
_GULL: Final = (42, 38, 54)
_LIT: Final = (255, 240, 205)
_UNLIT: Final = (20, 26, 40)
_LEAST_CONTRAST: Final = 18.0
"""Luma between the lamps of a pair below which nothing is read."""


@dataclass(frozen=True, slots=True)
class Film:
    """How the bay is filmed."""

    width: int = 640
    height: int = 352
    seconds: float = COUNTED / RATE
    lamps: bool = True
    """Whether frames are counted; without, it is only beautiful."""

    def pictures(self) -> Iterator[Rgb]:
        """Yields its frames."""
        for number in range(round(self.seconds * RATE)):
            drawn = _with_water(_backdrop(self.width, self.height), number)
            _sail(drawn, number)
            _fly(drawn, number)
            if self.lamps:
                _light(drawn, number)
            yield drawn


def write_camera(path: Path, film: Film) -> Path:
    """Writes it as Chromium wants the file that its fake camera plays for ever: YUV4MPEG2."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{film.width} H{film.height} F{RATE}:1 Ip A1:1 C420jpeg\n".encode())
        for drawn in film.pictures():
            file.write(_FRAME + cv2.cvtColor(drawn, cv2.COLOR_RGB2YUV_I420).tobytes())
    return path


def write_clip(path: Path, camera: Path, rounds: int = 1) -> Path:
    """Writes what a camera shows as a clip, H.264 in MP4, so many times over."""
    head, *frames = camera.read_bytes().split(_FRAME)
    width, height = (int(word[1:]) for word in head.split()[1:3])
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "crf": "20"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for data in frames * rounds:
            planes = np.frombuffer(data, np.uint8).reshape(height * 3 // 2, width)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode(None))
    return path


def number_of(shown: Rgb) -> int | None:
    """Reads the number of a frame from a picture of it; None: it is not to be read."""
    luma = cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)
    height, width = luma.shape
    number = 0
    for bit in range(BITS):
        upper, lower = (
            float(luma[_inner(box, height, width)].mean()) for box in (_lamp(bit, 0), _lamp(bit, 1))
        )
        if abs(upper - lower) < _LEAST_CONTRAST:
            return None
        number |= (upper > lower) << bit
    return number


def apart(one: int, other: int) -> int:
    """Returns how many frames lie between two numbers, the shorter way around."""
    distance = abs(one - other) % COUNTED
    return min(distance, COUNTED - distance)


# -- the drawing


def _ramp(stops: _Stops, count: int) -> npt.NDArray[Any]:
    at = np.linspace(0, 1, count)
    places = [place for place, _ in stops]
    columns = [np.interp(at, places, [colour[part] for _, colour in stops]) for part in range(3)]
    return np.stack(columns, axis=1)


def _noise(rng: np.random.Generator, height: int, width: int, *cells: int) -> npt.NDArray[Any]:
    """Returns smooth noise about 0: the sum of grids, finer ones weaker."""
    total = np.zeros((height, width), np.float32)
    for cell in cells:
        grid = rng.normal(size=(height // cell + 2, width // cell + 2)).astype(np.float32)
        fine = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        total += fine * (cell / max(cells))
    return total


@cache
def _backdrop(width: int, height: int) -> Rgb:
    """Returns what does not move: sky, sun, hills and the sea's colours."""
    rng = np.random.default_rng(7)
    horizon = round(height * _HORIZON)
    picture = np.empty((height, width, 3), np.float32)
    picture[:horizon] = _ramp(_SKY, horizon)[:, None]
    picture[horizon:] = _ramp(_SEA, height - horizon)[:, None]
    clouds = np.clip(_noise(rng, horizon, width, width // 5, width // 10, width // 24) - 0.5, 0, 1)
    clouds *= np.linspace(1.0, 0.15, horizon)[:, None]
    picture[:horizon] += clouds[..., None] * np.array([92, 60, 44], np.float32)
    _sun(picture, horizon)
    for index, (base, rough, colour) in enumerate(
        ((0.20, 0.11, (122, 92, 122)), (0.11, 0.08, (82, 70, 102)), (0.045, 0.05, (40, 46, 70)))
    ):
        ridge = _noise(rng, 2, width, width // 4, width // 12, width // 40)[0]
        slope = np.linspace(1.25, 0.35, width) if index % 2 else np.linspace(0.45, 1.2, width)
        tops = horizon - np.clip((base * slope + 0.7 * rough * ridge) * height, 2, None).astype(int)
        for column, top in enumerate(tops):
            picture[top:horizon, column] = colour
    grain = _noise(rng, height, width, 2)
    drawn: Rgb = np.clip(picture + 3 * grain[..., None], 0, 255).astype(np.uint8)
    return drawn


def _sun(picture: npt.NDArray[Any], horizon: int) -> None:
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    away = np.hypot(x - 0.63 * width, y - 0.40 * height) / height
    glow = np.exp(-((away / 0.22) ** 2))[:horizon, :, None]
    picture[:horizon] += glow * np.array([90, 76, 36], np.float32)
    disc = np.clip((0.062 - away) * height / 2, 0, 1)[:horizon, :, None]
    picture[:horizon] = picture[:horizon] * (1 - disc) + disc * np.array([255, 246, 214])


def _with_water(backdrop: Rgb, number: int) -> Rgb:
    """Returns the picture with waves: rows that sway, and glitter below the sun."""
    picture = backdrop.copy()
    height, width = picture.shape[:2]
    horizon = round(height * _HORIZON)
    depth = np.linspace(0, 1, height - horizon, dtype=np.float32)[:, None]
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :]
    time = number / RATE
    waves = np.sin(90 * depth**0.6 + 9 * x + 1.7 * time) * np.sin(23 * x - 50 * depth - 1.1 * time)
    path = np.exp(-(((x - 0.63) / (0.05 + 0.16 * depth)) ** 2))
    lines = np.sin(150 * depth**0.7 + 31 * x + 3.1 * time)
    glitter = np.clip(lines * np.sin(47 * x - 2.3 * time), 0, 1)
    light = 14 * waves * (0.3 + depth) + 190 * path * glitter**2 * (1 - 0.55 * depth)
    colours = np.array([1.0, 0.8, 0.55], np.float32)
    picture[horizon:] = np.clip(picture[horizon:] + light[..., None] * colours, 0, 255)
    return picture


def _sail(picture: Rgb, number: int) -> None:
    """Draws the boat: it crosses the bay in 16 s, and bobs."""
    height, width = picture.shape[:2]
    unit = height / 100
    at = (0.12 + number / RATE / 16) % 1.2 - 0.1
    x, y = at * width, (66 + 0.8 * np.sin(number / RATE * 2.1)) * unit
    tilt = 0.05 * np.sin(number / RATE * 1.4)
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])

    def shape(colour: tuple[int, int, int], *points: tuple[float, float]) -> None:
        corners = (np.array(points) @ turn * unit + (x, y)).astype(np.int32)
        cv2.fillPoly(picture, [corners], colour, cv2.LINE_AA)

    shape((96, 36, 32), (-12, 0), (13, -0.5), (9, 5), (-9, 5))
    shape((226, 214, 196), (-12, 0), (13, -0.5), (12.4, 0.9), (-11.6, 1.2))
    shape((60, 42, 34), (-0.4, 0), (0.4, 0), (0.4, -31), (-0.4, -31))
    shape((250, 240, 222), (1, -30), (12, -3), (1, -3))
    shape((214, 76, 56), (-1, -27), (-10, -3), (-1, -3))


def _fly(picture: Rgb, number: int) -> None:
    """Draws three gulls."""
    height, width = picture.shape[:2]
    for index in range(3):
        time = number / RATE + index * 1.9
        x = (0.85 - 0.045 * time + 0.11 * index) % 1.1 * width
        y = (0.17 + 0.045 * index + 0.02 * np.sin(1.3 * time)) * height
        beat = np.sin(5 * time) * 0.018 * height
        span = 0.026 * height
        points = [(x - span, y - beat), (x - span / 3, y - span / 6), (x, y + span / 8)]
        points += [(x + span / 3, y - span / 6), (x + span, y - beat)]
        line, thick = np.array(points, np.int32), max(1, height // 200)
        cv2.polylines(
            picture, [line], isClosed=False, color=_GULL, thickness=thick, lineType=cv2.LINE_AA
        )


# -- the lamps

Box = tuple[float, float, float, float]
"""Left, right, top and bottom, as parts of the picture's size."""


def _lamp(bit: int, row: int) -> Box:
    left, right, top, bottom = _LAMPS
    wide, tall = (right - left) / BITS, (bottom - top) / 2
    return left + bit * wide, left + (bit + 0.82) * wide, top + row * tall, top + (row + 0.9) * tall


def _inner(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """Returns the inside of a lamp: its rim is what codecs and brushes blur."""
    left, right, top, bottom = box
    dx, dy = (right - left) * 0.2, (bottom - top) * 0.22
    rows = slice(round((top + dy) * height), round((bottom - dy) * height))
    return rows, slice(round((left + dx) * width), round((right - dx) * width))


def _light(picture: Rgb, number: int) -> None:
    height, width = picture.shape[:2]
    for bit in range(BITS):
        for row in range(2):
            left, right, top, bottom = _lamp(bit, row)
            lit = (number >> bit & 1) != row
            rows = slice(round(top * height), round(bottom * height))
            columns = slice(round(left * width), round(right * width))
            picture[rows, columns] = _LIT if lit else _UNLIT
