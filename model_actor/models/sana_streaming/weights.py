"""Models and their weights in folders of diffusers' and transformers' layout.

Nothing is ever downloaded, and nothing read is code: weights are safetensors, the rest is JSON.
Every tensor has to be there and no other: names and shapes are compared before anything is
computed with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKLLTX2Video
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoTokenizer, Gemma2Config, Gemma2Model
from transformers.utils import logging as transformers_logging

from model_actor.models.sana_streaming.bundle_files import BundleError
from model_actor.models.sana_streaming.streaming_vae import StreamingVae
from scheduler.core.errors import PluginError

CPU: Final = torch.device("cpu")
META: Final = torch.device("meta")
_INDEX: Final = "*.safetensors.index.json"
_USUAL: Final = ("diffusion_pytorch_model.safetensors", "model.safetensors")
"""Beside these, files of other precisions may lie."""
_SHOWN: Final = 3


@dataclass(frozen=True)
class Contents:
    """What the files of a model hold."""

    tensors: int
    parameters: int
    dtypes: tuple[str, ...]


def contents(kind: Any, folder: Path) -> Contents:  # noqa: ANN401 - a class of a library
    """Compares the tensors of a folder with those of a model; reads headers alone.

    Raises:
        BundleError: Something is missing, unknown or of another shape.
    """
    with META:
        model = _empty(kind, folder)
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: set[str] = set()
    for path in weight_files(folder):
        with reading(path), safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - no mapping
                piece = file.get_slice(key)
                shapes[key] = tuple(piece.get_shape())
                dtypes.add(str(piece.get_dtype()))
    compare(folder, model.state_dict(), shapes)
    parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
    return Contents(len(shapes), parameters, tuple(sorted(dtypes)))


def load_vae(
    folder: Path, device: torch.device = CPU, dtype: torch.dtype | None = None
) -> StreamingVae:
    """Loads an autoencoder.

    Raises:
        BundleError: Its files do not fit it.
        PluginError: It is not one of LTX-2's.
    """
    return StreamingVae(load_model(AutoencoderKLLTX2Video, folder, device, dtype))


def load_model(
    kind: Any,  # noqa: ANN401 - a class of diffusers'
    folder: Path,
    device: torch.device = CPU,
    dtype: torch.dtype | None = None,
) -> Any:  # noqa: ANN401
    """Loads a model of diffusers' layout, each tensor straight to its device.

    Raises:
        BundleError: Its files do not fit it.
    """
    with META:
        model = _empty(kind, folder)
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        with reading(path), safe_open(path, "pt", device=str(device)) as file:
            for key in file.keys():  # noqa: SIM118 - no mapping
                tensors[key] = converted(file.get_tensor(key), dtype)
    compare(folder, model.state_dict(), {key: tuple(each.shape) for key, each in tensors.items()})
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.eval().requires_grad_(requires_grad=False)


def load_text_encoder(
    folder: Path, device: torch.device = CPU, dtype: torch.dtype | None = None
) -> Any:  # noqa: ANN401 - transformers is not typed
    """Loads a text encoder: a folder of `Gemma2Model` or of a whole Gemma-2.

    Raises:
        BundleError: Its files do not fit it.
    """
    _config_of(Gemma2Config, folder)
    for path in weight_files(folder):
        with reading(path), safe_open(path, "pt"):
            pass
    with reading(folder), quiet():
        model, report = Gemma2Model.from_pretrained(
            folder,
            dtype=dtype or "auto",
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    faults = [
        str(key)
        for kind in ("missing_keys", "mismatched_keys", "unexpected_keys")
        for key in report[kind]
    ]
    if faults:
        raise BundleError(f"{folder} is no Gemma-2: {_some(faults)} do not fit")
    return model.to(device).eval().requires_grad_(requires_grad=False)


def load_tokenizer(folder: Path) -> Any:  # noqa: ANN401 - transformers is not typed
    """Loads a tokenizer.

    Raises:
        BundleError: There is none.
    """
    with reading(folder), quiet():
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)


def converted(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Returns a tensor of another type, where it holds numbers with a point."""
    return tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor


def weight_files(folder: Path) -> list[Path]:
    """Returns the files of weights in a folder: one, or what an index names.

    Raises:
        BundleError: There is none, or not all of them.
    """
    indices = sorted(folder.glob(_INDEX))
    if indices:
        try:
            names = set(json.loads(indices[0].read_text())["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            raise BundleError(f"{indices[0]} is not understood") from None
        files = sorted(folder / Path(name).name for name in names)
    else:
        files = sorted(folder.glob("*.safetensors"))
        usual = [path for path in files if path.name in _USUAL]
        files = usual or files
        if len(files) > 1:
            raise BundleError(f"{folder} holds several files of weights and no index of them")
    if not files:
        raise BundleError(f"{folder} holds no weights (*.safetensors)")
    for path in files:
        if not path.is_file():
            raise BundleError(f"{path} is missing: the weights are not whole")
    return files


def compare(what: Path, wanted: Mapping[str, Tensor], found: Mapping[str, tuple[int, ...]]) -> None:
    """Compares the names and shapes of tensors with those that a model needs.

    Raises:
        BundleError: They differ.
    """
    if missing := sorted(wanted.keys() - found.keys()):
        raise BundleError(f"{what} lacks {_some(missing)}")
    if unknown := sorted(found.keys() - wanted.keys()):
        raise BundleError(f"{what} holds what this model has not: {_some(unknown)}")
    for key in sorted(found):
        if found[key] != (shape := tuple(wanted[key].shape)):
            raise BundleError(f"{what}: {key} is shaped {list(found[key])}, not {list(shape)}")


def _empty(kind: Any, folder: Path) -> Any:  # noqa: ANN401
    """Makes a model from the configuration in a folder."""
    if kind is Gemma2Model:
        return kind(_config_of(Gemma2Config, folder))
    with quiet():
        return kind.from_config(_config_of(kind, folder))


def _config_of(kind: Any, folder: Path) -> Any:  # noqa: ANN401
    path = folder / "config.json"
    if not path.is_file():
        raise BundleError(f"{path} is missing")
    with reading(path):
        if kind is Gemma2Config:
            return kind.from_pretrained(folder, local_files_only=True)
        return kind.load_config(folder, local_files_only=True)


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what a library says of a broken file into our error."""
    try:
        yield
    except PluginError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        kind = type(error).__name__
        text = f"{path} cannot be read: truncated or of another kind ({kind})"
        raise BundleError(text) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps libraries from talking and from drawing bars of their own over ours."""
    talking = [(each, each.get_verbosity()) for each in (transformers_logging, diffusers_logging)]
    drawing = transformers_logging.is_progress_bar_enabled()
    for each, _ in talking:
        each.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        for each, level in talking:
            each.set_verbosity(level)
        if drawing:
            transformers_logging.enable_progress_bar()
