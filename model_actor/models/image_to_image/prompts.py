"""Prompts: what the model is told of them, read once for each text."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor

from scheduler.core.prompts import Share

KEPT: Final = 64
"""Prompts that are remembered; 120 kB each for a text encoder of 768 channels, in fp16."""


class Prompts:
    """Reads prompts and remembers them; the one used longest ago makes room."""

    def __init__(self, text_encoder: Any, tokenizer: Any) -> None:  # noqa: ANN401 - not typed
        """Takes the parts: a `CLIPTextModel` and its tokenizer."""
        self._text_encoder = text_encoder
        self._tokenizer = tokenizer
        self._length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
        self._known: OrderedDict[str, Tensor] = OrderedDict()

    @property
    def known(self) -> tuple[str, ...]:
        """The prompts that are remembered, the one used longest ago first."""
        return tuple(self._known)

    def read(self, prompt: str) -> Tensor:
        """Returns the states of a prompt, (1, tokens, channels)."""
        if prompt not in self._known:
            self._known[prompt] = self._states(prompt)
        self._known.move_to_end(prompt)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return self._known[prompt]

    def mixture(self, shares: Iterable[Share]) -> Tensor:
        """Returns the states of prompts, each with its share: all are of the same length."""
        parts = [(self.read(each.prompt), each.share) for each in shares]
        if len(parts) == 1:
            return parts[0][0]
        mixed = sum(share * states.float() for states, share in parts)
        return torch.as_tensor(mixed).to(parts[0][0].dtype)

    @torch.inference_mode()
    def _states(self, prompt: str) -> Tensor:
        read = self._tokenizer(
            prompt,
            padding="max_length",
            max_length=self._length,
            truncation=True,
            return_tensors="pt",
        )
        device = self._text_encoder.device
        # Of the padding too: these models were trained without a mask.
        states: Tensor = self._text_encoder(read["input_ids"].to(device)).last_hidden_state
        return states
