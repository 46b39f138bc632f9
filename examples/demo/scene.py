"""Renders the bundled demo clip: a park by a lake, two walkers, two balls, drifting clouds.

    python examples/demo/scene.py OUT.mp4 [--seconds 6]

1280x704, 24 frames a second, H.264. The same bytes of picture every time: there is no
randomness but fixed seeds. Everything is drawn with NumPy and OpenCV: a pinhole camera
over a textured ground plane, bodies put together from shaded capsules, soft shadows that
turn with the sun, and clouds whose shadows cross the grass.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from bodies import (
    EYE,
    FOCAL,
    HEIGHT,
    HORIZON,
    RATE,
    WALKERS,
    WIDTH,
    Ball,
    Image,
    Moment,
    Walker,
    beach_ball,
    blend,
    draw_ball,
    draw_limb,
    marble,
    noise,
    ramp,
)

SHORE = 11.0
"""Distance at which the grass ends and the lake begins."""
HAZE = np.array([0.86, 0.82, 0.78], np.float32)


# -- noise and textures -------------------------------------------------------------------


def grass(rng: np.random.Generator, size: int = 1024) -> Image:
    """Returns a lawn with flowers, seen from above."""
    blades = cv2.blur(rng.random((size, size), dtype=np.float32), (1, 5))
    tone = 0.5 * noise(rng, size, size, 96, 5) + 0.9 * (blades - 0.3)
    lawn = ramp(np.clip(tone, 0, 1), (0.03, 0.16, 0.08), (0.08, 0.38, 0.19), (0.20, 0.62, 0.42))
    for _ in range(420):
        x, y = (int(value) for value in rng.integers(0, size, 2))
        petals = ((0.95, 0.95, 0.98), (0.15, 0.85, 0.98), (0.55, 0.35, 0.92))[int(rng.integers(3))]
        cv2.circle(lawn, (x, y), int(rng.integers(2, 5)), petals, -1, cv2.LINE_AA)
    return lawn


def cobbles(rng: np.random.Generator, size: int = 1024) -> Image:
    """Returns a cobbled path, seen from above: cells around jittered points."""
    step, margin = 40, 80
    field = np.full((size, size), 255, np.uint8)
    for row, y in enumerate(range(0, size, step)):
        for x in range(0, size, step):
            jitter = rng.integers(-9, 10, 2)
            px = (x + step // 2 * (row % 2) + int(jitter[0])) % size
            field[(y + int(jitter[1])) % size, px] = 0
    wrapped = cv2.copyMakeBorder(field, *(margin,) * 4, cv2.BORDER_WRAP)
    distance, labels = cv2.distanceTransformWithLabels(
        wrapped, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # A stone that is cut by the border has the same colour on the other side.
    colour_of = np.zeros(labels.max() + 1, np.float32)
    ys, xs = np.nonzero(wrapped == 0)
    places = ((ys - margin) % size) * size + (xs - margin) % size
    colour_of[labels[ys, xs]] = rng.random(size * size, dtype=np.float32)[places]
    inside = slice(margin, margin + size)
    distance, tint = distance[inside, inside], colour_of[labels][inside, inside]
    labels = labels[inside, inside]
    edge = cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3)))
    joint = cv2.GaussianBlur((edge > 0).astype(np.float32), (0, 0), 1.6)
    dome = np.clip(1 - (distance / (step * 0.62)) ** 2, 0, 1)
    rough = noise(rng, size, size, 24, 4)
    stones = ramp(
        0.55 * tint + 0.45 * rough, (0.30, 0.33, 0.38), (0.50, 0.57, 0.65), (0.70, 0.75, 0.80)
    )
    stones *= (0.55 + 0.5 * dome)[..., None]
    stones *= (1 - 0.75 * np.clip(joint * 1.5, 0, 1))[..., None]
    return stones


def tree(rng: np.random.Generator, size: int) -> tuple[Image, Image]:
    """Returns a tree and its alpha: a trunk, and leaves as many small lit balls."""
    picture, alpha = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    trunk = np.array([[0.47, 0.55], [0.53, 0.55], [0.55, 1.0], [0.45, 1.0]]) * size
    cv2.fillPoly(picture, [trunk.astype(np.int32)], (0.13, 0.19, 0.27), cv2.LINE_AA)
    cv2.fillPoly(alpha, [trunk.astype(np.int32)], 1.0, cv2.LINE_AA)
    leaves: list[tuple[float, float, float]] = []
    while len(leaves) < 2600:
        x, y, z = rng.uniform(-1, 1, 3)
        if 0.25 < x * x + y * y + z * z < 1 + 0.25 * math.sin(5 * x + 3 * y):
            leaves.append((z, x, y))
    for z, x, y in sorted(leaves):
        light = float(np.clip(0.42 - 0.30 * y - 0.28 * x + 0.30 * z, 0.08, 1)) * rng.uniform(
            0.8, 1.2
        )
        centre = (int(size * (0.5 + 0.43 * x)), int(size * (0.40 + 0.36 * y)))
        colour = (0.12 * light + 0.02, 0.62 * light + 0.06, 0.36 * light + 0.03)
        radius = max(2, round(size * rng.uniform(0.008, 0.021)))
        cv2.circle(picture, centre, radius, colour, -1)
        cv2.circle(alpha, centre, radius, 1.0, -1)
    soft = cv2.GaussianBlur(alpha, (3, 3), 0)
    return cv2.GaussianBlur(picture, (3, 3), 0), np.minimum(alpha, soft)


# -- the scene ----------------------------------------------------------------------------


class Park:
    """Holds what does not change, and draws the rest."""

    def __init__(self) -> None:
        rng = np.random.default_rng(24)
        self._clouds = noise(rng, 512, 1024, 170, 6)
        self._hills = [noise(rng, 2, 4096, 700 >> layer, 7)[0] for layer in range(3)]
        self._grass, self._path = _near_and_far(grass(rng)), _near_and_far(cobbles(rng))
        self._grain = np.tile(noise(rng, 900, 900, 5, 3), (1, 3))
        self._trees = [tree(rng, 330), tree(rng, 420), tree(rng, 250)]
        self._balls = (
            Ball(beach_ball(), 0.36, 2.6, -0.85, 3.5, 0.85),
            Ball(marble(rng), 0.30, -2.6, 0.75, 3.9, 0.0),
        )
        self._sky_map, self._ground_map = self._maps()

    @staticmethod
    def _maps() -> tuple[tuple[Image, Image], tuple[Image, Image]]:
        """Returns where each pixel of the sky and the ground looks, for a camera at 0."""
        y, x = np.mgrid[:HORIZON:2, :WIDTH:2].astype(np.float32)
        far = 1 / (HORIZON - y + 34)
        sky = (x - WIDTH / 2) * far * 46 + 500, 9000 * far
        y, x = np.mgrid[HORIZON + 1 : HEIGHT + 1, :WIDTH].astype(np.float32)
        depth = FOCAL * EYE / (y - HORIZON)
        return sky, ((x - WIDTH / 2) * depth / FOCAL, depth)

    def draw(self, seconds: float) -> Image:
        """Returns the picture at a moment, blue-green-red."""
        moment = Moment(seconds)
        image = np.empty((HEIGHT, WIDTH, 3), np.float32)
        image[:HORIZON] = self._sky(moment)
        self._draw_hills(image, moment)
        image[HORIZON:] = self._ground(image, moment)
        self._draw_trees(image, moment)
        self._draw_shadows(image, moment)
        bodies: list[tuple[float, Ball | Walker]] = [(ball.depth, ball) for ball in self._balls]
        bodies += [(walker.depth, walker) for walker in WALKERS]
        for _, body in sorted(bodies, key=lambda pair: -pair[0]):
            if isinstance(body, Ball):
                draw_ball(image, body, moment)
            else:
                for limb in body.limbs(seconds):
                    draw_limb(image, limb, moment, self._grain)
        return self._developed(image, moment)

    def _sky(self, moment: Moment) -> Image:
        u, v = self._sky_map
        drift = moment.seconds * 7 + moment.camera * 3
        puffs = cv2.remap(self._clouds, u + drift, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        height = np.linspace(0, 1, len(puffs), dtype=np.float32)
        blue = ramp(height, (0.78, 0.46, 0.20), (0.86, 0.66, 0.44), (0.84, 0.84, 0.84))[:, None]
        cover = np.clip((puffs - 0.50) * 4.2, 0, 1) * np.clip(1.15 - height * 0.7, 0, 1)[:, None]
        lit = np.clip(1.04 - 0.5 * np.clip((puffs - 0.62) * 2.6, 0, 1), 0, 1.1)
        white = lit[..., None] * np.array([0.98, 0.97, 0.96], np.float32)
        sky: Image = blue + (white - blue) * cover[..., None]
        return cv2.resize(sky, (WIDTH, HORIZON))

    def _draw_hills(self, image: Image, moment: Moment) -> None:
        columns = np.arange(WIDTH)
        for layer, (profile, tall) in enumerate(zip(self._hills, (150, 100, 52), strict=True)):
            parallax = 700 * layer + 5 * (layer + 1) * moment.camera
            at = columns + parallax + 300
            crest = HORIZON + 3 - tall * (0.25 + 0.75 * np.interp(at, np.arange(4096), profile))
            top = int(crest.min())
            rows = np.arange(top, HORIZON, dtype=np.float32)[:, None]
            inside = np.clip(rows - crest[None, :] + 0.5, 0, 1).astype(np.float32)
            slope = np.gradient(crest).astype(np.float32)
            light = 0.72 - 0.35 * np.clip(slope * 1.2, -1, 1) * math.copysign(1, moment.sun[0])
            wood = self._grain[: len(rows), 40 * layer : 40 * layer + WIDTH]
            green = np.array(
                [(0.50, 0.46, 0.36), (0.34, 0.44, 0.27), (0.16, 0.36, 0.17)][layer], np.float32
            )
            body = green * (light[None, :] * (0.75 + 0.5 * wood))[..., None]
            body += (HAZE - body) * (0.52, 0.32, 0.12)[layer]
            blend(image, top, 0, body, inside)

    def _ground(self, image: Image, moment: Moment) -> Image:
        x, depth = self._ground_map
        world = x + moment.camera
        ground = np.zeros((*depth.shape, 3), np.float32)
        rows = slice(int(np.searchsorted(-depth[:, 0], -(SHORE + 1))), len(depth))
        ground[rows] = self._seen(self._grass, world[rows], depth[rows], 170)
        rows = slice(*np.searchsorted(-depth[:, 0], (-7.2, -4.2)))
        stones = self._seen(self._path, world[rows], depth[rows], 190)
        rim = 0.12 * np.sin(world[rows] * 1.7) + 0.05 * np.sin(world[rows] * 5.1)
        on_path = np.clip((1.15 - np.abs(depth[rows] - 5.7 + rim)) * 9, 0, 1)[..., None]
        ground[rows] += (stones - ground[rows]) * on_path
        shade_map = cv2.remap(
            self._clouds, world[::4, ::4] * 42 + moment.seconds * 46, depth[::4, ::4] * 30,
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP,
        )  # fmt: skip
        sunny = cv2.resize(np.clip((0.66 - shade_map) * 4, 0, 1), (WIDTH, len(depth)))
        ground *= (0.62 + 0.62 * sunny)[..., None] * np.array([0.86, 0.97, 1.05], np.float32)
        rows = slice(0, int(np.searchsorted(-depth[:, 0], -(SHORE - 1.5))))
        water = self._water(image, depth[rows], world[rows], moment)
        shore = np.clip((depth[rows] - SHORE - 0.4 * np.sin(world[rows] * 0.8)) * 2.2, 0, 1)
        ground[rows] += (water - ground[rows]) * shore[..., None]
        return ground

    @staticmethod
    def _seen(texture: tuple[Image, Image], world: Image, depth: Image, scale: float) -> Image:
        """Looks a texture up in perspective, blurred in the distance against shimmer."""
        u, v = world * scale, depth * scale
        near, far = texture
        seen: Image = cv2.remap(near, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        # What is blurred needs every second pixel only.
        soft = cv2.remap(
            far, u[::2, ::2], v[::2, ::2], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        share: Image = np.clip((depth[:, :1] - 3.5) / 5, 0, 1)[..., None]
        blurred: Image = cv2.resize(soft, (WIDTH, len(depth)))
        return cv2.add(seen, (blurred - seen) * share)

    def _water(self, image: Image, depth: Image, world: Image, moment: Moment) -> Image:
        """Mirrors hills and sky, with ripples."""
        rows = len(depth)
        mirrored = image[HORIZON - rows : HORIZON][::-1]
        y, x = np.mgrid[:rows, :WIDTH].astype(np.float32)
        chop = cv2.remap(
            self._clouds, world * 90, depth * 26 - moment.seconds * 24,
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP,
        )  # fmt: skip
        wave = np.sin(depth * 2.6 - moment.seconds * 2.2 + 9 * chop)
        ripples = cv2.remap(
            mirrored, x + 3.5 * wave, np.clip(y * 0.9 + 2.5 * wave + 2, 0, rows - 1),
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        sparkle = np.clip(wave - 0.80, 0, 1) * np.clip(chop * 3 - 1.3, 0, 1) * 1.5
        water: Image = ripples * np.array([0.86, 0.80, 0.70], np.float32) + sparkle[..., None]
        return water

    def _draw_trees(self, image: Image, moment: Moment) -> None:
        places = ((-5.6, 10.4, 0), (6.6, 9.6, 1), (2.9, 10.8, 2), (-9.4, 10.2, 1), (11.5, 10.6, 0))
        for x, depth, kind in places:
            picture, alpha = self._trees[kind]
            size = alpha.shape[0]
            foot_x, foot_y = moment.project(x, 0, depth)
            sway = 0.012 * math.sin(moment.seconds * 1.7 + x)
            lean = np.array([[1, -sway, sway * size], [0, 1, 0]], np.float32)
            leaves, cover = (cv2.warpAffine(p, lean, (size, size)) for p in (picture, alpha))
            blend(image, int(foot_y) - size + 4, int(foot_x) - size // 2, leaves, cover)

    def _draw_shadows(self, image: Image, moment: Moment) -> None:
        """Darkens the ground where bodies stand between it and the sun."""
        mask = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
        for walker in WALKERS:
            for limb in walker.limbs(moment.seconds):
                a, b = moment.on_ground(*limb.start), moment.on_ground(*limb.end)
                wide = max(2, round(sum(limb.radii) * FOCAL / walker.depth * 0.40))
                cv2.line(mask, _eighths(a), _eighths(b), 255, wide, cv2.LINE_AA, 3)
        for ball in self._balls:
            place = ball.centre(moment.seconds)
            spot = moment.on_ground(*place)
            radius = ball.radius * FOCAL / ball.depth / 2
            cv2.ellipse(
                mask,
                _eighths(spot),
                (int(radius * 8), int(radius * 2.9)),
                0,
                0,
                360,
                255,
                -1,
                cv2.LINE_AA,
                3,
            )
        soft = cv2.GaussianBlur(mask, (0, 0), 2.2)
        dark = cv2.resize(soft, (WIDTH, HEIGHT)).astype(np.float32)[HORIZON:, :, None] / 255
        image[HORIZON:] *= 1 - dark * np.array([0.42, 0.52, 0.58], np.float32)

    def _developed(self, image: Image, moment: Moment) -> Image:
        """Adds the glare of the sun, a soft tone curve and a trace of film grain."""
        x, y = WIDTH * (0.5 + 0.62 * moment.sun[0]), 60.0
        rows, columns = np.ogrid[: HEIGHT // 8, : WIDTH // 8]
        far = np.hypot(columns * 8 - x, rows * 8 - y).astype(np.float32)
        glare = 0.62 * np.exp(-far / 70) + 0.20 * np.exp(-far / 330)
        warm = cv2.resize(glare, (WIDTH, HEIGHT))[..., None] * np.array(
            [0.62, 0.86, 1.0], np.float32
        )
        image += warm
        np.clip(image, 0, 1.4, out=image)
        image *= 1.10 - 0.17 * image
        at = round(moment.seconds * RATE) * 337 % 900
        image += ((self._grain[:HEIGHT, at : at + WIDTH] - 0.5) * 0.016)[..., None]
        return cv2.convertScaleAbs(image, alpha=255)


def _near_and_far(texture: Image) -> tuple[Image, Image]:
    """Returns a texture, and the same blurred as far as it must be in the distance."""
    wrapped = cv2.copyMakeBorder(texture, 16, 16, 16, 16, cv2.BORDER_WRAP)
    return texture, cv2.blur(wrapped, (15, 31))[16:-16, 16:-16].copy()


def _eighths(point: tuple[float, float]) -> tuple[int, int]:
    """Returns a place in the half-size mask in eighths of a pixel, as OpenCV wants it."""
    return round(point[0] * 4), round(point[1] * 4)


def frames(seconds: float) -> Iterator[Image]:
    """Yields the pictures of the clip."""
    park = Park()
    for number in range(round(seconds * RATE)):
        yield park.draw(number / RATE)


def write(path: Path, seconds: float) -> None:
    """Renders the clip into an mp4 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=RATE, options={"preset": "veryfast", "crf": "20"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, RATE)
        context.gop_size = RATE * 2
        context.color_range, context.colorspace = 1, 1  # limited, BT.709
        context.color_primaries, context.color_trc = 1, 1
        for number, picture in enumerate(frames(seconds)):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Renders the bundled demo clip.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=6.0)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    write(arguments.out, arguments.seconds)


if __name__ == "__main__":
    main()
