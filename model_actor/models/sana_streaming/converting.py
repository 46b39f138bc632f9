"""From the released files to a bundle.

The checkpoint of the transformer is a pickle: it is read with `weights_only`, so that nothing in
it runs. What the released model is made of is known, so a checkpoint that is not whole, or of
another size, is refused unless a configuration says so.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from model_actor.models.sana_streaming import bundle, weights
from model_actor.models.sana_streaming.bundle_files import BundleError, Description
from model_actor.models.sana_streaming.checkpoint import CheckpointError, renamed, unwrapped
from model_actor.models.sana_streaming.transformer import SanaStreamingTransformer

RELEASED_TENSORS: Final = 588
"""Of the checkpoint, what only training uses included."""
RELEASED_PARAMETERS: Final = 2_259_529_648
"""In those of its tensors that are parameters."""
RELEASED_PREFIX: Final = "c942097458cb2fb6287b081031b1ed255f4fdad93db204675f514078e36c55da"
"""SHA-256 of the instruction that the released model was trained with."""
DTYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_NULL_PROMPT: Final = "y_embedder.y_embedding"
_BUFFERS: Final = ("pos_embed", _NULL_PROMPT)
"""Tensors of a checkpoint that are no parameters."""
DEFAULT_TOKENS: Final = 300
"""Of a prompt, where the checkpoint does not tell."""
_BLOCK: Final = re.compile(r"blocks\.(\d+)\.attn\.q\.weight")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The released files, each where the operator has put it."""

    transformer: Path
    """The checkpoint, `.pth`."""
    vae: Path
    """Folder of diffusers' layout, with a causal decoder or the original one."""
    text_encoder: Path
    """Folder of Gemma-2, its tokenizer beside it."""
    prefix: Path
    """The recipe's YAML file that holds the instruction, or a text file of it alone."""
    config: Path | None = None
    """Sizes of a model that is not the released one."""


def convert(
    sources: Sources,
    out: Path,
    *,
    size: tuple[int, int] = (1280, 704),
    frame_rate: float = 24.0,
    licences: Sequence[str] = (),
    dtype: torch.dtype = torch.bfloat16,
    progress: Callable[[str], None] = lambda _: None,
) -> Description:
    """Writes a bundle without its manifest.

    Args:
        sources: The released files.
        out: An empty folder.
        size: Width and height of pictures.
        frame_rate: Frames per second.
        licences: Names of those that were accepted.
        dtype: Of all weights.
        progress: Told of each step before it is taken.

    Raises:
        CheckpointError: The transformer's files are not what they should be.
        BundleError: Those of another part are not.
    """
    prefix = read_prefix(sources.prefix, released=sources.config is None)
    config = None if sources.config is None else read_config(sources.config)
    progress("reading the transformer")
    transformer, tokens = read_transformer(sources.transformer, config, dtype)
    progress("reading the autoencoder")
    vae = weights.load_vae(sources.vae, dtype=dtype)
    progress("reading the text encoder")
    text_encoder = weights.load_text_encoder(sources.text_encoder, dtype=dtype)
    tokenizer = weights.load_tokenizer(sources.text_encoder)
    description = Description(
        decoder="causal" if vae.is_causal else "windowed",
        prefix=prefix,
        prompt_tokens=tokens,
        width=size[0],
        height=size[1],
        frame_rate=frame_rate,
        licences=tuple(licences),
    )

    def writing(part: str) -> None:
        progress(f"writing {part}")

    bundle.save(out, description, transformer, vae.vae, text_encoder, tokenizer, writing)
    return description


def read_transformer(
    path: Path, config: Mapping[str, Any] | None = None, dtype: torch.dtype | None = None
) -> tuple[SanaStreamingTransformer, int]:
    """Reads a checkpoint of the transformer.

    Args:
        path: `.pth`, or `.safetensors` with the same names.
        config: Sizes of a model that is not the released one, as `SanaStreamingTransformer`
            takes them; what is left out follows from the tensors. None: the released model.
        dtype: Of the result; None: as stored.

    Returns:
        The model, and the tokens of a prompt that it was trained with.

    Raises:
        CheckpointError: It is not one of this model, or not whole.
    """
    tensors = unwrapped(read_tensors(path))
    found = sizes(tensors)
    if config is None:
        check_released(tensors, found)
    try:
        with weights.META:
            model = SanaStreamingTransformer(**{**found, **(config or {})})
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"these sizes make no model: {error}") from None
    ours = {key: weights.converted(each, dtype) for key, each in renamed(tensors).items()}
    try:
        shapes = {key: tuple(each.shape) for key, each in ours.items()}
        weights.compare(path, model.state_dict(), shapes)
    except BundleError as error:
        raise CheckpointError(str(error)) from None
    model.load_state_dict(ours, strict=True, assign=True)
    null_prompt = tensors.get(_NULL_PROMPT)
    return model.eval(), DEFAULT_TOKENS if null_prompt is None else null_prompt.shape[0]


def read_tensors(path: Path) -> Mapping[str, Any]:
    """Reads a file of tensors; nothing in it is run.

    Raises:
        CheckpointError: It is missing, truncated, or holds more than tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not read: it is no file of tensors, or holds code beside them"
        ) from error
    except Exception as error:
        # torch has no error of its own for a broken file.
        raise CheckpointError(
            f"{path} cannot be read: truncated or of another kind ({type(error).__name__})"
        ) from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{path} holds no tensors by name")
    return loaded


def sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the sizes that the tensors of a checkpoint tell.

    The heads of the attention to the prompt are not among them: no shape depends on them.

    Raises:
        CheckpointError: A tensor that tells one is missing or is shaped as none is.
    """
    blocks = sorted(int(found[1]) for key in tensors if (found := _BLOCK.fullmatch(key)))
    softmax = [each for each in blocks if f"blocks.{each}.attn.A_log" not in tensors]
    try:
        hidden, inputs = tensors["x_embedder.proj.weight"].shape[:2]
        latent = tensors["final_layer.linear.weight"].shape[0]
        caption = tensors["y_embedder.y_proj.fc1.weight"].shape[1]
        inside = tensors["blocks.0.mlp.point_conv.conv.weight"].shape[1]
        heads = next(
            tensors[f"blocks.{each}.attn.A_log"].shape[0] for each in blocks if each not in softmax
        )
        return {
            "depth": blocks[-1] + 1,
            "hidden_size": hidden,
            "linear_head_dim": hidden // heads,
            "latent_channels": latent,
            "source_channels": inputs - latent,
            "caption_channels": caption,
            "mlp_ratio": _ratio(inside, hidden),
            "softmax_blocks": softmax,
        }
    except (KeyError, IndexError, ValueError, StopIteration, ZeroDivisionError) as error:
        raise CheckpointError(
            f"not a checkpoint of SANA-Streaming, or not whole: {error}"
        ) from None


def _ratio(inside: int, hidden: int) -> float:
    """Returns the ratio of which `hidden` times, cut to a whole number, is `inside`."""
    ratio = inside / hidden
    return ratio if int(hidden * ratio) == inside else math.nextafter(ratio, math.inf)


def check_released(tensors: Mapping[str, Tensor], found: Mapping[str, Any]) -> None:
    """Checks that a checkpoint has the size of the released one.

    Raises:
        CheckpointError: It has not.
    """
    parameters = parameters_of(tensors)
    if (len(tensors), parameters) != (RELEASED_TENSORS, RELEASED_PARAMETERS):
        raise CheckpointError(
            f"{len(tensors)} tensors with {parameters:,} parameters instead of "
            f"{RELEASED_TENSORS} with {RELEASED_PARAMETERS:,}: not the released checkpoint, or not "
            f"whole (depth {found['depth']}, width {found['hidden_size']}); a model of another "
            "size needs --config"
        )


def read_prefix(path: Path, *, released: bool) -> str:
    """Reads the instruction that is put before prompts.

    Args:
        path: The recipe in YAML, where it is the list `text_encoder.chi_prompt`, or a text file.
        released: Whether it has to be that of the released model.

    Raises:
        BundleError: It cannot be read, or is another one.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in {".yaml", ".yml"}:
            text = "\n".join(yaml.safe_load(text)["text_encoder"]["chi_prompt"])
        else:
            text = text.removesuffix("\n")
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        raise BundleError(
            f"{path} holds no instruction: it is the recipe's YAML file with the list "
            "text_encoder.chi_prompt, or a text file"
        ) from None
    if released and hashlib.sha256(text.encode()).hexdigest() != RELEASED_PREFIX:
        raise BundleError(
            f"the instruction in {path} is not the one that the released model was trained with: "
            "take the recipe's YAML file"
        )
    return text


def parameters_of(tensors: Mapping[str, Tensor]) -> int:
    """Counts the parameters of a checkpoint."""
    return sum(each.numel() for key, each in tensors.items() if key not in _BUFFERS)


def read_config(path: Path) -> dict[str, Any]:
    """Reads the sizes of a model that is not the released one, JSON or YAML.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        raise CheckpointError(f"{path} cannot be read: sizes are JSON or YAML") from None
    if not isinstance(read, dict):
        raise CheckpointError(f"{path} is not understood: it names no sizes")
    return {str(key): value for key, value in read.items() if not str(key).startswith("_")}
