"""Pictures that are compared: smaller ones, and how far two are apart."""

from __future__ import annotations

import base64
import binascii
import math
import zlib

import numpy as np

from model_actor.plugin import Frames
from model_actor.replay.records import JournalError, Reference


def reduced(picture: Frames, scale: int) -> Frames:
    """Returns an I420 picture with each `scale` x `scale` of its samples averaged into one.

    The planes follow each other as rows of the whole width, so each is averaged by itself.

    Args:
        picture: Shape `(height * 3 // 2, width)`; both sides multiples of 2 * scale.
        scale: 1 or 2.
    """
    if scale == 1:
        return picture
    height, width = picture.shape[0] * 2 // 3, picture.shape[1]
    luma = picture[:height]
    chroma = picture[height:].reshape(2, height // 2, width // 2)
    planes = [_averaged(luma, scale), *(_averaged(plane, scale) for plane in chroma)]
    return np.concatenate([plane.ravel() for plane in planes]).reshape(-1, width // scale)


def psnr(one: Frames, other: Frames) -> float:
    """Returns how much alike two pictures are, in decibels; infinity where they are the same."""
    apart = one.astype(np.int32) - other.astype(np.int32)
    error = float(np.mean(apart * apart))
    return math.inf if error == 0 else 10.0 * math.log10(255.0**2 / error)


def reference_picture(reference: Reference, width: int, height: int) -> Frames:
    """Returns the picture that a journal has.

    Raises:
        JournalError: It is none of that size.
    """
    size = width * height * 3 // 2 // reference.scale**2
    try:
        inflating = zlib.decompressobj()
        data = inflating.decompress(base64.b64decode(reference.data, validate=True), size + 1)
    except (zlib.error, binascii.Error, ValueError):
        raise JournalError("a reference picture cannot be read") from None
    if len(data) != size:
        raise JournalError("a reference picture is of another size")
    return np.frombuffer(data, np.uint8).reshape(-1, width // reference.scale)


def _averaged(plane: Frames, scale: int) -> Frames:
    rows, columns = plane.shape[0] // scale, plane.shape[1] // scale
    blocks = plane[: rows * scale, : columns * scale].reshape(rows, scale, columns, scale)
    averaged: Frames = (
        (blocks.astype(np.uint16).sum(axis=(1, 3)) + scale**2 // 2) // scale**2
    ).astype(np.uint8)
    return averaged
