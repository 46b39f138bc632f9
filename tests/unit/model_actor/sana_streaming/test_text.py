"""Prompts: what is put before them, what is kept of them, and for how long."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model_actor.models.sana_streaming import bundle, tiny
from model_actor.models.sana_streaming.text import Prompt, PromptEncoder, mixed, selected
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


# -- mixtures -----------------------------------------------------------------------------


def prompt(words: int, of: float) -> Prompt:
    """A prompt of some words, all saying the same, with padding that says something else."""
    mask = (torch.arange(4) < words).long()[None]
    return Prompt(torch.where(mask.bool(), of, -100.0)[:, :, None], mask)


def test_a_whole_share_is_the_prompt_itself() -> None:
    one = prompt(3, 1.0)
    assert mixed([(one, 1.0)]) is one


def test_prompts_of_one_length_are_interpolated_word_by_word() -> None:
    hidden, mask = mixed([(prompt(3, 1.0), 0.25), (prompt(3, 5.0), 0.75)])
    assert hidden[0, :3, 0].tolist() == pytest.approx([4.0] * 3)
    assert mask.tolist() == [[1.0, 1.0, 1.0, 0.0]]


def test_each_prompt_has_its_share_of_all_that_counts_however_long_it_is() -> None:
    hidden, mask = mixed([(prompt(1, 1.0), 0.75), (prompt(3, 5.0), 0.25)])
    # A quarter over three words; the first word is that of both, and counts most.
    assert mask[0].tolist() == pytest.approx([1.0, 0.1, 0.1, 0.0])
    assert hidden[0, :3, 0].tolist() == pytest.approx([(0.75 + 5 / 12) / (0.75 + 1 / 12), 5.0, 5.0])
    seen = (hidden[0, :, 0] * mask[0]).sum() / mask.sum()
    assert float(seen) == pytest.approx(0.75 * 1.0 + 0.25 * 5.0)


def test_what_no_prompt_says_counts_for_nothing_and_is_a_number() -> None:
    hidden, mask = mixed([(prompt(1, 1.0), 0.5), (prompt(2, 5.0), 0.5)])
    assert torch.isfinite(hidden).all()
    assert mask[0, 2:].tolist() == [0.0, 0.0]


def test_a_mixture_goes_from_one_prompt_to_the_other_without_a_jump(parts: bundle.Parts) -> None:
    """What the transformer's attention makes of it, between prompts of different lengths."""
    block = parts.transformer.blocks[0].attn2
    random = torch.Generator().manual_seed(3)
    seen = torch.randn(1, 6, parts.transformer.config.hidden_size, generator=random)

    @torch.no_grad()
    def attended(told: Prompt) -> Tensor:
        state = parts.transformer.begin(1, (2, 2))
        context = parts.transformer.context(state, told.hidden, told.mask, 5, (2, 2))
        return block(seen, *context.text[0], context.text_bias)

    ends = [parts.text.encode(each) for each in ("a sea", "a long street in the snow at night")]
    assert int(ends[0].mask.sum()) != int(ends[1].mask.sum())
    at = [attended(ends[0])]
    for share in torch.linspace(0, 1, 41)[1:-1].tolist():
        told = parts.text.mixture(
            (("a sea", 1 - share), ("a long street in the snow at night", share))
        )
        at.append(attended(told))
    at.append(attended(ends[1]))
    whole = float((at[0] - at[-1]).norm())
    steps = [float((b - a).norm()) for a, b in itertools.pairwise(at)]
    assert max(steps) < whole / 10
    nearly = parts.text.mixture((("a sea", 1e-6), ("a long street in the snow at night", 1 - 1e-6)))
    torch.testing.assert_close(attended(nearly), at[-1], atol=1e-4, rtol=1e-4)


def test_a_prompt_whose_encoding_failed_is_encoded_again(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, recorder = encoder(tokenizer)
    with monkeypatch.context() as broken:
        broken.setattr(made, "states", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            made.encode("A Sea")
    assert made.remembered == 0, "nothing half-made is kept"
    made.encode("A Sea")
    assert len(recorder.seen) == made.remembered == 1
