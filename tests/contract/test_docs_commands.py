"""Commands in the documents exist: programs, options, targets, routes, calls, paths."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.contract import documents, shell
from tests.contract.command_lines import faults
from tools.docs import markdown

pytestmark = pytest.mark.contract

SHELL = ("sh", "bash", "shell", "console")
SPOKEN = re.compile(
    r"(?:\.venv/bin/)?sana-gateway |make [a-z]|(?:\.venv/bin/)?python -m |buf curl "
)
"""How a command within a sentence begins."""


def lines(block: markdown.Block) -> list[list[str]]:
    """Returns the commands of a block; of one with prompts, what stands behind them."""
    text = block.text
    if re.search(r"^\$ ", text, re.MULTILINE):
        text = "\n".join(re.findall(r"^\$ (.*)$", text, re.MULTILINE))
    return shell.commands(text)


def test_commands_in_blocks_exist() -> None:
    found = [
        f"{page}:{block.line}: {fault}"
        for page in documents.written()
        for block in markdown.blocks(documents.text(page))
        if block.language in SHELL or (block.indented and SPOKEN.search(block.text))
        for words in lines(block)
        for fault in faults(words)
    ]
    assert found == []


def spoken(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the commands within sentences, each with its line."""
    for code, line in markdown.spans(text):
        if SPOKEN.match(code) and not re.search(r"[|…<]", code):
            for words in shell.commands(code):
                yield line, words


def test_commands_in_sentences_exist() -> None:
    found = [
        f"{page}:{line}: {fault}"
        for page in documents.written()
        for line, words in spoken(documents.text(page))
        for fault in faults(words)
    ]
    assert found == []


def test_many_commands_were_looked_at() -> None:
    shown = [words[0] for _, block in documents.blocks(*SHELL) for words in lines(block)]
    assert sum(word.endswith("sana-gateway") for word in shown) > 60
    assert {"make", "curl", "buf", "helm", "pip"} <= set(shown)


@pytest.mark.parametrize(
    "wrong",
    [
        "sana-gateway srve",
        "sana-gateway serve --modle painter",
        "sana-gateway serve --actors many",
        "sana-gateway serve --encoder abacus",
        "sana-gateway sessions show a b",
        "sana-gateway load smoke --targets x",
        "make tset",
        "make bench BENCHES=x",
        "python -m tests.bench.nothing",
        "python -m tests.bench.media --jsn x",
        "curl http://HOST:8080/sesions",
        "curl -X PATCH http://127.0.0.1:8080/tokens",
        """curl http://HOST:8080/sessions/x/commands -d '{"type": "set_promt"}'""",
        """buf curl -d '{"modell": "x"}' http://h:1/sana_gateway.v1.SessionService/CreateSession""",
        "buf curl -d '{}' http://h:1/sana_gateway.v1.SessionService/MakeSession",
        "sana PoolService/Describe '{}'",
        "buf convert proto --type sana_gateway.v1.ErrorDetails",
        "pip install 'sana-gateway[loud]'",
        "npm run biuld",
        "docker build --target gatway .",
        "helm install live helm/sana-gatway",
    ],
)
def test_what_does_not_exist_is_noticed(wrong: str) -> None:
    (words,) = shell.commands(wrong)
    assert list(faults(words))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b # c\nd", [["a", "b"], ["d"]]),
        ("X=1 a 'b c' \\\n  \"d\"", [["a", "b c", "d"]]),
        ("a | b && c & d; e", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ("a > out 2> err <<< x", [["a", "2"]]),
        (
            "export A=b\nfor x in y; do a $(b c) x; done",
            [["for", "x", "in", "y"], ["a", "$(b c)", "x"], ["done"]],
        ),
        ("a '{\"b\":\n1}'", [["a", '{"b":\n1}']]),
    ],
)
def test_commands_are_read_as_a_shell_would(text: str, words: list[list[str]]) -> None:
    assert shell.commands(text) == words
