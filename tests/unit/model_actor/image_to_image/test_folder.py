"""What a folder holds is read without torch, and what is wrong with one is said in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from model_actor.models.image_to_image import folder, loading
from model_actor.models.image_to_image.folder import FolderError
from model_actor.models.image_to_image.model import ImageToImageModel
from model_actor.models.image_to_image.weights_command import weights
from scheduler.core.errors import ConfigurationError

pytestmark = pytest.mark.unit

SCHEDULER = "scheduler/scheduler_config.json"
UNET = "unet/diffusion_pytorch_model.safetensors"


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def change_index(copy: Path, **parts: Any) -> None:
    change(copy / "model_index.json", **parts)


def remove_tensor(copy: Path) -> None:
    tensors = load_file(copy / UNET)
    del tensors["conv_in.weight"]
    save_file(tensors, copy / UNET, {"format": "pt"})


def only_pickles(copy: Path) -> None:
    (copy / UNET).rename(copy / "unet/diffusion_pytorch_model.bin")


def cut(copy: Path) -> None:
    content = (copy / UNET).read_bytes()
    (copy / UNET).write_bytes(content[:-100])


def cut_header(copy: Path) -> None:
    (copy / UNET).write_bytes((copy / UNET).read_bytes()[:40])


BROKEN: list[tuple[str, Callable[[Path], object], str]] = [
    ("no index", lambda copy: (copy / "model_index.json").unlink(), "model_index.json is missing"),
    ("no json", lambda copy: (copy / "unet/config.json").write_text("{"), "is not understood"),
    ("no unet", lambda copy: change_index(copy, unet=[None, None]), "names no unet"),
    (
        "no scheduler",
        lambda copy: (copy / "scheduler/scheduler_config.json").unlink(),
        "is missing",
    ),
    ("pickles", only_pickles, "may run code when they are read: save them as safetensors"),
    ("nothing", lambda copy: (copy / UNET).unlink(), "holds no diffusion_pytorch_model.safetens"),
    ("truncated", cut, "is truncated"),
    ("truncated header", cut_header, "is truncated, or no safetensors"),
    (
        "another family",
        lambda copy: change_index(copy, text_encoder_2=["transformers", "CLIPTextModel"]),
        "with text_encoder_2, it is of another kind",
    ),
    (
        "many steps",
        lambda copy: change_index(copy, scheduler=["diffusers", "PNDMScheduler"]),
        "the scheduler is a PNDMScheduler, and not LCM.*: few steps need",
    ),
    (
        "for masks",
        lambda copy: change(copy / "unet/config.json", in_channels=9),
        "takes 9 channels, not 4",
    ),
    (
        "more than a prompt",
        lambda copy: change(copy / "unet/config.json", addition_embed_type="text_time"),
        "wants more than a prompt",
    ),
    (
        "other prompts",
        lambda copy: change(copy / "text_encoder/config.json", hidden_size=768),
        "prompts of 32 channels, the text encoder makes 768",
    ),
    (
        "other latents",
        lambda copy: change(copy / "vae/config.json", latent_channels=16),
        "latents of 16 channels",
    ),
]


@pytest.mark.parametrize(
    ("how", "why"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_what_is_wrong_is_said_before_anything_is_loaded(
    copy: Path, how: Callable[[Path], object], why: str
) -> None:
    how(copy)
    with pytest.raises(FolderError, match=why):
        ImageToImageModel().configure({"weights": str(copy)})


def test_a_missing_tensor_is_not_drawn_at_random(copy: Path) -> None:
    remove_tensor(copy)
    described = folder.describe(copy)
    with pytest.raises(FolderError, match=r"is no UNet2DConditionModel: conv_in\.weight"):
        loading.load(described, torch.device("cpu"), torch.float32)


def test_no_words_no_model(copy: Path) -> None:
    (copy / "tokenizer/vocab.json").unlink()
    (copy / "tokenizer/merges.txt").unlink()
    (copy / "tokenizer/tokenizer_config.json").unlink()
    (copy / "tokenizer").rmdir()
    with pytest.raises(FolderError, match="tokenizer is missing"):
        loading.load(folder.describe(copy), torch.device("cpu"), torch.float32)


def test_weights_in_half_precision_alone_are_taken(copy: Path) -> None:
    for part in ("unet", "vae", "text_encoder"):
        for path in (copy / part).glob("*.safetensors"):
            path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    described = folder.describe(copy)
    assert described.unet.variant == "fp16"
    loading.load(described, torch.device("cpu"), torch.float32)


def test_another_autoencoder_takes_the_place_of_its_own(turbo: Path, consistency: Path) -> None:
    described = folder.describe(turbo, consistency / "vae")
    assert (described.vae_kind, described.cell) == ("AutoencoderKL", 8)
    parts = loading.load(described, torch.device("cpu"), torch.float32)
    assert type(parts.vae).__name__ == "AutoencoderKL"
    with pytest.raises(FolderError, match=r"config\.json is missing"):
        folder.describe(turbo, turbo)


def test_parameters_are_counted_from_headers(turbo: Path) -> None:
    described = folder.describe(turbo)
    parts = loading.load(described, torch.device("cpu"), torch.float32)
    found = (described.unet.numbers, described.autoencoder.numbers, described.text_encoder.numbers)
    wanted = tuple(
        sum(each.numel() for each in part.parameters())
        for part in (parts.unet, parts.vae, parts.text_encoder)
    )
    assert found == wanted


def test_the_same_seed_makes_the_same_files(turbo: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    result = CliRunner().invoke(weights, ["tiny", str(out)])
    assert result.exit_code == 0, result.output
    assert "multiples of 16" in result.output
    assert (out / UNET).read_bytes() == (turbo / UNET).read_bytes()
    assert CliRunner().invoke(weights, ["verify", str(out)]).exit_code == 0
    again = CliRunner().invoke(weights, ["tiny", str(out)])
    assert isinstance(again.exception, ConfigurationError)
    assert "is there already" in str(again.exception)
    remove_tensor(out)
    broken = CliRunner().invoke(weights, ["verify", str(out)])
    assert isinstance(broken.exception, FolderError)


@pytest.mark.parametrize("words", [("--autoencoder", "x"), ("--scheduler", "ddim")])
def test_what_tiny_cannot_make_is_refused(words: tuple[str, str], tmp_path: Path) -> None:
    result = CliRunner().invoke(weights, ["tiny", str(tmp_path / "x"), *words])
    assert isinstance(result.exception, ConfigurationError)
    assert not (tmp_path / "x").exists()
