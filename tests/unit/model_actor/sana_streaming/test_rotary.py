"""Positions: only differences count, however far from the beginning."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model_actor.models.sana_streaming.rotary import Rotation, parts, positions, rotate, shift

pytestmark = pytest.mark.unit


def frames(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scores(query_at: int, key_at: int, head_dim: int) -> Tensor:
    """Products of the same queries and keys, standing in two frames."""
    queries, keys = (drawn(6, head_dim, seed=seed) for seed in (1, 2))
    return (
        rotate(queries, positions(frames(query_at), 2, 3, head_dim))
        @ rotate(keys, positions(frames(key_at), 2, 3, head_dim)).T
    )


@pytest.mark.parametrize(
    ("head_dim", "wanted"), [(112, (40, 36, 36)), (12, (4, 4, 4)), (32, (12, 10, 10))]
)
def test_a_head_is_split_into_time_rows_and_columns(
    head_dim: int, wanted: tuple[int, int, int]
) -> None:
    assert parts(head_dim) == wanted


@settings(max_examples=20)
@given(distance=st.integers(-300, 300), origin=st.sampled_from([7, 500, 1_000_000]))
def test_only_differences_of_positions_count_at_any_distance(distance: int, origin: int) -> None:
    near, far = scores(0, -distance, 24), scores(origin, origin - distance, 24)
    torch.testing.assert_close(far, near, atol=1e-5, rtol=1e-5)


def test_angles_are_exact_far_from_the_beginning() -> None:
    far, of_time = 1_000_000, parts(24)[0]
    angles = [far * 10_000 ** (-2 * pair / of_time) for pair in range(of_time // 2)]
    cos = positions(frames(far), 1, 1, 24).cos[0, : of_time // 2]
    torch.testing.assert_close(cos, torch.tensor([math.cos(each) for each in angles]))


def test_positions_do_count() -> None:
    assert not torch.allclose(scores(0, 3, 24), scores(0, 4, 24), atol=1e-2)


def test_tokens_go_by_frame_then_row_then_column() -> None:
    whole = positions(frames(0, 1), 2, 3, 24)
    for f in range(2):
        for row in range(2):
            for column in range(3):
                place = (f * 2 + row) * 3 + column
                of_time, of_row, of_column = (dim // 2 for dim in parts(24))
                angles = torch.tensor([float(f), float(row), float(column)], dtype=torch.float64)
                first = torch.tensor([0, of_time, of_time + of_row])
                torch.testing.assert_close(whole.cos[place, first], angles.cos().float())
                assert whole.cos.shape[-1] == of_time + of_row + of_column


def test_a_rotation_is_taken_back_by_its_inverse() -> None:
    x, there = drawn(5, 2, 12, 24), positions(frames(3, 4), 2, 3, 24)
    back = Rotation(there.cos, -there.sin)
    torch.testing.assert_close(rotate(rotate(x, there), back), x)


def test_a_shift_moves_what_stands_at_any_position_back_in_time() -> None:
    x = drawn(12, 24)
    moved = rotate(rotate(x, positions(frames(5, 6), 2, 3, 24)), shift(3, 24))
    torch.testing.assert_close(moved, rotate(x, positions(frames(2, 3), 2, 3, 24)))


def test_half_precision_stays_what_it_is_and_is_turned_in_full() -> None:
    x = drawn(6, 24)
    there = positions(frames(1), 2, 3, 24)
    turned = rotate(x.bfloat16(), there)
    assert turned.dtype is torch.bfloat16
    assert torch.equal(turned, rotate(x.bfloat16().float(), there).bfloat16())
