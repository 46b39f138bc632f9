"""The clip that every system shows: the same pictures, as RGB and as I420, on disk.

A loop of 96 frames of 1280x704 at 24 fps: a textured world that pans by 3 px a frame, a
bright disc that moves against it, fresh noise in every frame, and one jump cut each time
the loop begins again. Top left stands the number of the frame in cells that survive both
codecs. Seeded, so that every run and every machine sees the same.

Memory-mapped: all processes of a run share one copy. The first frames stand once more
behind the last, so that a window that crosses the end is one slice, and nobody copies.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange

from tests.bench.media import marker

WIDTH: Final = 1280
HEIGHT: Final = 704
RATE: Final = 24
FRAMES: Final = 96
"""Frames of the loop: four seconds."""
OVERLAP: Final = 33
"""Frames that stand once more behind the end: the largest window."""
PAN: Final = 3
"""Pixels that the world moves a frame."""
NOISE: Final = 8
"""Grain of each colour is even between plus and minus this."""
VERSION: Final = "clip-v4"
"""Changes with what `draw` draws."""

Pictures = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Clip:
    """The clip on disk."""

    folder: Path

    @property
    def rgb(self) -> Pictures:
        """Shape `(129, 704, 1280, 3)`."""
        return self._map("rgb", (FRAMES + OVERLAP, HEIGHT, WIDTH, 3))

    @property
    def i420(self) -> Pictures:
        """BT.709, limited range; shape `(129, 1056, 1280)`."""
        return self._map("i420", (FRAMES + OVERLAP, HEIGHT * 3 // 2, WIDTH))

    def _map(self, name: str, shape: tuple[int, ...]) -> Pictures:
        # Copy on write: libav takes no read-only buffers, and nobody shall change the file.
        mapped: Pictures = np.memmap(self.folder / name, np.uint8, "c", shape=shape)
        return mapped


def luma(rgb: Pictures, matrix: str) -> Pictures:
    """Returns the limited-range Y of a picture by a matrix, `bt709` or `bt601`."""
    red, green, blue = LUMA[matrix]
    weights = np.array([red, green, blue], np.float32) * (219 / 255)
    exact = rgb.astype(np.float32) @ weights + 16
    rounded: Pictures = np.clip(np.rint(exact), 0, 255).astype(np.uint8)
    return rounded


LUMA: Final = {"bt709": (0.2126, 0.7152, 0.0722), "bt601": (0.299, 0.587, 0.114)}
"""Weights of red, green and blue (ITU-R BT.709-6 and BT.601-7)."""


def psnr(one: Pictures, other: Pictures) -> float:
    """Returns the peak signal-to-noise ratio of two planes in dB; 99 for equal ones."""
    error = float(cv2.norm(one, other, cv2.NORM_L2SQR)) / one.size
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def made(folder: Path) -> Clip:
    """Returns the clip below a folder, made there on first use: 10 s and 530 MB."""
    target = folder / VERSION
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            _write(Path(name))
            # Whole or not at all, also when two runs make it at once.
            if not target.is_dir():
                shutil.copytree(name, target)
    return Clip(target)


def draw(number: int, world: Pictures, random: np.random.Generator) -> Pictures:
    """Draws a frame of the loop as RGB."""
    picture = world[:, number * PAN : number * PAN + WIDTH].astype(np.int16)
    centre = (200 + number * 9, HEIGHT // 2 + round(180 * np.sin(number / 9)))
    disc = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(disc, centre, 90, 255, -1)
    picture[disc > 0] = (238, 196, 64)
    picture += random.integers(-NOISE, NOISE + 1, picture.shape, np.int16)
    frame = np.clip(picture, 0, 255).astype(np.uint8)
    marker.write(frame, number)
    return frame


def world_of(random: np.random.Generator) -> Pictures:
    """Draws what the camera pans over: texture at many scales, tinted at the coarse ones."""
    width = WIDTH + FRAMES * PAN
    total = np.full((HEIGHT, width, 3), 118, np.float32)
    for cell, light, tint in TEXTURE:
        shape = (HEIGHT // cell + 2, width // cell + 2, 3)
        coarse = random.uniform(-1, 1, shape).astype(np.float32)
        coarse = light * coarse[..., :1] + tint * coarse
        total += cv2.resize(coarse, (width, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(total, 16, 235).astype(np.uint8)


TEXTURE: Final = ((96, 40, 30), (32, 30, 12), (12, 26, 4), (5, 22, 0), (2, 14, 0))
"""Size of the grains in pixels, strength in brightness and in colour."""


def _write(folder: Path) -> None:
    random = np.random.default_rng(704)
    world = world_of(random)
    count = FRAMES + OVERLAP
    rgb = np.memmap(folder / "rgb", np.uint8, "w+", shape=(count, HEIGHT, WIDTH, 3))
    i420 = np.memmap(folder / "i420", np.uint8, "w+", shape=(count, HEIGHT * 3 // 2, WIDTH))
    for number in range(FRAMES):
        rgb[number] = draw(number, world, random)
        i420[number] = _to_i420(rgb[number])
    rgb[FRAMES:], i420[FRAMES:] = rgb[:OVERLAP], i420[:OVERLAP]
    rgb.flush()
    i420.flush()


def _to_i420(rgb: Pictures) -> Pictures:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    made = frame.reformat(
        format="yuv420p",
        src_colorspace="ITU709",
        dst_colorspace="ITU709",
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
    ).to_ndarray()
    return made.astype(np.uint8, copy=False)
