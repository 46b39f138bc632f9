"""The drawing of the editing session in ARCHITECTURE.md is the one its table gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.core.diagram import BEGIN, END, main, render, replace_block
from scheduler.core.errors import ConfigurationError
from scheduler.core.session_table import TABLE

pytestmark = pytest.mark.contract

DOCUMENT = Path(__file__).parents[2] / "ARCHITECTURE.md"


def test_the_document_shows_the_present_table() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == replace_block(text), (
        "run: python -m scheduler.core.diagram --write ARCHITECTURE.md"
    )


def test_the_drawing_has_one_arrow_for_each_change_of_phase_but_reset() -> None:
    arrows = [line for line in render().splitlines() if " --> " in line and "[*]" not in line]
    resets = 5
    changes = sum(edge.to is not phase for (phase, _), edges in TABLE.items() for edge in edges)
    assert len(arrows) == len(set(arrows)) == changes - resets


def test_only_the_block_between_the_markers_is_replaced(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n", encoding="utf-8")
    main(["--write", str(document)])
    text = document.read_text(encoding="utf-8")
    assert text == f"before\n{BEGIN}\n\n{render()}\n\n{END}\nafter\n"


def test_a_document_without_markers_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("nothing here\n", encoding="utf-8")
    with pytest.raises(ConfigurationError):
        main(["--write", str(document)])
    assert document.read_text(encoding="utf-8") == "nothing here\n"


def test_without_a_document_the_drawing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert capsys.readouterr().out == f"{render()}\n"
