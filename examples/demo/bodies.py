"""The bodies of the demo scene: a pinhole camera, walkers made of capsules, textured balls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[Any]
"""32-bit floats in 0..1: `(height, width, 3)`, blue, green, red; or `(height, width)`."""
Colour = tuple[float, float, float]
"""Blue, green, red in 0..1."""

WIDTH, HEIGHT, RATE = 1280, 704, 24
HORIZON = 292
"""Row of the horizon."""
FOCAL = 900.0
"""Pixels."""
EYE = 1.75
"""Height of the camera over the ground in metres."""

# -- noise and colour --------------------------------------------------------------------


def noise(rng: np.random.Generator, height: int, width: int, scale: int, octaves: int) -> Image:
    """Returns noise in 0..1 that fits together at opposite borders."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(1, scale >> octave)
        coarse = rng.random((max(2, height // step), max(2, width // step)), dtype=np.float32)
        wrapped = cv2.copyMakeBorder(coarse, 2, 2, 2, 2, cv2.BORDER_WRAP)
        sy, sx = height / coarse.shape[0], width / coarse.shape[1]
        fine = cv2.resize(
            wrapped,
            (round(wrapped.shape[1] * sx), round(wrapped.shape[0] * sy)),
            interpolation=cv2.INTER_CUBIC,
        )
        top, left = round(2 * sy), round(2 * sx)
        total += fine[top : top + height, left : left + width] / (1 << octave)
    total -= total.min()
    total /= total.max()
    return total


def ramp(amount: Image, *colours: Colour) -> Image:
    """Returns the colours between which `amount` in 0..1 runs."""
    stops = np.linspace(0, 1, len(colours))
    channels = [np.interp(amount, stops, [colour[i] for colour in colours]) for i in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


# -- light and camera ---------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """Everything that depends on time alone."""

    seconds: float

    @property
    def camera(self) -> float:
        """Sideways place of the camera in metres."""
        return 1.5 * math.sin(self.seconds * 0.42) - 0.3

    @property
    def sun(self) -> tuple[float, float, float]:
        """Direction towards the sun: right, up, towards the camera."""
        angle = -0.75 + 0.16 * self.seconds
        return math.sin(angle) * 0.78, 0.58, math.cos(angle) * 0.45

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Returns where a place in metres is seen, in pixels."""
        scale = FOCAL / z
        return WIDTH / 2 + (x - self.camera) * scale, HORIZON + (EYE - y) * scale

    def on_ground(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Returns where the shadow of a place falls, in pixels."""
        right, up, near = self.sun
        return self.project(x - right / up * y, 0.0, max(1.5, z + near / up * y))


# -- bodies -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limb:
    """A capsule: two ends in metres with their radii."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radii: tuple[float, float]
    colour: Colour
    rough: float = 0.10


@dataclass(frozen=True)
class Walker:
    """Somebody who crosses the picture."""

    start: float
    speed: float
    """Metres a second, to the right."""
    depth: float
    coat: Colour
    trousers: Colour
    hair: Colour
    skin: Colour
    height: float = 1.0
    long_hair: bool = False

    def limbs(self, seconds: float) -> list[Limb]:
        """Returns the body at a moment, the farthest limbs first."""
        phase = seconds * abs(self.speed) * 4.6 / self.height
        facing = math.copysign(1.0, self.speed)
        x, z, size = self.start + self.speed * seconds, self.depth, self.height
        hip = (x, (0.93 + 0.025 * math.cos(2 * phase)) * size, z)
        neck = (x + 0.05 * facing * size, hip[1] + 0.52 * size, z)
        head = (neck[0] + 0.02 * facing, neck[1] + 0.21 * size, z)
        return [
            *self._arm(neck, phase + math.pi, facing, 0.17),
            *self._leg(hip, phase, facing, 0.07),
            *self._leg(hip, phase + math.pi, facing, -0.07),
            Limb(hip, neck, (0.15 * size, 0.19 * size), self.coat),
            Limb((hip[0], hip[1] - 0.12 * size, z), hip, (0.135 * size, 0.15 * size), self.coat),
            Limb(neck, head, (0.06 * size, 0.06 * size), self.skin, 0.03),
            Limb(head, head, (0.125 * size, 0.125 * size), self.skin, 0.03),
            *self._hair(head, facing),
            *self._arm(neck, phase, facing, -0.17),
        ]

    def _hair(self, head: tuple[float, float, float], facing: float) -> list[Limb]:
        x, y, z = head
        size = self.height
        cap = Limb(
            (x - 0.045 * facing * size, y + 0.05 * size, z),
            (x + 0.045 * facing * size, y + 0.1 * size, z),
            (0.112 * size, 0.07 * size), self.hair, 0.35,
        )  # fmt: skip
        if not self.long_hair:
            return [cap]
        tail = (x - 0.13 * facing * size, y - 0.26 * size, z)
        return [cap, Limb(cap.start, tail, (0.11 * size, 0.05 * size), self.hair, 0.35)]

    def _leg(
        self, hip: tuple[float, float, float], phase: float, facing: float, aside: float
    ) -> list[Limb]:
        size = self.height
        swing = 0.50 * math.sin(phase)
        bend = 0.15 + 0.75 * max(0.0, math.cos(phase - 0.35)) ** 2
        start = (hip[0], hip[1], hip[2] + aside)
        knee = _along(start, swing * facing, 0.45 * size)
        ankle = _along(knee, (swing - bend) * facing, 0.43 * size)
        toe = (ankle[0] + 0.16 * facing * size, max(0.03, ankle[1] - 0.03 * size), ankle[2])
        return [
            Limb(start, knee, (0.105 * size, 0.075 * size), self.trousers),
            Limb(knee, ankle, (0.075 * size, 0.05 * size), self.trousers),
            Limb(ankle, toe, (0.055 * size, 0.045 * size), (0.10, 0.10, 0.13), 0.05),
        ]

    def _arm(
        self, neck: tuple[float, float, float], phase: float, facing: float, aside: float
    ) -> list[Limb]:
        size = self.height
        swing = 0.55 * math.sin(phase)
        shoulder = (neck[0], neck[1] - 0.03 * size, neck[2] + aside)
        elbow = _along(shoulder, swing * facing, 0.29 * size)
        hand = _along(elbow, (swing + 0.45) * facing, 0.26 * size)
        return [
            Limb(shoulder, elbow, (0.075 * size, 0.06 * size), self.coat),
            Limb(elbow, hand, (0.06 * size, 0.045 * size), self.coat),
            Limb(hand, hand, (0.05 * size, 0.05 * size), self.skin, 0.03),
        ]


def _along(
    start: tuple[float, float, float], angle: float, length: float
) -> tuple[float, float, float]:
    """Returns the place `length` down from `start`, swung forwards by `angle`."""
    return start[0] + math.sin(angle) * length, start[1] - math.cos(angle) * length, start[2]


WALKERS = (
    Walker(
        start=-4.4,
        speed=1.25,
        depth=6.3,
        coat=(0.20, 0.16, 0.72),
        trousers=(0.42, 0.27, 0.17),
        hair=(0.07, 0.10, 0.16),
        skin=(0.55, 0.68, 0.88),
    ),
    Walker(
        start=3.9,
        speed=-1.05,
        depth=4.9,
        coat=(0.62, 0.52, 0.10),
        trousers=(0.20, 0.19, 0.22),
        hair=(0.22, 0.44, 0.72),
        skin=(0.48, 0.60, 0.80),
        height=0.95,
        long_hair=True,
    ),
)


@dataclass(frozen=True)
class Ball:
    """A textured ball."""

    texture: Image
    """Longitude by latitude."""
    radius: float
    start: float
    speed: float
    depth: float
    hop: float
    """Height of its bounces in metres; 0 rolls."""

    def centre(self, seconds: float) -> tuple[float, float, float]:
        """Returns where it is."""
        height = self.radius
        if self.hop:
            height += self.hop * abs(math.sin(seconds * 2.9 + 0.6)) ** 0.8
        return self.start + self.speed * seconds, height, self.depth


def beach_ball() -> Image:
    """Returns the texture of a ball with six gores."""
    texture = np.empty((256, 512, 3), np.float32)
    colours = (
        (0.15, 0.18, 0.90),
        (0.96, 0.96, 0.97),
        (0.85, 0.45, 0.10),
        (0.96, 0.96, 0.97),
        (0.10, 0.80, 0.97),
        (0.96, 0.96, 0.97),
    )
    for gore, colour in enumerate(colours):
        texture[:, gore * 512 // 6 : (gore + 1) * 512 // 6] = colour
    texture[:22] = texture[-22:] = (0.96, 0.96, 0.97)
    return texture


def marble(rng: np.random.Generator) -> Image:
    """Returns the texture of a veined stone ball."""
    cloud = noise(rng, 256, 512, 96, 6)
    veins = np.abs(np.sin(14 * cloud + 6 * noise(rng, 256, 512, 128, 3)))
    return ramp(
        veins, (0.20, 0.10, 0.06), (0.55, 0.40, 0.16), (0.80, 0.74, 0.55), (0.92, 0.90, 0.86)
    )


# -- drawing ------------------------------------------------------------------------------


def blend(image: Image, top: int, left: int, patch: Image, alpha: Image) -> None:
    """Lays a patch over an image, as far as it lies inside."""
    height, width = alpha.shape
    y0, x0, y1, x1 = max(0, top), max(0, left), min(HEIGHT, top + height), min(WIDTH, left + width)
    if y0 >= y1 or x0 >= x1:
        return
    cut = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    target = image[y0:y1, x0:x1]
    target += (patch[cut] - target) * alpha[cut][..., None]


def shade(
    normal: tuple[Image, Image, Image], sun: Sequence[float], shine: float
) -> tuple[Image, Image]:
    """Returns diffuse light and highlight for normals (right, up, towards the camera)."""
    nx, ny, nz = normal
    facing = nx * sun[0] + ny * sun[1] + nz * sun[2]
    diffuse = 0.34 + 0.12 * ny + 0.85 * np.clip(facing, 0, None)
    reflected = np.clip(2 * facing * nz - sun[2], 0, 1)
    return diffuse.astype(np.float32), (shine * reflected**24).astype(np.float32)


def draw_limb(image: Image, limb: Limb, moment: Moment, grain: Image) -> None:
    """Draws a capsule as if it were round."""
    (ax, ay), (bx, by) = moment.project(*limb.start), moment.project(*limb.end)
    scale = FOCAL / limb.start[2]
    ra, rb = limb.radii[0] * scale, limb.radii[1] * scale
    left, top = int(min(ax - ra, bx - rb)) - 1, int(min(ay - ra, by - rb)) - 1
    right, bottom = int(max(ax + ra, bx + rb)) + 2, int(max(ay + ra, by + rb)) + 2
    if right < 0 or left > WIDTH:
        return
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    dx, dy = bx - ax, by - ay
    share = np.clip(((x - ax) * dx + (y - ay) * dy) / max(1e-3, dx * dx + dy * dy), 0, 1)
    radius = ra + (rb - ra) * share
    nx, ny = (x - ax - dx * share) / radius, (y - ay - dy * share) / radius
    away = np.sqrt(nx * nx + ny * ny)
    nz = np.sqrt(np.clip(1 - away * away, 0, 1))
    diffuse, gloss = shade((nx, -ny, nz), moment.sun, 0.12)
    offset = int(abs(limb.radii[0]) * 9973) % 200
    cloth = grain[offset : offset + y.shape[0], offset : offset + y.shape[1]]
    light = diffuse * (1 + limb.rough * (cloth - 0.5) * 2)
    patch = light[..., None] * np.array(limb.colour, np.float32) + gloss[..., None]
    blend(image, top, left, patch, np.clip((1 - away) * radius + 0.5, 0, 1))


def draw_ball(image: Image, ball: Ball, moment: Moment) -> None:
    """Draws a ball that rolls as far as it moves."""
    place = ball.centre(moment.seconds)
    cx, cy = moment.project(*place)
    radius = ball.radius * FOCAL / place[2]
    reach = int(radius) + 2
    left, top = int(cx) - reach, int(cy) - reach
    y, x = np.mgrid[top : top + 2 * reach, left : left + 2 * reach].astype(np.float32)
    nx, ny = (x - cx) / radius, -(y - cy) / radius
    away = np.sqrt(nx * nx + ny * ny)
    nz = np.sqrt(np.clip(1 - away * away, 0, 1))
    turn = -ball.speed * moment.seconds / ball.radius
    rx, ry = nx * math.cos(turn) + ny * math.sin(turn), ny * math.cos(turn) - nx * math.sin(turn)
    # The axis leans towards the camera, so that a pole is seen as the ball rolls.
    ry, rz = ry * 0.82 + nz * 0.57, nz * 0.82 - ry * 0.57
    height, width = ball.texture.shape[:2]
    u = ((np.arctan2(rx, rz) / (2 * math.pi) + 0.5) * (width - 1)).astype(np.float32)
    v = (np.arccos(np.clip(ry, -1, 1)) / math.pi * (height - 1)).astype(np.float32)
    skin = cv2.remap(ball.texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    diffuse, gloss = shade((nx, ny, nz), moment.sun, 0.55)
    patch = skin * diffuse[..., None] + gloss[..., None]
    blend(image, top, left, patch, np.clip((1 - away) * radius + 0.5, 0, 1))
