"""The drawings of the editing session and of the lease are those that their tables give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from scheduler.core.commands import Reset
from scheduler.core.diagram import DRAWINGS, main, markers, redrawn, render, render_lease
from scheduler.core.errors import ConfigurationError
from scheduler.core.lease import TRANSITIONS, LeaseState, Step
from scheduler.core.session_table import TABLE, World
from tests.required import ROOT

pytestmark = pytest.mark.contract

BEGIN, END = markers("session-diagram")
APART: Final = {World.MODEL_FAILED, World.MOVED}
"""What the drawing leaves to the table: it may happen in most phases."""


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "docs/concepts.md"])
def test_the_document_shows_the_present_tables(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == redrawn(text), f"run: python -m scheduler.core.diagram --write {page}"


def arrows(drawing: str) -> list[tuple[str, str, str]]:
    """Returns from where to where a drawing leads, and why."""
    drawn = re.findall(r"^    (\w+) --> (\w+): (.*)$", drawing, re.MULTILINE)
    return [(before, after, why) for before, after, all_ in drawn for why in all_.split("<br/>")]


def test_the_session_shows_every_change_of_phase_but_reset() -> None:
    drawing = render()
    changes = {
        (phase, trigger, edge)
        for (phase, trigger), edges in TABLE.items()
        for edge in edges
        if edge.to is not phase and trigger is not Reset
    }
    drawn = arrows(drawing)
    usual = [each for each in changes if each[1] not in APART]
    assert len(drawn) == len(set(drawn)) == len(usual)
    for phase, trigger, edge in changes:
        if isinstance(trigger, World):
            # The table of what happens has them all.
            told = f"{edge.to.value} ({edge.when})" if edge.when else edge.to.value
            row = rf"^\| {trigger.value} \| (.*) \| {re.escape(told)} \|$"
            (phases,) = re.findall(row, drawing, re.MULTILINE)
            assert phase.value in phases.split(", ")


def test_the_lease_shows_every_step() -> None:
    drawn = arrows(render_lease())
    steps = [step for steps in TRANSITIONS.values() for step in steps]
    # One arrow and a note stand for the last step.
    assert len(drawn) == len(set(drawn)) == len(steps) - steps.count(Step.RELEASE) + 1
    states = {state for before, after, _ in drawn for state in (before, after)}
    assert states == {state.value for state in LeaseState}


def test_only_the_blocks_between_markers_are_replaced(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n", encoding="utf-8")
    main(["--write", str(document)])
    text = document.read_text(encoding="utf-8")
    assert text == f"before\n{BEGIN}\n\n{render()}\n\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["nothing here\n", f"{BEGIN}\nno end\n", f"no begin\n{END}\n"])
def test_a_document_without_both_markers_is_left_alone(text: str, tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError):
        main(["--write", str(document)])
    assert document.read_text(encoding="utf-8") == text


def test_without_a_document_the_drawings_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    shown = "\n\n".join(draw() for draw in DRAWINGS.values())
    assert capsys.readouterr().out == f"{shown}\n"
