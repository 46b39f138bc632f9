"""Bundles: what is written is what is loaded, and what is broken is named."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_actor.models.sana_streaming import bundle, bundle_files, tiny, weights
from model_actor.models.sana_streaming.bundle_files import BundleError
from model_actor.models.sana_streaming.streaming_vae import ConvState, StreamingVae
from scheduler.core.errors import PluginError
from tests.unit.model_actor.sana_streaming.conftest import GRID

pytestmark = pytest.mark.unit

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(bundle_folder: Path, tmp_path: Path) -> Path:
    """A bundle to be broken."""
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))


def changed(path: Path, change: Callable[[Any], object]) -> None:
    """Changes a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_bundle_holds_what_it_says(bundle_folder: Path, parts: bundle.Parts) -> None:
    assert sorted(path.name for path in bundle_folder.iterdir()) == sorted(
        ["config.json", "manifest.json", *bundle_files.PARTS]
    )
    assert parts.description == bundle_files.describe(bundle_folder)
    assert parts.description.grid == GRID
    assert (parts.description.height, parts.description.width) == (128, 192)
    assert parts.vae.is_causal
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    assert set(manifest["files"]) == bundle_files.files_of(bundle_folder)
    modes = {(bundle_folder / name).stat().st_mode for name in manifest["files"]}
    assert modes == {(bundle_folder / "config.json").stat().st_mode}
    entry = manifest["files"][TRANSFORMER]
    content = (bundle_folder / TRANSFORMER).read_bytes()
    assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_loaded_weights_are_the_written_ones_in_the_wished_precision(
    bundle_folder: Path, parts: bundle.Parts
) -> None:
    written = load_file(bundle_folder / TRANSFORMER)
    loaded = parts.transformer.state_dict()
    assert written.keys() == loaded.keys()
    assert all(torch.equal(written[name], loaded[name]) for name in written)
    half = bundle.load(bundle_folder, "cpu", torch.bfloat16)
    assert {half.transformer.dtype, half.vae.dtype, half.text.model.dtype} == {torch.bfloat16}
    assert not any(each.requires_grad for each in half.transformer.parameters())
    assert half.text.encode("x").hidden.dtype is torch.bfloat16


def test_a_tiny_bundle_follows_from_its_seed(bundle_folder: Path, tmp_path: Path) -> None:
    for name, seed in (("same", 0), ("other", 1)):
        tiny.make(tmp_path / name, grid=GRID, seed=seed)
    content = (bundle_folder / TRANSFORMER).read_bytes()
    assert (tmp_path / "same" / TRANSFORMER).read_bytes() == content
    assert (tmp_path / "other" / TRANSFORMER).read_bytes() != content
    vae = "vae/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "same" / vae).read_bytes() == (bundle_folder / vae).read_bytes()


@torch.no_grad()
def test_a_tiny_model_has_no_idle_weights_and_reasonable_signals(parts: bundle.Parts) -> None:
    for model in (parts.transformer, parts.vae.vae, parts.text.model):
        idle = [name for name, each in model.named_parameters() if each.std() == 0]
        assert idle == []
    noise = torch.randn(1, 8, 5, *GRID, generator=torch.Generator().manual_seed(0))
    pixels, _ = parts.vae.decode(noise, ConvState())
    assert 0.2 < pixels.std() < 1
    latents, _ = parts.vae.encode(pixels.clamp(-1, 1), ConvState())
    assert 0.3 < latents.std() < 5


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), r"manifest\.json is missing"),
    "no part": (lambda f: shutil.rmtree(f / "vae"), r"vae/.* is missing: the bundle is not whole"),
    "no weights": (lambda f: (f / TRANSFORMER).unlink(), "is missing: the bundle is not whole"),
    "truncated": (
        lambda f: (f / TRANSFORMER).write_bytes((f / TRANSFORMER).read_bytes()[:-100]),
        r"bytes instead of \d+: it is truncated",
    ),
    "changed": (
        lambda f: (f / TRANSFORMER).write_bytes((f / TRANSFORMER).read_bytes()[:-1] + b"x"),
        "is damaged: its SHA-256",
    ),
    "more than listed": (
        lambda f: (f / "tokenizer/added.json").write_text("{}"),
        r"added\.json is no part of the bundle",
    ),
    "no JSON": (lambda f: (f / "manifest.json").write_text("{"), "it is no JSON file"),
    "another list": (
        lambda f: (f / "manifest.json").write_text('{"files": {"../x": {"size": 1}}}'),
        "is not understood",
    ),
    "a part not listed": (
        lambda f: changed(
            f / "manifest.json",
            lambda c: [c["files"].pop(k) for k in [*c["files"]] if k.startswith("vae/")],
        ),
        "lists no vae",
    ),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_bundle_is_refused_and_the_cause_is_named(copy: Path, how: str) -> None:
    damage, why = BREAKS[how]
    damage(copy)
    with pytest.raises(BundleError, match=why):
        bundle.load(copy)


def test_a_folder_that_is_not_there_is_refused_and_the_way_to_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="weights convert"):
        bundle.load(tmp_path / "none")


MISFITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another layout": (
        lambda f: changed(f / "config.json", lambda c: c.update(version=9)),
        "layout 9",
    ),
    "another model": (
        lambda f: changed(f / "config.json", lambda c: c.update(format="sdxl")),
        "something else",
    ),
    "an unknown field": (
        lambda f: changed(f / "config.json", lambda c: c.update(shape=1)),
        "not understood",
    ),
    "an odd size": (
        lambda f: changed(f / "config.json", lambda c: c.update(width=100)),
        "multiples of 32",
    ),
    "the other decoder": (
        lambda f: changed(f / "config.json", lambda c: c.update(decoder="windowed")),
        "decoder is `causal`",
    ),
    "a tensor too few": (lambda f: drop(f / TRANSFORMER, "proj_out.bias"), r"lacks proj_out\.bias"),
    "a tensor too many": (lambda f: add(f / TRANSFORMER, "extra"), "has not: extra"),
    "another shape": (
        lambda f: changed(f / "transformer/config.json", lambda c: c.update(caption_channels=16)),
        r"linear_1\.weight is shaped \[48, 32\], not \[48, 16\]",
    ),
    "no safetensors": (
        lambda f: (f / TRANSFORMER).write_bytes(b"x" * 99),
        r"cannot be read: truncated or of another kind \(SafetensorError\)",
    ),
    "text encoder without a layer": (
        lambda f: drop(f / "text_encoder/model.safetensors", "layers.1.mlp.up_proj.weight"),
        r"layers\.1\.mlp\.up_proj\.weight do not fit",
    ),
    "text encoder truncated": (
        lambda f: (f / "text_encoder/model.safetensors").write_bytes(b"x"),
        "cannot be read",
    ),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer"),
    "no configuration": (
        lambda f: (f / "vae/config.json").unlink(),
        r"vae/config\.json is missing",
    ),
}


def drop(path: Path, name: str) -> None:
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path, {"format": "pt"})


def add(path: Path, name: str) -> None:
    save_file({**load_file(path), name: torch.zeros(1)}, path, {"format": "pt"})


@pytest.mark.parametrize("how", MISFITS)
def test_parts_that_do_not_fit_are_refused_though_their_checksums_are_right(
    copy: Path, how: str
) -> None:
    damage, why = MISFITS[how]
    damage(copy)
    with pytest.raises(BundleError, match=why):
        bundle.load(copy, verify=False)


def test_parts_of_different_models_are_refused(parts: bundle.Parts) -> None:
    other = tiny.transformer(torch.Generator(), caption_channels=16)
    vae, text = parts.vae, parts.text
    with pytest.raises(BundleError, match="prompts have 16 channels"):
        bundle.check_fit(parts.description, other, vae, text.model, text.tokenizer)
    other = tiny.transformer(torch.Generator(), source_channels=4)
    with pytest.raises(BundleError, match="source latents have 4 channels"):
        bundle.check_fit(parts.description, other, vae, text.model, text.tokenizer)
    looking = StreamingVae(tiny.vae(torch.Generator(), "windowed"))
    rest = (text.model, text.tokenizer)
    with pytest.raises(BundleError, match="looks ahead"):
        bundle.check_fit(parts.description, parts.transformer, looking, *rest)
    windowed = replace(parts.description, decoder="windowed")
    bundle.check_fit(windowed, parts.transformer, looking, *rest)


def test_all_errors_of_bundles_are_plugin_errors() -> None:
    assert issubclass(BundleError, PluginError)


def test_weights_in_several_files_need_their_index(copy: Path) -> None:
    folder = copy / "transformer"
    tensors = load_file(copy / TRANSFORMER)
    names = sorted(tensors)
    (copy / TRANSFORMER).unlink()
    files = {"a.safetensors": names[:50], "b.safetensors": names[50:]}
    for file, own in files.items():
        save_file({name: tensors[name] for name in own}, folder / file)
    with pytest.raises(BundleError, match="no index"):
        weights.weight_files(folder)
    index = {"weight_map": {name: file for file, own in files.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = bundle.load(copy, verify=False).transformer.state_dict()
    assert all(torch.equal(loaded[name], tensors[name]) for name in names)
    (folder / "b.safetensors").unlink()
    with pytest.raises(BundleError, match=r"b\.safetensors is missing"):
        weights.weight_files(folder)


def test_a_bundle_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def stopped() -> None:
        with bundle_files.making(tmp_path / "bundle", force=False) as fresh:
            (fresh / "config.json").write_text("{}")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert [*tmp_path.iterdir()] == []


def test_only_a_bundle_is_replaced_and_only_if_wished(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="--force"), bundle_files.making(copy, force=False):
        pass
    with pytest.raises(RuntimeError, match="stop"), bundle_files.making(copy, force=True):
        raise RuntimeError("stop")
    bundle_files.verify(copy)
    other = tmp_path / "photographs"
    other.mkdir()
    (other / "one.jpg").touch()
    with pytest.raises(BundleError, match="is no bundle"), bundle_files.making(other, force=True):
        pass
    with bundle_files.making(copy, force=True) as fresh:
        (fresh / "config.json").write_text("new")
    assert [path.name for path in copy.iterdir()] == ["config.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "photographs"]
