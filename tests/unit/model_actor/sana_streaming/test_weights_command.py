"""`sana-gateway weights`: released files in, a bundle out, and what is said when they are not."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Gemma2ForCausalLM
from typer.testing import CliRunner, Result

from model_actor.models.sana_streaming import bundle, bundle_files, converting, tiny
from model_actor.models.sana_streaming.checkpoint import CheckpointError
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer
from model_actor.models.sana_streaming.weights_command import LICENCES, weights
from scheduler.core.errors import ConfigurationError, SanaGatewayError
from tests.unit.model_actor.sana_streaming.conftest import ORACLE

pytestmark = pytest.mark.unit

INSTRUCTION = ["Do as told.", "User Prompt: "]


def run(*words: object) -> Result:
    return CliRunner().invoke(weights, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files laid out as they are released, of a tiny model."""
    folder = tmp_path_factory.mktemp("released")
    tensors = load_file(ORACLE / "dit_weights.safetensors")
    wrapped = {"generator": {f"model.module.{name}": each for name, each in tensors.items()}}
    torch.save(wrapped, folder / "dit.pth")
    vae = tiny.vae(torch.Generator().manual_seed(1), "causal")
    vae.save_pretrained(folder / "vae")
    # The released folder names a class of its own and two fields that only that has.
    config = json.loads((folder / "vae/config.json").read_text())
    config |= {"_class_name": "AutoencoderKLCausalLTX2Video", "window": 1, "stride": 2}
    (folder / "vae/config.json").write_text(json.dumps(config))
    # A whole Gemma-2 is released, in several files.
    inner = tiny.text_encoder(torch.Generator().manual_seed(2))
    gemma = Gemma2ForCausalLM(inner.config)
    gemma.model.load_state_dict(inner.state_dict())
    gemma.save_pretrained(folder / "gemma", max_shard_size="60KB")
    assert len([*(folder / "gemma").glob("*.safetensors")]) > 1
    tiny.tokenizer().save_pretrained(folder / "gemma")
    lines = "\n".join(f"    - '{line}'" for line in INSTRUCTION)
    (folder / "recipe.yaml").write_text(f"text_encoder:\n  chi_prompt:\n{lines}\n")
    (folder / "sizes.json").write_text('{"num_heads": 2}')
    return folder


def converted(released: Path, out: Path, *more: object, **other: Path) -> Result:
    files = {
        "transformer": "dit.pth",
        "vae": "vae",
        "text-encoder": "gemma",
        "prefix": "recipe.yaml",
        "config": "sizes.json",
    }
    paths = {name: released / file for name, file in files.items()} | other
    options = [word for name, path in paths.items() for word in (f"--{name}", path)]
    return run("convert", out, *options, "--accept-licences", *more)


def test_released_files_become_a_bundle(released: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    result = converted(released, out, "--dtype", "float32", "--size", "192x128")
    assert result.exit_code == 0, result.output
    parts = bundle.load(out)
    assert parts.description.prefix == "\n".join(INSTRUCTION)
    assert parts.description.licences == tuple(LICENCES)
    assert parts.description.decoder == "causal"
    inner = tiny.text_encoder(torch.Generator().manual_seed(2)).state_dict()
    taken = parts.text.model.state_dict()
    assert all(torch.equal(taken[name], each) for name, each in inner.items())
    # The prompt that stands for none in the checkpoint tells how long prompts are.
    assert parts.description.prompt_tokens == 12
    model, _ = converting.read_transformer(ORACLE / "dit_weights.safetensors", {"num_heads": 2})
    ours = parts.transformer.state_dict()
    assert all(torch.equal(ours[name], each) for name, each in model.state_dict().items())
    assert dict(parts.transformer.config)["softmax_blocks"] == [3]
    assert run("verify", out).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_weights_are_bfloat16_unless_wished_otherwise(released: Path, tmp_path: Path) -> None:
    assert converted(released, tmp_path / "b").exit_code == 0
    contents = bundle.check(tmp_path / "b")
    assert {each.dtypes for each in contents.values()} == {("BF16",)}
    assert contents["transformer"].tensors == len(SHAPES)


SHAPES = SanaStreamingTransformer(
    depth=4, hidden_size=48, num_heads=2, linear_head_dim=12, latent_channels=8
).state_dict()


def test_licences_are_shown_and_have_to_be_accepted(released: Path, tmp_path: Path) -> None:
    words = ["--transformer", released / "dit.pth", "--vae", released, "--text-encoder", released]
    result = run("convert", tmp_path / "b", *words, "--prefix", released / "recipe.yaml")
    assert isinstance(result.exception, ConfigurationError)
    assert "--accept-licences" in str(result.exception)
    assert all(name in result.output for name in LICENCES)
    assert not (tmp_path / "b").exists()


class Trap:
    """Leaves a file where somebody unpickles it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self._file,)


def broken(make: Callable[[Path], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        make(folder / "broken.pth")
        return folder / "broken.pth"

    return write


def upstream_tensors() -> dict[str, Any]:
    return load_file(ORACLE / "dit_weights.safetensors")


def without(*names: str) -> Callable[[Path], object]:
    return lambda path: torch.save(
        {name: each for name, each in upstream_tensors().items() if name not in names}, path
    )


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "none.pth", "there is no file"),
    "holds code": (
        broken(lambda path: torch.save({"x": Trap(path.with_name("run"))}, path)),
        "holds code",
    ),
    "truncated": (
        broken(
            lambda path: (
                torch.save(upstream_tensors(), path),
                path.write_bytes(path.read_bytes()[:-5000]),
            )
        ),
        "truncated or of another kind|no file of tensors",
    ),
    "empty": (broken(lambda path: path.write_bytes(b"")), "truncated or of another kind"),
    "a list": (broken(lambda path: torch.save([torch.zeros(1)], path)), "no tensors by name"),
    "lacks a tensor": (broken(without("blocks.2.attn.v.weight")), r"lacks blocks\.2\.attn1\.to_v"),
    "another shape": (
        broken(
            lambda path: torch.save(
                {**upstream_tensors(), "blocks.1.attn.v.weight": torch.zeros(48, 40)}, path
            )
        ),
        r"to_v\.weight is shaped \[48, 40\], not \[48, 48\]",
    ),
    "an unknown tensor": (
        broken(lambda path: torch.save({**upstream_tensors(), "lora": torch.zeros(1)}, path)),
        "such as lora",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_checkpoint_that_is_not_whole_is_refused_and_nothing_is_left(
    released: Path, tmp_path: Path, how: str
) -> None:
    make, why = BROKEN[how]
    result = converted(released, tmp_path / "b", transformer=make(tmp_path))
    assert isinstance(result.exception, CheckpointError), result.output
    assert re.search(why, str(result.exception)), str(result.exception)
    assert {path.name for path in tmp_path.iterdir()} <= {"broken.pth"}


def test_without_sizes_only_the_released_model_is_taken(released: Path) -> None:
    with pytest.raises(CheckpointError, match="not the released checkpoint"):
        converting.read_transformer(released / "dit.pth")
    with pytest.raises(SanaGatewayError, match="not the one that the released model"):
        converting.read_prefix(released / "recipe.yaml", released=True)


def test_sizes_that_contradict_the_checkpoint_are_refused(released: Path, tmp_path: Path) -> None:
    for wrong in ('{"num_heads": 2, "depth": 5}', '{"num_heads": 2, "colour": 1}', "[", "3"):
        (tmp_path / "sizes.json").write_text(wrong)
        result = converted(released, tmp_path / "b", config=tmp_path / "sizes.json")
        assert isinstance(result.exception, CheckpointError), wrong


@pytest.mark.parametrize(
    ("text", "wanted"), [("Do so.\nUser Prompt: \n", "Do so.\nUser Prompt: "), ("Do so", "Do so")]
)
def test_an_instruction_in_a_text_file_is_taken_as_it_is(
    tmp_path: Path, text: str, wanted: str
) -> None:
    path = tmp_path / "prefix.txt"
    path.write_text(text)
    assert converting.read_prefix(path, released=False) == wanted


def test_other_parts_that_are_broken_are_named(released: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for part in ("vae", "text-encoder"):
        result = converted(released, tmp_path / "b", **{part: tmp_path / "empty"})
        assert isinstance(result.exception, bundle_files.BundleError)
        assert "config.json is missing" in str(result.exception)
    result = converted(released, tmp_path / "b", prefix=released / "sizes.json")
    assert result.exit_code == 0
    result = converted(released, tmp_path / "c", prefix=tmp_path / "none.yaml")
    assert "holds no instruction" in str(result.exception)


def test_tiny_makes_a_bundle_for_pictures_of_the_usual_size(tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    result = run("tiny", out, "--seed", 3, "--decoder", "windowed", "--frame-rate", 16)
    assert result.exit_code == 0, result.output
    assert "1280x704 pixels (22x40 latents) at 16 frames" in result.output
    description = bundle_files.describe(out)
    assert (description.grid, description.decoder) == ((22, 40), "windowed")
    again = run("tiny", out)
    assert "--force" in str(again.exception)
    assert run("tiny", out, "--force", "--grid", "4x6").exit_code == 0
    assert bundle_files.describe(out).grid == (4, 6)


def test_verify_finds_a_flipped_bit(tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    assert run("tiny", out, "--grid", "4x6").exit_code == 0
    assert run("verify", out).exit_code == 0
    path = out / "vae/diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    result = run("verify", out)
    assert isinstance(result.exception, bundle_files.BundleError)
    assert "is damaged" in str(result.exception)


@pytest.mark.parametrize(
    "words",
    [
        ("tiny", "x", "--grid", "22"),
        ("tiny", "x", "--grid", "1x40"),
        ("tiny", "x", "--decoder", "both"),
        ("verify", "none"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(run(*words).exception, SanaGatewayError)
    assert [*tmp_path.iterdir()] == []


def test_without_the_extra_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    result = run("tiny", tmp_path / "x")
    assert isinstance(result.exception, ConfigurationError)
    assert "sana-gateway[sana]" in str(result.exception)
    assert run("--help").exit_code == 0


def test_the_command_line_loads_no_torch() -> None:
    code = (
        "import sys; from gateway.cli import build; build(); "
        "from model_actor.models.sana_streaming import weights_command; "
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
