"""The parts of a folder of weights as models: from files here alone, and from safetensors alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    EulerDiscreteScheduler,
    LCMScheduler,
    UNet2DConditionModel,
)
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from model_actor.models.image_to_image.folder import (
    SCHEDULER,
    TEXT_ENCODER,
    TOKENIZER,
    UNET,
    Description,
    FolderError,
    Weights,
)

_AUTOENCODERS: Final = {each.__name__: each for each in (AutoencoderKL, AutoencoderTiny)}
_SCHEDULERS: Final = {each.__name__: each for each in (LCMScheduler, EulerDiscreteScheduler)}
_FAULTS: Final = ("missing_keys", "mismatched_keys", "unexpected_keys")
_SHOWN: Final = 3
_IGNORED: Final = ("position_ids",)
"""Tensors that old files have, and no model any more."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Loaded models, in eval mode on their device. None of them is typed by its library."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any


def load(description: Description, device: torch.device, dtype: torch.dtype) -> Parts:
    """Loads a folder.

    Raises:
        FolderError: Files do not fit the models that they are said to be of, or are damaged.
    """
    folder, autoencoder = description.folder, _AUTOENCODERS[description.vae_kind]

    def model(kind: Any, path: Path, weights: Weights) -> Any:  # noqa: ANN401
        return _model(kind, path, weights, dtype).to(device)

    return Parts(
        unet=model(UNet2DConditionModel, folder / UNET, description.unet),
        vae=model(autoencoder, description.vae, description.autoencoder),
        text_encoder=model(CLIPTextModel, folder / TEXT_ENCODER, description.text_encoder),
        tokenizer=_other(CLIPTokenizer, folder / TOKENIZER),
        scheduler=_other(_SCHEDULERS[description.scheduler_kind], folder / SCHEDULER),
    )


def _model(kind: Any, folder: Path, weights: Weights, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """Loads a model; every tensor has to be there, and no other.

    What is missing, the libraries would draw at random, and say so in a log.
    """
    with _reading(folder):
        model, report = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            variant=weights.variant,
            dtype=dtype,
            output_loading_info=True,
            **({} if kind is CLIPTextModel else {"low_cpu_mem_usage": False}),
        )
    wrong = [
        str(key)
        for fault in _FAULTS
        for key in report.get(fault, ())
        if not str(key).endswith(_IGNORED)
    ]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise FolderError(
            f"{folder} is no {kind.__name__}: {', '.join(wrong[:_SHOWN])}{more} do not fit"
        )
    return model.eval().requires_grad_(requires_grad=False)


def _other(kind: Any, folder: Path) -> Any:  # noqa: ANN401
    if not folder.is_dir():
        raise FolderError(f"{folder} is missing")
    with _reading(folder):
        return kind.from_pretrained(folder, local_files_only=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries from talking, and from drawing bars of their own."""
    logs = (transformers_logging, diffusers_logging)
    levels = [each.get_verbosity() for each in logs]
    drawing = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    for each in logs:
        each.set_verbosity_error()
    try:
        yield
    finally:
        for each, level in zip(logs, levels, strict=True):
            each.set_verbosity(level)
        if drawing:
            transformers_logging.enable_progress_bar()


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turns what a library says of broken files into our error, and keeps it quiet meanwhile."""
    with quiet():
        try:
            yield
        except FolderError:
            raise
        except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            text = f"{folder} cannot be read: damaged or of another kind ({type(error).__name__})"
            raise FolderError(text) from error
