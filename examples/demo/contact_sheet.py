"""Draws source over result at the same moments of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

COLUMNS = 6
TILE = (480, 264)
"""Width and height of one picture."""
GAP = 8
BAND = 34
"""Height of the line that names the moments."""
GROUND = 24


def contact_sheet(source: Path, result: Path, out: Path) -> None:
    """Writes a PNG with `COLUMNS` moments of a clip: the source above, the result below."""
    # A result frame carries the time of the source frame that it answers.
    before, after = dict(_pictures(source)), dict(_pictures(result))
    length = min(max(before), max(after))
    moments = [(column + 0.5) * length / COLUMNS for column in range(COLUMNS)]
    width = COLUMNS * (TILE[0] + GAP) + GAP
    height = 2 * (TILE[1] + GAP) + GAP + BAND
    sheet = np.full((height, width, 3), GROUND, np.uint8)
    for column, moment in enumerate(moments):
        x = GAP + column * (TILE[0] + GAP)
        label = f"{moment:.1f} s"
        cv2.putText(
            sheet, label, (x + 4, BAND - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (220,) * 3, 1,
            cv2.LINE_AA,
        )  # fmt: skip
        for row, frames in enumerate((before, after)):
            y = BAND + row * (TILE[1] + GAP)
            sheet[y : y + TILE[1], x : x + TILE[0]] = frames[_nearest(frames, moment)]
    cv2.imwrite(str(out), sheet)


def _pictures(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yields each frame, small and cut to the model's shape, with its time from the first on."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        start = None
        for frame in container.decode(stream):
            start = frame.pts if start is None else start
            seconds = float((frame.pts - start) * stream.time_base)
            yield seconds, _cover(frame.to_ndarray(format="bgr24"))


def _cover(picture: np.ndarray) -> np.ndarray:
    scale = max(TILE[0] / picture.shape[1], TILE[1] / picture.shape[0])
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    x, y = (size[0] - TILE[0]) // 2, (size[1] - TILE[1]) // 2
    return scaled[y : y + TILE[1], x : x + TILE[0]]


def _nearest(frames: dict[float, np.ndarray], moment: float) -> float:
    return min(frames, key=lambda at: abs(at - moment))
