"""Each refusal says what is allowed."""

from __future__ import annotations

import pytest

from model_actor.media.limits import DecodeLimits, Refusal, check_frames, check_size, sentence

pytestmark = pytest.mark.unit

LIMITS = DecodeLimits()


def test_every_refusal_has_a_sentence_of_its_own() -> None:
    said = {sentence(why, LIMITS, minimum_frames=33, value=32) for why in Refusal}
    assert len(said) == len(Refusal)
    assert not any("{" in text for text in said)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((4096, 2304), None),
        ((2160, 3840), None),
        ((4096, 4096), Refusal.TOO_LARGE),
        ((4098, 2), Refusal.TOO_LARGE),
        ((2, 4098), Refusal.TOO_LARGE),
        ((0, 100), Refusal.TOO_LARGE),
    ],
)
def test_pictures_have_a_largest_size(size: tuple[int, int], expected: Refusal | None) -> None:
    assert check_size(LIMITS, *size) is expected


@pytest.mark.parametrize(
    ("frames", "seconds", "expected"),
    [
        (33, 1.375, None),
        (32, 1.3, Refusal.TOO_FEW_FRAMES),
        (14_400, 600, None),
        (14_401, 600.1, Refusal.TOO_LONG),
        (241, 1, Refusal.TOO_FAST),
        (33, 0, Refusal.TOO_FAST),
    ],
)
def test_clips_have_bounds(frames: int, seconds: float, expected: Refusal | None) -> None:
    assert check_frames(LIMITS, frames, round(seconds * 1e6), 33) is expected
