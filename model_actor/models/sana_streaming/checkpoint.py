"""From the names of the released checkpoint to ours.

One table: a pattern of upstream names, ours, and what becomes of the tensor. Every tensor of a
checkpoint has to be in it, and every parameter of the model has to come of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from torch import Tensor

from scheduler.core.errors import PluginError

_CENTRE_TAP: Final = 1
_LEAD: Final = ("model.", "module.")
_WRAPPERS: Final = ("generator", "state_dict")


class CheckpointError(PluginError):
    """A checkpoint is not one of this model, or not whole."""


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _matrix(tensor: Tensor) -> Tensor:
    """Returns a convolution of one tap as a matrix, one of three taps as its middle one: the
    streaming model looks at no other.
    """
    return tensor[..., _CENTRE_TAP] if tensor.shape[-1] > 1 else tensor.flatten(1)


def _flat(tensor: Tensor) -> Tensor:
    """Returns a convolution of one tap as a matrix; a bias as it is."""
    return tensor.flatten(1) if tensor.ndim > 1 else tensor


def _neighbours(tensor: Tensor) -> Tensor:
    """Returns a temporal convolution, (out, in, 3, 1), as a matrix over three frames."""
    return tensor[..., 0].permute(0, 2, 1).flatten(1)


_BLOCK: Final = r"blocks\.(\d+)\."
_TABLE: Final[tuple[tuple[str, str | None, Callable[[Tensor], Tensor]], ...]] = (
    (r"x_embedder\.proj\.(weight|bias)", r"patch_embedding.\1", _flat),
    (r"t_embedder\.mlp\.0\.(\w+)", r"time_embed.linear_1.\1", _as_it_is),
    (r"t_embedder\.mlp\.2\.(\w+)", r"time_embed.linear_2.\1", _as_it_is),
    (r"t_block\.1\.(\w+)", r"time_proj.\1", _as_it_is),
    (r"y_embedder\.y_proj\.fc([12])\.(\w+)", r"caption_projection.linear_\1.\2", _as_it_is),
    (r"attention_y_norm\.weight", r"caption_norm.weight", _as_it_is),
    (_BLOCK + r"attn\.([qk])\.weight", r"blocks.\1.attn1.to_\2.weight", _matrix),
    (_BLOCK + r"attn\.v\.weight", r"blocks.\1.attn1.to_v.weight", _as_it_is),
    (_BLOCK + r"attn\.([qk])_norm\.weight", r"blocks.\1.attn1.norm_\2.weight", _as_it_is),
    (_BLOCK + r"attn\.beta_proj\.(\w+)", r"blocks.\1.attn1.to_beta.\2", _as_it_is),
    (_BLOCK + r"attn\.gate_proj\.(\w+)", r"blocks.\1.attn1.to_decay.\2", _as_it_is),
    (_BLOCK + r"attn\.A_log", r"blocks.\1.attn1.decay_log", _as_it_is),
    (_BLOCK + r"attn\.dt_bias", r"blocks.\1.attn1.decay_bias", _as_it_is),
    (_BLOCK + r"attn\.output_gate\.(\w+)", r"blocks.\1.attn1.to_gate.\2", _as_it_is),
    (_BLOCK + r"attn\.proj\.(\w+)", r"blocks.\1.attn1.to_out.\2", _as_it_is),
    (_BLOCK + r"cross_attn\.q_linear\.(\w+)", r"blocks.\1.attn2.to_q.\2", _as_it_is),
    (_BLOCK + r"cross_attn\.kv_linear\.(\w+)", r"blocks.\1.attn2.to_kv.\2", _as_it_is),
    (_BLOCK + r"cross_attn\.([qk])_norm\.weight", r"blocks.\1.attn2.norm_\2.weight", _as_it_is),
    (_BLOCK + r"cross_attn\.proj\.(\w+)", r"blocks.\1.attn2.to_out.\2", _as_it_is),
    (_BLOCK + r"mlp\.inverted_conv\.conv\.(\w+)", r"blocks.\1.ff.expand.\2", _flat),
    (_BLOCK + r"mlp\.depth_conv\.conv\.(\w+)", r"blocks.\1.ff.spatial.\2", _as_it_is),
    (_BLOCK + r"mlp\.point_conv\.conv\.weight", r"blocks.\1.ff.contract.weight", _flat),
    (_BLOCK + r"mlp\.t_conv\.weight", r"blocks.\1.ff.temporal", _neighbours),
    (_BLOCK + r"scale_shift_table", r"blocks.\1.scale_shift_table", _as_it_is),
    (r"final_layer\.linear\.(\w+)", r"proj_out.\1", _as_it_is),
    (r"final_layer\.scale_shift_table", r"scale_shift_table", _as_it_is),
    # What only training uses: positions that no layer adds, the prompt of no prompt.
    (r"pos_embed", None, _as_it_is),
    (r"y_embedder\.y_embedding", None, _as_it_is),
)
_RULES: Final = tuple((re.compile(pattern), name, change) for pattern, name, change in _TABLE)


def unwrapped(loaded: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint by upstream's names, whatever they lie in.

    Raises:
        CheckpointError: There is something else in it than tensors.
    """
    for wrapper in _WRAPPERS:
        if isinstance(inner := loaded.get(wrapper), Mapping):
            loaded = inner
            break
    tensors = {}
    for key, tensor in loaded.items():
        name = key
        for lead in _LEAD:
            name = name.removeprefix(lead)
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"not a checkpoint of SANA-Streaming: {name} is no tensor")
        tensors[name] = tensor
    return tensors


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the parameters of our model.

    Raises:
        CheckpointError: A tensor is unknown.
    """
    made, unknown = {}, []
    for key, tensor in tensors.items():
        for pattern, name, change in _RULES:
            if match := pattern.fullmatch(key):
                if name is not None:
                    made[match.expand(name)] = change(tensor).contiguous()
                break
        else:
            unknown.append(key)
    if unknown:
        shown = ", ".join(sorted(unknown)[:5])
        raise CheckpointError(f"{len(unknown)} tensors are not of this model, such as {shown}")
    return made
