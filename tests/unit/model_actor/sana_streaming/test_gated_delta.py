"""The scans of gated delta attention against the recurrence as it is written down."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model_actor.models.sana_streaming.gated_delta import (
    Frames,
    GatedDeltaAttention,
    Memory,
    scan,
    updates,
)
from model_actor.models.sana_streaming.rotary import positions, rotate
from model_actor.models.sana_streaming.tiny import randomised

pytestmark = pytest.mark.unit

HEADS, DIM = 2, 6


def drawn(frames: int, tokens: int, seed: int) -> dict[str, Tensor]:
    """Draws what the frames of a window write, fp64."""
    random = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    keys = some(1, HEADS, frames, tokens, DIM).relu() * (DIM * tokens) ** -0.5
    where = positions(torch.arange(frames, dtype=torch.float64), 1, tokens, DIM)
    turned = rotate(keys.flatten(2, 3), where).unflatten(2, (frames, tokens)).double()
    return {
        "keys": keys,
        "turned_keys": turned,
        "values": some(1, HEADS, frames, tokens, DIM),
        "beta": some(1, HEADS, frames, tokens).sigmoid(),
        "alpha": some(1, HEADS, frames).sigmoid(),
    }


def nothing() -> Memory:
    written = torch.zeros(1, HEADS, DIM, DIM, dtype=torch.float64)
    return Memory(written, written[..., 0])


def some_of(window: dict[str, Tensor], begin: int, end: int) -> Frames:
    return updates(**{name: each[:, :, begin:end] for name, each in window.items()})


def recurrence(window: dict[str, Tensor], order: list[int], head: int) -> tuple[Tensor, Tensor]:
    """Runs the formulas for one head, token columns and all, over frames in some order."""
    memory = torch.zeros(DIM, DIM, dtype=torch.float64)
    total = torch.zeros(DIM, dtype=torch.float64)
    one = torch.eye(DIM, dtype=torch.float64)
    for f in order:
        k, turned, v = (window[name][0, head, f].T for name in ("keys", "turned_keys", "values"))
        strength, kept = torch.diag(window["beta"][0, head, f]), window["alpha"][0, head, f]
        memory = kept * memory @ (one - turned @ strength @ turned.T) + v @ strength @ turned.T
        total = kept * (one - k @ strength @ k.T) @ total + k @ torch.diag(strength)
    return memory, total


@settings(max_examples=15)
@given(frames=st.integers(1, 5), tokens=st.integers(1, 5), seed=st.integers(0, 1000))
def test_the_scans_are_the_recurrence(frames: int, tokens: int, seed: int) -> None:
    window = drawn(frames, tokens, seed)
    memory, read, read_sum = scan(nothing(), updates(**window))
    for head in range(HEADS):
        for f in range(frames):
            forth, forth_sum = recurrence(window, [*range(f + 1)], head)
            back, back_sum = recurrence(window, [*range(frames - 1, f, -1)], head)
            torch.testing.assert_close(read[0, head, f], forth + back)
            torch.testing.assert_close(read_sum[0, head, f], forth_sum + back_sum)
        last, last_sum = recurrence(window, [*range(frames)], head)
        torch.testing.assert_close(memory.written[0, head], last)
        torch.testing.assert_close(memory.normalizer[0, head], last_sum)


def test_windows_one_after_the_other_remember_what_one_window_does() -> None:
    window = drawn(11, 4, seed=1)
    whole, _, _ = scan(nothing(), some_of(window, 0, 11))
    memory = nothing()
    for begin, end in ((0, 5), (5, 8), (8, 11)):
        memory, _, _ = scan(memory, some_of(window, begin, end))
    assert torch.equal(memory.written, whole.written)
    assert torch.equal(memory.normalizer, whole.normalizer)


def test_what_is_read_backwards_is_not_remembered() -> None:
    window = drawn(3, 4, seed=2)
    alone, _, _ = scan(nothing(), some_of(window, 0, 1))
    memory, read, _ = scan(nothing(), some_of(window, 0, 3))
    after, _, _ = scan(alone, some_of(window, 1, 3))
    assert torch.equal(after.written, memory.written)
    # The first frame does see the later ones.
    assert not torch.allclose(read[:, :, 0], alone.written)


def test_a_layer_sees_every_frame_of_its_window_from_every_other() -> None:
    layer = randomised(GatedDeltaAttention(12, 6), torch.Generator().manual_seed(3))
    x = torch.randn(1, 3, 4, 12, generator=torch.Generator().manual_seed(4))
    where = positions(torch.arange(3, dtype=torch.float64), 2, 2, 6)
    memory = Memory(torch.zeros(1, 2, 6, 6), torch.zeros(1, 2, 6))
    before, _ = layer(x, where, memory)
    for changed in range(3):
        other = x.clone()
        other[:, changed] += 1
        after, _ = layer(other, where, memory)
        assert ((after - before).abs().amax((0, 2, 3)) > 1e-6).all()
