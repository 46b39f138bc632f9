"""The text encoder and the selection of its states against the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor
from transformers import Gemma2Config, Gemma2Model

from model_actor.models.sana_streaming.text import selected
from tests.oracle.checks import TEXT, Part
from tests.oracle.folder import Folder

NAME: Final = "text"
HEAD: Final = 8
"""Channels of a head, which no shape tells."""


def check(folder: Folder) -> Part:
    """Compares the text encoder of a folder."""
    part, io, config = Part(NAME), folder.io(NAME), folder.config[NAME]
    weights = folder.weights(NAME)
    model = Gemma2Model(sizes(weights, config)).eval()
    model.load_state_dict(weights, strict=True)
    with torch.no_grad():
        mask = io["attention_mask"]
        hidden = model(input_ids=io["input_ids"], attention_mask=mask).last_hidden_state
    limit = config["limit"]
    part.equal("width of inputs", config["prefix_len"] + limit - 2, io["input_ids"].shape[1])
    for name in part.found(io, "hidden"):
        part.compare(name, hidden, io[name], TEXT)
    for name in part.found(io, "selected"):
        part.compare(name, selected(hidden, limit), io[name], TEXT)
    for name in part.found(io, "selected_mask"):
        part.compare(name, selected(mask, limit), io[name], 0.0)
    return part


def sizes(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> Gemma2Config:
    """Returns the configuration that weights tell, and what the folder's says beside."""
    vocabulary, hidden = weights["embed_tokens.weight"].shape
    layer = "layers.0"
    head = int(config.get("head_dim", HEAD))
    told = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": weights[f"{layer}.mlp.gate_proj.weight"].shape[0],
        "num_hidden_layers": sum(key.endswith("self_attn.q_proj.weight") for key in weights),
        "num_attention_heads": weights[f"{layer}.self_attn.q_proj.weight"].shape[0] // head,
        "num_key_value_heads": weights[f"{layer}.self_attn.k_proj.weight"].shape[0] // head,
        "head_dim": head,
    }
    return Gemma2Config(**told)
