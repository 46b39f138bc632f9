"""A frame as the looks see it, and the steadying of its noise over time."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
from cv2.typing import MatLike

Plane = MatLike
"""One plane of a picture: bytes in limited range, though OpenCV's stubs do not say so."""

_STILL = 7
"""Luma differences up to this are taken for noise of the camera or the codec."""
_KEEP = 0.7
"""Share of the former picture in what is still."""


@dataclass(slots=True)
class Picture:
    """Three planes: Y at full size, U and V at half."""

    y: Plane
    u: Plane
    v: Plane


@dataclass(frozen=True, slots=True)
class View:
    """A source frame at the sizes that the looks work at. Nothing here is written to."""

    full: Picture
    half: Plane
    """Luma at half size, the size of U and V, steadied over time."""
    quarter: Plane
    """The same at a quarter."""
    time: int
    """Index of the frame in the run: all motion of textures follows it."""


def planes(frame: Plane) -> Picture:
    """Returns the planes of an I420 frame of shape `(height * 3 // 2, width)`, not copied."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    chroma = frame[height:].reshape(2, height // 2, width // 2)
    return Picture(frame[:height], chroma[0], chroma[1])


def shrink(plane: Plane) -> Plane:
    """Returns a plane at half its size."""
    height, width = plane.shape
    return cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA)


def grow(plane: Plane, like: Plane) -> Plane:
    """Returns a plane scaled up to the size of another."""
    height, width = like.shape[:2]
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)


def steady(luma: Plane, former: Plane | None) -> Plane:
    """Averages over time what does not move, so that edges drawn from it do not flicker.

    Args:
        luma: The new picture.
        former: What this returned for the frame before, or None at the start.
    """
    if former is None:
        return luma
    moved = cv2.threshold(cv2.absdiff(luma, former), _STILL, 255, cv2.THRESH_BINARY)[1]
    still = cv2.addWeighted(luma, 1 - _KEEP, former, _KEEP, 0)
    return cv2.copyTo(luma, moved, still)


def mix(below: Picture, above: Picture, share: float) -> Picture:
    """Returns `share` of one picture over another."""
    if share >= 1:
        return above
    rest = 1 - share
    return Picture(
        cv2.addWeighted(below.y, rest, above.y, share, 0),
        cv2.addWeighted(below.u, rest, above.u, share, 0),
        cv2.addWeighted(below.v, rest, above.v, share, 0),
    )
