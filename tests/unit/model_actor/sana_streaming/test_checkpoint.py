"""From the released checkpoint's names to ours, and what is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model_actor.models.sana_streaming import converting
from model_actor.models.sana_streaming.checkpoint import CheckpointError, renamed, unwrapped
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer
from tests.unit.model_actor.sana_streaming import upstream
from tests.unit.model_actor.sana_streaming.conftest import ORACLE

pytestmark = pytest.mark.unit


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return load_file(ORACLE / "dit_weights.safetensors")


def test_the_released_checkpoint_is_588_tensors_and_fits_our_model_exactly() -> None:
    checkpoint = upstream.released()
    assert len(checkpoint) == 588
    assert converting.parameters_of(checkpoint) == 2_259_529_648
    converting.check_released(checkpoint, converting.sizes(checkpoint))
    with torch.device("meta"):
        model = SanaStreamingTransformer()
    ours = {name: each.shape for name, each in renamed(checkpoint).items()}
    assert ours == {name: each.shape for name, each in model.state_dict().items()}


def test_sizes_follow_from_the_released_checkpoint() -> None:
    with torch.device("meta"):
        usual = SanaStreamingTransformer().config
    found = converting.sizes(upstream.released())
    assert found.pop("softmax_blocks") == [3, 7, 11, 15, 19]
    assert found == {name: usual[name] for name in found}


def test_shapes_of_other_sizes_are_the_oracles_too(tensors: dict[str, Tensor]) -> None:
    written = upstream.shapes(
        depth=4,
        hidden=48,
        head_dim=12,
        latent=8,
        source=8,
        caption=32,
        tokens=12,
        positions=16,
        softmax=(3,),
    )
    assert dict(written) == {name: tuple(each.shape) for name, each in tensors.items()}


def test_only_the_middle_tap_of_a_temporal_projection_counts(tensors: dict[str, Tensor]) -> None:
    taken = renamed(tensors)["blocks.3.attn1.to_q.weight"]
    assert torch.equal(taken, tensors["blocks.3.attn.q.weight"][:, :, 1])


@pytest.mark.parametrize("wrapper", ["", "generator", "state_dict"])
@pytest.mark.parametrize("lead", ["", "model.", "module.", "model.module."])
def test_wrappers_and_leads_are_taken_off(wrapper: str, lead: str) -> None:
    inner = {f"{lead}pos_embed": torch.zeros(1)}
    assert [*unwrapped({wrapper: inner} if wrapper else inner)] == ["pos_embed"]


def test_something_else_than_a_tensor_is_refused() -> None:
    with pytest.raises(CheckpointError, match="epoch is no tensor"):
        unwrapped({"epoch": 3})


def test_an_unknown_tensor_is_named(tensors: dict[str, Tensor]) -> None:
    tensors["blocks.0.attn.camera.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"1 tensors .* blocks\.0\.attn\.camera\.weight"):
        renamed(tensors)


@pytest.mark.parametrize("missing", ["x_embedder.proj.weight", "blocks.0.attn.A_log"])
def test_a_checkpoint_without_what_tells_its_sizes_is_refused(
    tensors: dict[str, Tensor], missing: str
) -> None:
    del tensors[missing]
    with pytest.raises(CheckpointError):
        converting.check_released(tensors, converting.sizes(tensors))


def test_a_model_of_another_size_is_not_taken_for_the_released_one(
    tensors: dict[str, Tensor],
) -> None:
    with pytest.raises(CheckpointError, match=r"instead of 588 .*depth 4, width 48.*--config"):
        converting.check_released(tensors, converting.sizes(tensors))
