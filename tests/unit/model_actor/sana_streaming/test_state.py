"""What a stream remembers, moved and copied: not one bit of it changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from model_actor.models.sana_streaming.state import TransformerState
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer
from tests.unit.model_actor.sana_streaming.streams import Stream

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def states(model: SanaStreamingTransformer, io: dict[str, Tensor]) -> list[TransformerState]:
    """After each window of one stream; the first, before any."""
    stream = Stream(model, io)
    return [stream.state, *(stream.step()[1] for _ in range(3))]


def same(one: TransformerState, other: TransformerState) -> Iterator[bool]:
    for (name, ours), (its_name, theirs) in zip(one.tensors(), other.tensors(), strict=True):
        yield name == its_name and ours.dtype == theirs.dtype and torch.equal(ours, theirs)


@pytest.mark.parametrize("windows", range(4))
def test_moving_and_cloning_change_nothing(states: list[TransformerState], windows: int) -> None:
    state = states[windows]
    assert all(same(state.to("cpu"), state))
    assert all(same(state.clone(), state))


def test_a_clone_shares_no_memory(states: list[TransformerState]) -> None:
    clone = states[3].clone()
    clone.memory.zero_()
    assert states[3].memory.abs().max() > 0


@pytest.mark.parametrize(
    "windows", [(0, 0), (1, 1), (2, 2), (3, 3), (1, 2), (3, 1, 2), (2, 1, 1, 3)], ids=str
)
def test_sessions_come_out_of_a_batch_as_they_went_in(
    states: list[TransformerState], windows: tuple[int, ...]
) -> None:
    gone_in = [states[each] for each in windows]
    batch = TransformerState.stack(gone_in)
    assert batch.batch == len(windows)
    for before, after in zip(gone_in, batch.split(), strict=True):
        assert all(same(before, after))


def test_a_first_window_is_no_batch_with_a_later_one(states: list[TransformerState]) -> None:
    with pytest.raises(ValueError, match="first window"):
        TransformerState.stack([states[0], states[2]])


def test_a_state_is_of_constant_size_from_the_second_window_on(
    model: SanaStreamingTransformer, states: list[TransformerState]
) -> None:
    assert states[2].nbytes == states[3].nbytes
    assert states[2].nbytes == sum(each.nbytes for _, each in states[2].tensors())
    # Two frames of a delta layer, keys and values of eight frames, a tail for each block: fp32.
    config, tokens = model.config, 24
    heads = config.hidden_size // config.linear_head_dim
    memory = 3 * heads * config.linear_head_dim * (config.linear_head_dim + 1)
    window = 2 * config.hidden_size * (5 + 3) * tokens
    assert states[2].nbytes == 4 * (memory + window + 4 * config.hidden_size * tokens) + 8 + 1
