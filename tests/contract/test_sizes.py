"""No hand-written file grows so big that it hides its structure."""

from __future__ import annotations

from typing import Final

import pytest

from tests.contract import repository
from tests.required import ROOT

pytestmark = pytest.mark.contract

MOST_LINES: Final = 600
SCRIPTS: Final = {".js", ".mjs", ".ts", ".tsx"}
BUILT: Final = "gateway/web/dist"
MOST_BYTES: Final = 1 << 20
DATA: Final = {
    f"tests/fixtures/sana-oracle/{name}.safetensors" for name in ("vae_io", "vae_weights")
}
"""Numbers that a model is checked with: whole clips, and weights. They may be twice as large."""


def test_no_file_of_code_has_more_than_600_lines() -> None:
    scripts = [
        path
        for path in repository.files()
        if path.suffix in SCRIPTS and not path.is_relative_to(BUILT)
    ]
    written = [*repository.python_files(), *scripts]
    lines = {path: (ROOT / path).read_bytes().count(b"\n") for path in written}
    assert {path.suffix for path in lines} > {".py", ".ts", ".js"}
    assert {str(path): n for path, n in lines.items() if n > MOST_LINES} == {}


def test_no_file_is_larger_than_a_megabyte() -> None:
    sizes = {str(path): (ROOT / path).stat().st_size for path in repository.files()}
    large = {path: size for path, size in sizes.items() if size > MOST_BYTES}
    assert {path: size for path, size in large.items() if path not in DATA} == {}
    assert all(size < 2 * MOST_BYTES for size in large.values())
