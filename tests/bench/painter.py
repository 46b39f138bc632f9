"""What `painter` costs: `python -m tests.bench.painter [CLIP]`, as a Markdown table.

Measures CPU milliseconds a frame on one thread, for each look and some blends; CPU time, so
that a busy machine does not blur it. Then the same elementary steps in NumPy, libavfilter
and OpenCV, which is what decided for OpenCV.
CLIP is any video; without one a textured, moving source is made.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import cv2
import numpy as np

from model_actor.conformance.runs import moving_source
from model_actor.models.painter import PainterModel
from model_actor.models.painter.picture import planes
from model_actor.models.painter.recipe import read
from model_actor.models.painter.studio import MEDIA, MOODS, Studio
from model_actor.plugin import Frames

PROMPTS = [*MEDIA, *MOODS, "red", "oil painting at night", "cartoon and watercolour", "xyzzy"]
FRAMES = 24
ROUNDS = 3
Step = Callable[[], object]


def clip_frames(path: Path, count: int) -> Frames:
    """Returns frames of a clip in the model's size."""
    info = PainterModel.info
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            fitted = frame.reformat(width=info.width, height=info.height, format="yuv420p")
            frames.append(fitted.to_ndarray())
            if len(frames) == count:
                break
    return np.array(frames)


def looks(source: Frames) -> None:
    """Prints what each look costs."""
    info = PainterModel.info
    began = time.process_time()
    studio = Studio((info.height, info.width))
    print(f"load: {time.process_time() - began:.2f} s\n")
    print("| Prompt | ms a frame | slowest window | of a core at 24 fps | first frame, new seed |")
    print("|---|---|---|---|---|")
    for prompt in PROMPTS:
        recipe = read(prompt)
        began = time.process_time()
        studio.paint(source[:1], recipe, 1, 0, None)
        first = (time.process_time() - began) * 1000
        times = []
        for number in range(ROUNDS):
            began = time.process_time()
            studio.paint(source, recipe, 1, number * len(source), None)
            times.append((time.process_time() - began) * 1000 / len(source))
        mean = statistics.mean(times)
        share = mean * 24 / 10
        print(f"| {prompt} | {mean:.1f} | {max(times):.1f} | {share:.0f} % | {first:.0f} ms |")


def median_ms(step: Step) -> float:
    """Returns the median time of a step in milliseconds."""
    times = []
    for _ in range(15):
        began = time.process_time()
        step()
        times.append((time.process_time() - began) * 1000)
    return statistics.median(times)


def filtered(frame: av.VideoFrame, name: str, arguments: str) -> Step:
    """Returns a step that pushes a frame through one filter of libavfilter, on one thread."""
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=Fraction(1, 24),
    )
    graph.link_nodes(source, graph.add(name, arguments), graph.add("buffersink")).configure()

    def step() -> object:
        graph.vpush(frame)
        return graph.vpull()

    return step


def numpy_blur(plane: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> object:
    """Blurs by a 9 x 9 box, by running sums."""
    total = plane.astype(np.int32)
    for axis in (0, 1):
        sums = np.cumsum(total, axis=axis)
        total = (np.roll(sums, -4, axis) - np.roll(sums, 5, axis)) // 9
    return total.astype(np.uint8)


def alternatives(source: Frames) -> None:
    """Prints elementary steps on one 1280 x 704 luma plane in three libraries."""
    plane = np.ascontiguousarray(planes(source[0]).y).astype(np.uint8)
    other, wide = plane[::-1].copy(), plane.astype(np.uint16)
    table = np.arange(255, -1, -1).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(plane, format="gray8")
    steps: dict[str, tuple[Step | None, Step | None, Step]] = {
        "tone curve": (
            lambda: table[plane],
            filtered(frame, "lut", "c0=negval"),
            lambda: cv2.LUT(plane, table),
        ),
        "blend of two": (
            lambda: ((wide * 77 + wide[::-1] * 179) >> 8).astype(np.uint8),
            None,
            lambda: cv2.addWeighted(plane, 0.3, other, 0.7, 0),
        ),
        "blur, box 9": (
            lambda: numpy_blur(plane),
            filtered(frame, "avgblur", "sizeX=4"),
            lambda: cv2.blur(plane, (9, 9)),
        ),
        "edges, Sobel": (
            lambda: np.hypot(*np.gradient(plane.astype(np.float32))).astype(np.uint8),
            filtered(frame, "sobel", ""),
            lambda: cv2.convertScaleAbs(cv2.Sobel(plane, cv2.CV_16S, 1, 0)),
        ),
        "bilateral 5": (
            None,
            filtered(frame, "bilateral", "sigmaS=2:sigmaR=0.15"),
            lambda: cv2.bilateralFilter(plane, 5, 40, 5),
        ),
    }
    print("\n| Step, 1280 x 704, one thread, ms | NumPy | libavfilter | OpenCV |")
    print("|---|---|---|---|")
    for name, (in_numpy, in_libav, in_opencv) in steps.items():
        cells = [
            "-" if step is None else f"{median_ms(step):.2f}"
            for step in (in_numpy, in_libav, in_opencv)
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description="What painter costs, on one thread.")
    parser.add_argument("clip", type=Path, nargs="?", help="any video; else a source is made")
    clip = parser.parse_args().clip
    source = clip_frames(clip, FRAMES) if clip else moving_source(PainterModel.info, 0, FRAMES)
    looks(source)
    alternatives(source)


if __name__ == "__main__":
    main()
