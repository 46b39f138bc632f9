"""The pictures of the docs: all of them are taken by the walkthrough, and small."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.walkthrough.shots import MOST_BYTES, NAMES, save
from tests.required import ROOT

pytestmark = pytest.mark.e2e

GROUND, SMALL = (245, 246, 248), (20, 200, 90)
FOLDER = ROOT / "docs/images"


def test_every_picture_of_the_docs_is_there_and_one_that_is_taken() -> None:
    assert {path.stem for path in FOLDER.glob("*.png")} == {*NAMES}
    for path in FOLDER.glob("*.png"):
        assert path.stat().st_size <= MOST_BYTES, path.name


def test_a_picture_keeps_the_colours_of_small_things(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 120, (400, 640, 3), np.uint8)
    drawn[:, :200] = GROUND
    drawn[:12, :12] = SMALL
    png = io.BytesIO()
    Image.fromarray(drawn).save(png, "PNG")
    kept = save(png.getvalue(), tmp_path / "kept.png")
    assert kept.stat().st_size <= MOST_BYTES
    with Image.open(kept) as image:
        pixels = image.convert("RGB")
    assert (pixels.getpixel((5, 5)), pixels.getpixel((100, 100))) == (SMALL, GROUND)
