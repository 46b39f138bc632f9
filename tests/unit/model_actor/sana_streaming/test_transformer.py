"""Streams: batches, origins and precisions make no difference."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from model_actor.models.sana_streaming import sampler
from model_actor.models.sana_streaming.gated_delta import Memory
from model_actor.models.sana_streaming.rotary import Rotation, positions, rotate
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer
from model_actor.models.sana_streaming.windowed_attention import Past, Window
from tests.unit.model_actor.sana_streaming.streams import BOUNDS, Stream, together

pytestmark = pytest.mark.unit

Inputs = dict[str, Tensor]
Model = SanaStreamingTransformer


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "phases", [(0, 0), (1, 1), (1, 2), (2, 3), (1, 3, 2)], ids=lambda phases: str(phases)
)
def test_a_batch_of_sessions_in_different_phases_equals_each_alone(
    model: Model, io: Inputs, phases: tuple[int, ...]
) -> None:
    def sessions() -> list[Stream]:
        whose = [("", 0), ("_b", 1), ("_b", 0)]
        made = [Stream(model, io, *whose[at]) for at in range(len(phases))]
        for stream, windows in zip(made, phases, strict=True):
            for _ in range(windows):
                stream.step()
        return made

    alone, batch = sessions(), sessions()
    # The second window shows what the first one left.
    for _ in range(min(2, 4 - max(phases))):
        for (ours, _), stream in zip(together(batch), alone, strict=True):
            close(ours, stream.step()[0])


def test_streams_side_by_side_do_not_touch_each_other(model: Model, io: Inputs) -> None:
    alone = Stream(model, io)
    wanted = [alone.step()[0] for _ in range(3)]
    one, other = Stream(model, io), Stream(model, io, "_b", 1)
    made = []
    for _ in range(3):
        other.step()
        made.append(one.step()[0])
        one.state = one.state.clone().to("cpu")
    assert all(torch.equal(*pair) for pair in zip(made, wanted, strict=True))


def test_a_window_leaves_the_state_that_it_was_given_as_it_was(model: Model, io: Inputs) -> None:
    stream = Stream(model, io)
    stream.step()
    stream.step()
    before, kept = stream.state, stream.state.clone()
    stream.step()
    for (_, left), (_, right) in zip(before.tensors(), kept.tensors(), strict=True):
        assert torch.equal(left, right)


@dataclass
class Absolute:
    """The same stream with positions from some origin that never moves, as upstream has it."""

    model: Model
    io: Inputs
    origin: int
    memories: list[Memory] = field(default_factory=list)
    windows: list[list[Window]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    tail: Tensor | None = None

    @torch.no_grad()
    def step(self, stream: Stream) -> Tensor:
        """Makes one window of a stream, whose own state is not looked at."""
        model, grid, frames = self.model, stream.grid, stream.frames
        start, dim = self.origin + BOUNDS[stream.window], self.model.config.linear_head_dim
        context = model.context(
            model.begin(1, grid), stream.text, stream.mask, frames, grid
        )._replace(rotation=self._at(start, frames, grid, dim), past=tuple(self._past(grid, dim)))
        if self.memories:
            assert self.tail is not None
            context = context._replace(memory=tuple(self.memories), tail=self.tail)
        noise, source = stream.inputs
        latents = sampler.denoise(model, noise, source, context)
        _, kept = model(latents, source, torch.zeros(1), context)
        self.memories = [kept[block].attention for block in model.delta_blocks]
        self.windows.append([kept[block].attention for block in model.softmax_blocks])
        self.starts.append(start)
        self.tail = torch.stack([each.tail for each in kept], 1)
        stream.window += 1
        return latents

    def _at(self, start: int, frames: int, grid: tuple[int, int], dim: int) -> Rotation:
        return positions(torch.arange(start, start + frames, dtype=torch.float64), *grid, dim)

    def _past(self, grid: tuple[int, int], dim: int) -> list[Past]:
        seen = sorted({0, len(self.windows) - 1}) if self.windows else []
        pasts = []
        for layer in range(len(self.model.softmax_blocks)):
            keys, values = [], []
            for window in seen:
                own = self.windows[window][layer]
                frames = own.keys.shape[2] // (grid[0] * grid[1])
                keys.append(rotate(own.keys, self._at(self.starts[window], frames, grid, dim)))
                values.append(own.values)
            heads = self.model.config.hidden_size // dim
            none = torch.zeros(1, heads, 0, dim)
            pasts.append(Past(torch.cat([none, *keys], 2), torch.cat([none, *values], 2)))
        return pasts


@pytest.mark.parametrize("origin", [0, 500, 1_000_000])
def test_moving_the_origin_with_the_stream_changes_nothing(
    model: Model, io: Inputs, origin: int
) -> None:
    ours, theirs, absolute = Stream(model, io), Stream(model, io), Absolute(model, io, origin)
    for _ in range(4):
        close(ours.step()[0], absolute.step(theirs))


def test_how_long_ago_the_first_window_was_does_count(model: Model, io: Inputs) -> None:
    near, far = Stream(model, io), Stream(model, io)
    for stream in (near, far):
        stream.step()
        stream.step()
    named = dict(far.state.tensors())
    far.state = type(far.state)(**{**named, "frames": far.state.frames + 1_000_000})
    apart = (near.step()[0] - far.step()[0]).abs().max()
    assert 1e-6 < apart < 10


def test_the_mask_hides_tokens_of_a_prompt(model: Model, io: Inputs) -> None:
    stream, other = Stream(model, io), Stream(model, io)
    hidden = stream.mask[0] == 0
    assert hidden.any()
    other.text = other.text.clone()
    other.text[:, hidden] += 5
    seen = Stream(model, io)
    seen.text = other.text.clone()
    seen.text[:, ~hidden] += 5
    made = [each.step()[0] for each in (stream, other, seen)]
    assert torch.equal(made[0], made[1])
    assert (made[0] - made[2]).abs().max() > 1e-3


def test_half_precision_stays_near_full_precision_over_windows(model: Model, io: Inputs) -> None:
    half = SanaStreamingTransformer.from_config(model.config)
    half.load_state_dict(model.state_dict())
    full, rounded = Stream(model, io), Stream(half.bfloat16().eval(), io)
    for _ in range(4):
        wanted, ours = full.step()[0], rounded.step()[0]
        assert ours.dtype is torch.float32
        assert (ours - wanted).square().mean().sqrt() < 0.02 * wanted.square().mean().sqrt()
    assert rounded.state.memory.dtype is torch.float32


def test_which_blocks_attend_by_softmax_may_be_said() -> None:
    with torch.device("meta"):
        assert SanaStreamingTransformer().softmax_blocks == (3, 7, 11, 15, 19)
        assert SanaStreamingTransformer(depth=3, softmax_blocks=[1]).delta_blocks == (0, 2)
