"""Faster ways compute the same, as far as that can be told without a GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from model_actor.models.sana_streaming import fp8, tiny
from model_actor.models.sana_streaming.bundle import Parts
from model_actor.models.sana_streaming.fp8 import Fp8Linear
from model_actor.models.sana_streaming.graphs import GraphedPass
from model_actor.models.sana_streaming.speed import Speed, compile_steps
from model_actor.models.sana_streaming.speed_options import SPEED_OPTIONS
from model_actor.models.sana_streaming.streaming_vae import ConvState, StreamingVae
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer
from scheduler.core.errors import PluginError
from tests.unit.model_actor.sana_streaming.streams import Stream, together

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")
MadeT = TypeVar("MadeT")


@pytest.fixture
def own(model: SanaStreamingTransformer) -> SanaStreamingTransformer:
    """A transformer that may be changed."""
    return copy.deepcopy(model)


@pytest.fixture
def vae(parts: Parts) -> StreamingVae:
    """An autoencoder that may be changed."""
    return StreamingVae(copy.deepcopy(parts.vae.vae))


def error(ours: Tensor, theirs: Tensor) -> float:
    """Root mean square of the difference, as a part of what it should be."""
    return float((ours - theirs).pow(2).mean().sqrt() / theirs.pow(2).mean().sqrt())


def coded(vae: StreamingVae) -> list[Tensor]:
    """Latents and pixels of two windows of a clip."""
    random = torch.Generator().manual_seed(3)
    clip = torch.rand(1, 3, 17, 64, 96, generator=random) * 2 - 1
    past, after, made = ConvState(), ConvState(), []
    with torch.inference_mode():
        for window in (clip[:, :, :9], clip[:, :, 9:]):
            latents, past = vae.encode(window, past)
            pixels, after = vae.decode(latents, after)
            made += [latents, pixels, *past.past, *after.past]
    return made


def test_rows_in_eight_bits_are_what_they_were_to_a_few_percent() -> None:
    x = (
        torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
        * torch.logspace(-3, 3, 5)[:, None]
    )
    rows, scale = fp8.quantised(x)
    assert rows.dtype == torch.float8_e4m3fn
    assert scale.shape == (5, 1)
    for ours, theirs in zip(rows.float() * scale, x, strict=True):
        assert error(ours, theirs) < 0.04, "whatever its size, each row is as exact"
    zeros, _ = fp8.quantised(torch.zeros(2, 16))
    assert not zeros.float().any()


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_in_eight_bits_is_close(bias: bool) -> None:
    random = torch.Generator().manual_seed(2)
    layer = tiny.randomised(nn.Linear(64, 32, bias=bias), random)
    x = torch.randn(2, 3, 7, 64, generator=random)
    made = Fp8Linear(layer.weight, layer.bias)(x)
    assert made.shape == (2, 3, 7, 32)
    assert made.dtype == x.dtype
    assert 1e-3 < error(made, layer(x)) < 0.06
    half = Fp8Linear(layer.weight.bfloat16(), layer.bias.bfloat16() if bias else None)
    assert half(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("bias", [True, False])
def test_torch_is_given_what_its_units_ask_for(bias: bool) -> None:
    """Torch has the same product for the CPU, so that shapes and scales can be tried."""
    random = torch.Generator().manual_seed(4)
    rows, row_scale = fp8.quantised(torch.randn(7, 64, generator=random))
    layer = Fp8Linear(
        torch.randn(48, 64, generator=random).bfloat16(),
        torch.randn(48, generator=random).bfloat16() if bias else None,
    )
    given = (rows, row_scale, layer.weight, layer.scale, layer.bias, torch.bfloat16)
    ours, theirs = fp8._emulated(*given), fp8._on_matrix_units(*given)
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)


def test_a_transformer_in_eight_bits_edits_about_the_same(
    model: SanaStreamingTransformer, own: SanaStreamingTransformer, io: dict[str, Tensor]
) -> None:
    assert fp8.apply(own) == 4 * (len(fp8.LAYERS) + 1)
    assert not any(isinstance(each, nn.Linear) for each in own.blocks[0].ff.modules())
    plain, eight = Stream(model, io), Stream(own, io)
    for _ in range(3):
        latents = plain.step()[0]
        assert 1e-3 < error(eight.step()[0], latents) < 0.1
    gate = own.blocks[0].attn1.to_gate
    assert isinstance(gate, nn.Linear), "gates stay as they are"


def test_what_the_matrix_units_do_not_take_stays() -> None:
    sizes = {"hidden_size": 24, "linear_head_dim": 12, "num_heads": 2}
    odd = tiny.transformer(torch.Generator().manual_seed(1), **sizes)
    assert fp8.apply(odd) == 0


def test_channels_last_change_next_to_nothing(parts: Parts, vae: StreamingVae) -> None:
    expected = coded(parts.vae)
    Speed(channels_last=True).apply(tiny.transformer(torch.Generator()), vae)
    weight = vae.vae.encoder.conv_in.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    for ours, theirs in zip(coded(vae), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


class Traced:
    """A compiler that leaves code as it is, and counts what it was given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        self.graphs += 1
        return graph.forward


@pytest.fixture
def traced() -> Iterator[Traced]:
    torch._dynamo.reset()
    yield Traced()
    torch._dynamo.reset()


@pytest.mark.slow
def test_blocks_are_compiled_whole_and_those_of_a_kind_as_one(
    model: SanaStreamingTransformer,
    own: SanaStreamingTransformer,
    vae: StreamingVae,
    io: dict[str, Tensor],
    traced: Traced,
) -> None:
    """Without a break: what leaves the compiled code costs time, and breaks CUDA graphs."""
    compile_steps(own, vae, backend=traced)
    ours, theirs = Stream(own, io), Stream(model, io)
    counted = []
    for _ in range(4):
        assert torch.equal(ours.step()[0], theirs.step()[0])
        counted.append(traced.graphs)
    # Two kinds; the second window is shorter, the third has a longer past, which gated delta
    # attention does not see, and from there on all are alike.
    assert counted == [2, 4, 5, 5]


@pytest.mark.slow
def test_encoding_and_decoding_are_compiled_whole(
    own: SanaStreamingTransformer, vae: StreamingVae, parts: Parts, traced: Traced
) -> None:
    compile_steps(own, vae, backend=traced)
    for _ in range(2):
        for one, other in zip(coded(vae), coded(parts.vae), strict=True):
            assert torch.equal(one, other)
    assert traced.graphs == 4, "each of a first and of a later window, and then no more"


class Replaying:
    """Records work as a GPU does: its inputs are read, and its results written, in one place."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, work: Callable[[], MadeT]) -> tuple[MadeT, Callable[[], None]]:
        self.recorded += 1
        made = _pytree.tree_map(lambda each: torch.full_like(each, torch.nan), work())

        def replay() -> None:
            self.replayed += 1
            again = _pytree.tree_leaves(work())
            for there, each in zip(_pytree.tree_leaves(made), again, strict=True):
                there.copy_(each)

        return made, replay


def test_recorded_passes_make_what_passes_make(
    model: SanaStreamingTransformer, own: SanaStreamingTransformer, io: dict[str, Tensor]
) -> None:
    capture = Replaying()
    own.faster = GraphedPass(own.one_pass, capture)
    for count in (1, 2):
        suffixes = [("", 0), ("_b", 1)][:count]
        ours = [Stream(own, io, *each) for each in suffixes]
        theirs = [Stream(model, io, *each) for each in suffixes]
        for _ in range(4):
            for one, other in zip(together(ours), together(theirs), strict=True):
                assert torch.equal(one[0], other[0])
                assert all(
                    torch.equal(a, b)
                    for (_, a), (_, b) in zip(one[1].tensors(), other[1].tensors(), strict=True)
                )
    # Alone and as two, the third window and the fourth; five passes each.
    assert (capture.recorded, capture.replayed) == (2, 2 * 2 * 5)


def test_sessions_in_turn_do_not_see_what_another_left_in_a_recorded_pass(
    model: SanaStreamingTransformer, own: SanaStreamingTransformer, io: dict[str, Tensor]
) -> None:
    own.faster = GraphedPass(own.one_pass, Replaying())
    sessions = [("", 0), ("_b", 1)]
    ours = [Stream(own, io, *each) for each in sessions]
    theirs = [Stream(model, io, *each) for each in sessions]
    for _ in range(4):
        made = [each.step()[0].clone() for each in ours]
        assert all(torch.equal(a, b.step()[0]) for a, b in zip(made, theirs, strict=True))


def test_what_is_not_asked_for_is_off_and_what_a_device_cannot_do_is_told() -> None:
    assert Speed.of({}) == Speed()
    assert Speed().named == ()
    Speed().check(CPU)
    everything = Speed.of(dict.fromkeys(SPEED_OPTIONS, "on"))
    assert everything.named == tuple(SPEED_OPTIONS)
    for name in ("graphs", "fp8", "tf32", "overlap"):
        with pytest.raises(PluginError, match=f"{name}=on needs a GPU"):
            Speed.of({name: "on"}).check(CPU)
    Speed.of({"compile": "on", "channels_last": "on"}).check(CPU)
