"""How source frames become windows, and windows become outward chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.geometry import Geometry, OutwardChunk

pytestmark = pytest.mark.unit

GEOMETRY = Geometry()
AHEAD = Geometry(lag=16)
"""Of a model that looks two latents ahead."""


@st.composite
def _geometries(draw: st.DrawFn) -> Geometry:
    first, window = draw(st.integers(1, 100)), draw(st.integers(1, 100))
    lag = draw(st.integers(0, first - 1))
    return Geometry(first, window, draw(st.integers(1, 48)), lag)


geometries = _geometries()


@pytest.mark.parametrize(
    ("index", "start", "size"), [(0, 0, 33), (1, 33, 24), (2, 57, 24), (9, 225, 24)]
)
def test_the_first_window_takes_33_frames_and_the_later_ones_24(
    index: int, start: int, size: int
) -> None:
    assert GEOMETRY.window_start(index) == start
    assert GEOMETRY.window_size(index) == size


@pytest.mark.parametrize(
    ("frames", "windows"), [(33, 1), (34, 2), (57, 2), (58, 3), (81, 3), (240, 10)]
)
def test_a_clip_needs_as_many_windows_as_hold_its_frames(frames: int, windows: int) -> None:
    assert GEOMETRY.windows(frames) == windows


def test_a_first_window_goes_out_as_9_and_24() -> None:
    assert GEOMETRY.outward(0, 33) == (OutwardChunk(0, 0, 9), OutwardChunk(1, 9, 24))


def test_a_later_window_goes_out_whole() -> None:
    assert GEOMETRY.outward(1, 24) == (OutwardChunk(2, 33, 24),)
    assert GEOMETRY.outward(2, 24) == (OutwardChunk(3, 57, 24),)


def test_a_last_window_cut_short_is_one_short_chunk() -> None:
    assert GEOMETRY.outward(3, 10) == (OutwardChunk(4, 81, 10),)


@given(geometry=geometries, index=st.integers(0, 50))
def test_windows_follow_each_other_without_gap(geometry: Geometry, index: int) -> None:
    after = geometry.window_start(index) + geometry.window_size(index)
    assert geometry.window_start(index + 1) == after


@given(geometry=geometries, extra=st.integers(0, 2000))
def test_the_windows_of_a_clip_hold_every_frame_and_the_last_is_needed(
    geometry: Geometry, extra: int
) -> None:
    frames = geometry.first_window + extra
    last = geometry.windows(frames) - 1
    assert geometry.window_start(last) < frames
    assert frames <= geometry.window_start(last) + geometry.window_size(last)


def test_a_model_that_looks_ahead_goes_out_as_17_then_24_and_owes_nothing_at_the_end() -> None:
    assert AHEAD.outward(0, AHEAD.answered(0, last=False)) == (OutwardChunk(0, 0, 17),)
    assert AHEAD.outward(1, AHEAD.answered(1, last=False)) == (OutwardChunk(1, 17, 24),)
    ended = (OutwardChunk(2, 41, 24), OutwardChunk(3, 65, 16))
    assert AHEAD.outward(2, AHEAD.answered(2, last=True)) == ended
    whole = (OutwardChunk(0, 0, 17), OutwardChunk(1, 17, 16))
    assert AHEAD.outward(0, AHEAD.answered(0, last=True)) == whole


def test_a_clip_that_ends_within_what_is_owed_is_cut_there() -> None:
    assert AHEAD.outward(1, 33) == (OutwardChunk(1, 17, 24), OutwardChunk(2, 41, 9))
    assert AHEAD.outward(1, 17) == (OutwardChunk(1, 17, 17),)


@given(geometry=geometries, extra=st.integers(0, 2000))
def test_the_chunks_of_a_clip_are_its_frames_in_order(geometry: Geometry, extra: int) -> None:
    frames = geometry.first_window + extra
    chunks: list[OutwardChunk] = []
    windows = geometry.windows(frames)
    for index in range(windows):
        assert geometry.chunks_before(index) == len(chunks)
        answered = geometry.answered(index, last=index == windows - 1)
        assert answered >= 0
        chunks += geometry.outward(index, min(frames - geometry.answers_from(index), answered))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert all(1 <= chunk.frames <= geometry.chunk for chunk in chunks)
    ends = [chunk.first_frame + chunk.frames for chunk in chunks]
    assert [chunk.first_frame for chunk in chunks] == [0, *ends[:-1]]
    assert ends[-1] == frames


@given(geometry=geometries, index=st.integers(0, 50))
def test_what_is_answered_follows_what_was(geometry: Geometry, index: int) -> None:
    after = geometry.answers_from(index) + geometry.answered(index, last=False)
    assert geometry.answers_from(index + 1) == after
    whole = geometry.answers_from(index) + geometry.answered(index, last=True)
    assert whole == geometry.window_start(index + 1)
