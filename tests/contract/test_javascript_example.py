"""`examples/javascript/main.ts` is the example of the model's published API, word for word."""

from __future__ import annotations

import hashlib

import pytest

from tests.required import ROOT

pytestmark = pytest.mark.contract

EXAMPLE = ROOT / "examples/javascript/main.ts"
OURS = {
    'import { apiUrl, getToken } from "./gateway";\n': "",
    '({ modelName: "sana-streaming", apiUrl })': '({ modelName: "sana-streaming" })',
}
"""What is added to it, and what stands there instead in the original: all there is to change."""
PUBLISHED = "502dd957480f0f10341d4fbd3179711650b44cf2afbb78e8261a019ed81d6aa9"
"""SHA-256 of the published text, without indentation and empty lines."""


def digest(text: str) -> str:
    """Returns the hash of a program, however it is indented."""
    lines = [line.strip() for line in text.splitlines()]
    return hashlib.sha256("\n".join(filter(None, lines)).encode()).hexdigest()


def test_the_example_is_the_published_one_but_for_where_the_service_is() -> None:
    text = EXAMPLE.read_text()
    for ours, published in OURS.items():
        assert text.count(ours) == 1, ours
        text = text.replace(ours, published)
    assert digest(text) == PUBLISHED
