"""No call that logs, traces or counts is given user content, as far as the source can tell.

The texts of log lines and the names of spans must be constants: a text made at run time is
where prompts and file names get in.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from scheduler.process.logging import CONTENT_KEYS
from tests.contract import repository
from tests.required import ROOT

pytestmark = pytest.mark.contract

PRODUCT: Final = ("gateway", "model_actor", "scheduler", "sdk_adapters")
LEVELS: Final = {"debug", "info", "warning", "error", "exception", "critical"}
LOGGERS: Final = {"log", "logger", "_log", "_logger"}
SPANS: Final = {"span", "start_span", "start_as_current_span"}
# A number under these keys is an index; the log chain lets numbers alone through.
NUMBERS: Final = {"frame", "frames"}


def calls(source: str) -> Iterator[tuple[ast.Call, str, str]]:
    """Yields the calls in a source with the names of the receiver and of what is called."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Attribute(value=ast.Name(id=receiver), attr=name):
                    yield node, receiver, name
                case ast.Attribute(value=ast.Attribute(attr=receiver), attr=name):
                    yield node, receiver, name
                case ast.Name(id=name):
                    yield node, "", name


def faults(source: str) -> list[str]:
    """Names the lines where content may get into a log, a span or a label."""
    found = []
    for call, receiver, name in calls(source):
        logs = name in LEVELS and receiver in LOGGERS
        if logs or name in SPANS:
            first = call.args[0] if call.args else None
            if isinstance(first, (ast.JoinedStr, ast.BinOp)) and not _is_constant_prefix(first):
                found.append(f"{call.lineno}: text made at run time")
        if logs or name == "labels":
            keys = {keyword.arg for keyword in call.keywords} & (CONTENT_KEYS - NUMBERS)
            found += [f"{call.lineno}: {key}" for key in sorted(str(key) for key in keys)]
    return found


def _is_constant_prefix(text: ast.expr) -> bool:
    """Tells whether a span's name is a constant and the name of a stage: `f"stage.{name}"`."""
    return (
        isinstance(text, ast.JoinedStr)
        and len(text.values) == 2
        and isinstance(text.values[0], ast.Constant)
        and str(text.values[0].value).endswith(".")
    )


@pytest.mark.parametrize(
    "source",
    [
        "log.info(f'prompt is {prompt}')",
        "self._log.warning('a' + prompt)",
        "log.info('set', prompt=prompt)",
        "tracer.start_span(f'{name} edited')",
        "CHUNKS.labels(prompt=prompt).inc()",
    ],
)
def test_the_check_finds_content(source: str) -> None:
    assert faults(source)


@pytest.mark.parametrize(
    "source",
    [
        "log.info('chunk done', chunk=3, frame=17)",
        "tracer.start_span(f'actor.stage.{stage}')",
        "parser.error(f'bad {value}')",
    ],
)
def test_the_check_leaves_what_is_in_order(source: str) -> None:
    assert not faults(source)


def _product() -> list[Path]:
    return [path for path in repository.python_files() if path.parts[0] in PRODUCT]


def test_nothing_in_the_product_logs_traces_or_counts_user_content() -> None:
    product = _product()
    assert product
    found = {str(path): faults((ROOT / path).read_text()) for path in product}
    assert {path: lines for path, lines in found.items() if lines} == {}
