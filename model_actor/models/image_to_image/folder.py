"""A folder of weights as diffusers writes it: what it holds, and whether it is of use. No torch.

* `model_index.json`: which class each part is of
* `unet/`, `vae/`: configuration and weights, diffusers' layout
* `text_encoder/`: the same, transformers' layout
* `tokenizer/`: words and merges
* `scheduler/`: the noise that the model was trained with

Other parts, such as a safety checker, are not read.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scheduler.core.errors import PluginError

NEEDED: Final = ("torch", "diffusers", "transformers", "safetensors")
"""Packages of the extra `sana`, which this model shares."""
NO_TORCH: Final = (
    "the model image-to-image needs torch, diffusers and transformers: "
    "pip install 'sana-gateway[sana]'"
)
INDEX: Final = "model_index.json"
UNET: Final = "unet"
VAE: Final = "vae"
TEXT_ENCODER: Final = "text_encoder"
TOKENIZER: Final = "tokenizer"
SCHEDULER: Final = "scheduler"
KINDS: Final[dict[str, tuple[str, ...]]] = {
    UNET: ("UNet2DConditionModel",),
    VAE: ("AutoencoderKL", "AutoencoderTiny"),
    TEXT_ENCODER: ("CLIPTextModel",),
    TOKENIZER: ("CLIPTokenizer", "CLIPTokenizerFast"),
    SCHEDULER: ("LCMScheduler", "EulerDiscreteScheduler"),
}
"""The parts that are needed, and the classes that each may be of."""
CHANNELS: Final = 4
"""Of a latent."""
_STEMS: Final = {UNET: "diffusion_pytorch_model", VAE: "diffusion_pytorch_model"}
_CONFIG: Final = "config.json"
_SCHEDULER_CONFIG: Final = "scheduler_config.json"
_HEADER: Final = struct.Struct("<Q")
_PICKLES: Final = ("*.bin", "*.ckpt", "*.pt", "*.pth")
_OTHER_MODELS: Final = ("text_encoder_2", "image_encoder", "transformer", "prior")
"""Parts that tell of a model of another kind."""


class FolderError(PluginError):
    """A folder of weights is missing, damaged, or of a model of another kind."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The files of one part."""

    files: tuple[Path, ...]
    variant: str | None
    """`fp16` where there are only weights of that precision; None: the usual ones."""
    numbers: int
    """Parameters in them."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a folder holds."""

    folder: Path
    vae: Path
    """The folder of the autoencoder, which may lie elsewhere."""
    vae_kind: str
    scheduler_kind: str
    cell: int
    """Pixels of a latent, either way."""
    unit: int
    """Width and height of pictures are multiples of it."""
    unet: Weights
    autoencoder: Weights
    text_encoder: Weights

    @property
    def parameters(self) -> int:
        """Of all parts."""
        return self.unet.numbers + self.autoencoder.numbers + self.text_encoder.numbers


def describe(folder: Path, vae: Path | None = None) -> Description:
    """Reads what a folder holds: configurations, and the headers of its weights.

    Args:
        folder: As diffusers writes it.
        vae: Another autoencoder instead of its own.

    Raises:
        FolderError: Something is missing or damaged, or is no use here.
    """
    if not folder.is_dir():
        raise FolderError(f"there is no folder {folder}")
    kinds = _kinds(folder)
    vae_folder = folder / VAE if vae is None else vae
    vae_config = read_json(vae_folder / _CONFIG)
    vae_kind = kinds[VAE] if vae is None else str(vae_config.get("_class_name"))
    _check_kind(VAE, vae_kind)
    unet_config, text_config = (read_json(folder / each / _CONFIG) for each in (UNET, TEXT_ENCODER))
    read_json(folder / SCHEDULER / _SCHEDULER_CONFIG)
    _check_unet(unet_config)
    _check_fit(unet_config, vae_config, text_config)
    cell = 2 ** (len(_blocks(vae_config, vae_kind)) - 1)
    return Description(
        folder=folder,
        vae=vae_folder,
        vae_kind=vae_kind,
        scheduler_kind=kinds[SCHEDULER],
        cell=cell,
        unit=cell * 2 ** (len(unet_config.get("block_out_channels", (320,) * 4)) - 1),
        unet=weights_of(folder / UNET, _STEMS[UNET]),
        autoencoder=weights_of(vae_folder, _STEMS[VAE]),
        text_encoder=weights_of(folder / TEXT_ENCODER, "model"),
    )


def weights_of(folder: Path, stem: str) -> Weights:
    """Returns the files of weights of one part: the usual ones, or else those in half precision.

    Args:
        folder: Of the part.
        stem: What their names begin with.

    Raises:
        FolderError: There are none, not all of them, or only ones that may hold code.
    """
    for variant in (None, "fp16"):
        marked = f".{variant}" if variant else ""
        one = folder / f"{stem}{marked}.safetensors"
        index = folder / f"{stem}.safetensors.index{marked}.json"
        if one.is_file():
            return Weights((one,), variant, _numbers([one]))
        if index.is_file():
            listed = read_json(index).get("weight_map")
            if not isinstance(listed, dict):
                raise FolderError(f"{index} is not understood")
            files = tuple(sorted({folder / Path(str(name)).name for name in listed.values()}))
            return Weights(files, variant, _numbers(files))
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        raise FolderError(
            f"{folder} holds weights that may run code when they are read: save them as "
            "safetensors (`pipeline.save_pretrained(..., safe_serialization=True)`)"
        )
    raise FolderError(f"{folder} holds no {stem}.safetensors")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file of JSON that holds an object.

    Raises:
        FolderError: It is missing, or another thing.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FolderError(f"{path} is missing") from None
    except (OSError, ValueError):
        read = None
    if not isinstance(read, dict):
        raise FolderError(f"{path} is not understood")
    return read


def _kinds(folder: Path) -> dict[str, str]:
    """Returns the class of each part that is needed."""
    index = read_json(folder / INDEX)
    if other := [part for part in _OTHER_MODELS if index.get(part, (None,))[0]]:
        raise FolderError(
            f"{folder} is a {index.get('_class_name')}: with {other[0]}, it is of another kind "
            "than Stable Diffusion 1, 2 and what was distilled from them"
        )
    kinds = {}
    for part in KINDS:
        entry = index.get(part)
        if not (isinstance(entry, list) and len(entry) == 2 and entry[1]):
            raise FolderError(f"{folder / INDEX} names no {part}")
        kinds[part] = str(entry[1])
        _check_kind(part, kinds[part])
    return kinds


def _check_kind(part: str, kind: str) -> None:
    if kind not in KINDS[part]:
        why = ": few steps need a model distilled for them" if part == SCHEDULER else ""
        raise FolderError(f"the {part} is a {kind}, and not {' or '.join(KINDS[part])}{why}")


def _check_unet(config: dict[str, Any]) -> None:
    if (channels := config.get("in_channels", CHANNELS)) != CHANNELS:
        raise FolderError(
            f"the unet takes {channels} channels, not {CHANNELS}: it is made for masks or for "
            "pairs of pictures"
        )
    for field in ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type"):
        if config.get(field):
            raise FolderError(f"the unet wants more than a prompt ({field})")


def _check_fit(unet: dict[str, Any], vae: dict[str, Any], text: dict[str, Any]) -> None:
    if (channels := vae.get("latent_channels", CHANNELS)) != CHANNELS:
        raise FolderError(f"the vae makes latents of {channels} channels, not {CHANNELS}")
    wanted, has = unet.get("cross_attention_dim", 1280), text.get("hidden_size", 512)
    if wanted != has:
        raise FolderError(
            f"the unet reads prompts of {wanted} channels, the text encoder makes {has}"
        )


def _blocks(config: dict[str, Any], kind: str) -> tuple[int, ...]:
    tiny = kind == "AutoencoderTiny"
    usual = (64,) * 4 if tiny else (64,)
    return tuple(config.get("encoder_block_out_channels" if tiny else "block_out_channels", usual))


def _numbers(files: Iterable[Path]) -> int:
    """Counts the parameters in files of safetensors, by their headers.

    Source: https://github.com/huggingface/safetensors, "Format".
    """
    return sum(_counted(path) for path in files)


def _counted(path: Path) -> int:
    try:
        with path.open("rb") as file:
            (length,) = _HEADER.unpack(file.read(_HEADER.size))
            size = path.stat().st_size
            told = json.loads(file.read(min(length, size)))
        tensors = [each for name, each in told.items() if name != "__metadata__"]
        end = max(each["data_offsets"][1] for each in tensors)
        numbers = sum(math.prod(each["shape"]) for each in tensors)
    except FileNotFoundError:
        raise FolderError(f"{path} is missing: the weights are not whole") from None
    except (OSError, ValueError, struct.error, TypeError, KeyError, AttributeError):
        raise FolderError(f"{path} is truncated, or no safetensors") from None
    if size != _HEADER.size + length + end:
        raise FolderError(f"{path} is truncated")
    return numbers
