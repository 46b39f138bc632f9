"""Prompts: what is put before them, what is kept of them, and for how long."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model_actor.models.sana_streaming import bundle, tiny
from model_actor.models.sana_streaming.text import PromptEncoder, selected
from tests.unit.model_actor.sana_streaming.conftest import ORACLE

pytestmark = pytest.mark.unit

TOKENS = 24


class Recorder(nn.Module):
    """Stands where the text encoder does, and answers with the numbers of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.device = torch.device("cpu")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        self.seen.append((input_ids, attention_mask))

        class Answer:
            last_hidden_state = input_ids[..., None].float()

        return Answer()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer()


def encoder(tokenizer: Any, **options: int) -> tuple[PromptEncoder, Recorder]:
    recorder = Recorder()
    return PromptEncoder(recorder, tokenizer, tiny.PREFIX, TOKENS, **options), recorder


def test_selecting_agrees_with_the_oracle() -> None:
    io = load_file(ORACLE / "text_io.safetensors")
    tokens = io["selected"].shape[1]
    assert torch.equal(selected(io["attention_mask"], tokens), io["selected_mask"])
    assert torch.equal(selected(io["hidden"], tokens), io["selected"])


def test_the_instruction_stands_before_the_prompt_and_the_rest_is_padding(tokenizer: Any) -> None:
    made, recorder = encoder(tokenizer)
    prompt = made.encode("A Sea")
    ((ids, mask),) = recorder.seen
    wanted = tokenizer(f"{tiny.PREFIX}A Sea")["input_ids"]
    begin = len(tokenizer(tiny.PREFIX)["input_ids"])
    assert ids[0, : len(wanted)].tolist() == wanted
    assert (ids[0, len(wanted) :] == tokenizer.pad_token_id).all()
    assert mask[0].tolist() == [1] * len(wanted) + [0] * (ids.shape[1] - len(wanted))
    assert ids.shape[1] == begin + TOKENS - 2
    # The very first state, and the last ones: those of the prompt are among them.
    assert prompt.hidden[0, :, 0].tolist() == [ids[0, 0], *ids[0, 1 - TOKENS :]]
    assert prompt.mask[0].tolist() == [1, *mask[0, 1 - TOKENS :].tolist()]
    assert prompt.hidden.shape == (1, TOKENS, 1)


def test_case_counts_and_white_space_around_does_not(tokenizer: Any) -> None:
    made, recorder = encoder(tokenizer)
    one, same, other = (made.encode(each) for each in ("A Sea", "  A Sea\n", "a sea"))
    assert same is one
    assert len(recorder.seen) == 2
    assert not torch.equal(one.hidden, other.hidden)


def test_a_prompt_that_is_too_long_is_cut(tokenizer: Any) -> None:
    made, recorder = encoder(tokenizer)
    made.encode("wave " * 200)
    ids, mask = recorder.seen[0]
    assert ids.shape[1] == len(tokenizer(tiny.PREFIX)["input_ids"]) + TOKENS - 2
    assert mask.all()


def test_an_empty_prompt_is_the_instruction_alone(tokenizer: Any) -> None:
    made, recorder = encoder(tokenizer)
    made.encode(" ")
    assert recorder.seen[0][1].sum() == len(tokenizer(tiny.PREFIX)["input_ids"])


def test_the_prompt_used_longest_ago_makes_room(tokenizer: Any) -> None:
    made, recorder = encoder(tokenizer, kept=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        made.encode(text)
    assert [tokenizer.decode(ids[0, mask[0] == 1])[-1] for ids, mask in recorder.seen] == [*"abcb"]
    assert made.remembered == 2


def test_prompts_make_states_that_differ(parts: bundle.Parts) -> None:
    one, other = parts.text.encode("a stormy sea"), parts.text.encode("a snowy street")
    assert one.hidden.shape == (1, tiny.TOKENS, tiny.CAPTION)
    assert (one.hidden - other.hidden).abs().max() > 0.1
    assert torch.isfinite(one.hidden).all()
