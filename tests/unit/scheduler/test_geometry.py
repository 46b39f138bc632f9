"""How source frames become windows, and windows become outward chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.geometry import Geometry, OutwardChunk

pytestmark = pytest.mark.unit

GEOMETRY = Geometry()
geometries = st.builds(
    Geometry,
    first_window=st.integers(1, 100),
    window=st.integers(1, 100),
    chunk=st.integers(1, 48),
)


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


@given(geometry=geometries, extra=st.integers(0, 2000))
def test_the_chunks_of_a_clip_are_its_frames_in_order(geometry: Geometry, extra: int) -> None:
    frames = geometry.first_window + extra
    chunks: list[OutwardChunk] = []
    for index in range(geometry.windows(frames)):
        left = frames - geometry.window_start(index)
        chunks += geometry.outward(index, min(left, geometry.window_size(index)))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert all(1 <= chunk.frames <= geometry.chunk for chunk in chunks)
    ends = [chunk.first_frame + chunk.frames for chunk in chunks]
    assert [chunk.first_frame for chunk in chunks] == [0, *ends[:-1]]
    assert ends[-1] == frames
