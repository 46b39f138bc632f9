"""Prompts: what the transformer is told of them.

An instruction is put before every prompt, the text encoder reads both, and of its hidden states
the first one and the last `tokens - 1` are kept: the instruction shapes them and is not looked
at itself. Prompts are encoded when they arrive and remembered, so that a window never waits.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

KEPT: Final = 64
"""Prompts that are remembered; 1.4 MB each as released, in bfloat16."""


class Prompt(NamedTuple):
    """What the transformer is told."""

    hidden: Tensor
    """(1, tokens, caption channels)."""
    mask: Tensor
    """How much a token counts, (1, tokens): 1 or 0, and in a mixture what lies between."""


def selected(states: Tensor, tokens: int) -> Tensor:
    """Returns the first of some states and the last ones, `tokens` in all, along dimension 1."""
    return torch.cat((states[:, :1], states[:, states.shape[1] - tokens + 1 :]), dim=1)


def mixed(parts: Sequence[tuple[Prompt, float]]) -> Prompt:
    """Returns a mixture of prompts, each with its share; the shares make 1.

    Prompts differ in length, so states and masks are interpolated together. A prompt of `n`
    tokens spreads its share over them: position `i` says what the prompts say that have a token
    there, `h_i = sum_p c_pi h_pi / c_i` with `c_pi = w_p m_pi / n_p` and `c_i = sum_p c_pi`, and
    counts as `c_i`, scaled to 1 at the most. The transformer adds the logarithm of that to the
    scores of a token, so attention that likes all words alike gives each prompt its share, however
    long it is. Of prompts of one length this is the plain interpolation of their states; a share
    of 1 is that prompt itself; and padding of a short prompt is never mixed into the words of a
    long one.
    """
    if len(parts) == 1:
        return parts[0][0]
    masks = torch.cat([prompt.mask.float() for prompt, _ in parts])
    shares = torch.tensor([share for _, share in parts], device=masks.device)
    counts = shares[:, None] * masks / masks.sum(1, keepdim=True)
    states = torch.cat([prompt.hidden for prompt, _ in parts])
    total = counts.sum(0, keepdim=True)
    inside = counts / total.clamp(min=torch.finfo(total.dtype).tiny)
    hidden = (inside[:, :, None] * states.float()).sum(0, keepdim=True)
    return Prompt(hidden.to(states.dtype), total / total.max())


class PromptEncoder:
    """Encodes prompts. Any thread may call it."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - transformers is not typed
        tokenizer: Any,  # noqa: ANN401
        prefix: str,
        tokens: int,
        *,
        kept: int = KEPT,
    ) -> None:
        """Takes the parts.

        Args:
            model: A `Gemma2Model`.
            tokenizer: Its tokenizer.
            prefix: The instruction that is put before a prompt.
            tokens: Hidden states that the transformer sees of a prompt.
            kept: Prompts that are remembered; the one used longest ago makes room.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.tokens = tokens
        self._prefix = prefix
        # The width of all inputs: the first state of the instruction lies outside the kept ones.
        self._width = len(tokenizer(prefix)["input_ids"]) + tokens - 2
        self._known: OrderedDict[str, Prompt] = OrderedDict()
        self._kept = kept
        self._lock = threading.Lock()

    @property
    def remembered(self) -> int:
        """Prompts whose states are there."""
        return len(self._known)

    def encode(self, prompt: str) -> Prompt:
        """Encodes a prompt; white space around it is no part of it, its case is.

        Takes some milliseconds the first time, on the device of the model. One that is too long
        is cut.
        """
        text = prompt.strip()
        with self._lock:
            if (known := self._known.pop(text, None)) is None:
                known = self._encoded(text)
            self._known[text] = known
            if len(self._known) > self._kept:
                self._known.popitem(last=False)
            return known

    def mixture(self, shares: Iterable[tuple[str, float]]) -> Prompt:
        """Returns a mixture of prompts by text, each with its share; see `mixed`."""
        return mixed([(self.encode(prompt), share) for prompt, share in shares])

    @torch.no_grad()
    def states(self, input_ids: Tensor, mask: Tensor) -> Prompt:
        """Reads tokens of one width, padded on the right, and selects."""
        hidden = self.model(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return Prompt(selected(hidden, self.tokens), selected(mask, self.tokens))

    def _encoded(self, text: str) -> Prompt:
        read = self.tokenizer(
            self._prefix + text,
            padding="max_length",
            padding_side="right",
            max_length=self._width,
            truncation=True,
            return_tensors="pt",
        )
        device = self.model.device
        return self.states(read["input_ids"].to(device), read["attention_mask"].to(device))
