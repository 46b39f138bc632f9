"""The table of clients, modes and flows says what was proved, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.reactor import matrix

pytestmark = pytest.mark.contract

CELL = ("reactor-sdk 1.13.0", "cloud", "live")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No test here is a proof of anything."""
    monkeypatch.setattr(matrix, "FOLDER", tmp_path / "matrix")
    return tmp_path / "matrix"


def run_as(monkeypatch: pytest.MonkeyPatch, test: str) -> None:
    monkeypatch.setenv("PYTEST_CURRENT_TEST", f"tests/{test}.py::test (call)")


def fail() -> None:
    with matrix.record(*CELL):
        raise AssertionError


def test_a_cell_is_missing_until_a_test_proves_it() -> None:
    assert matrix.cells()[CELL] == "missing"
    with matrix.record(*CELL):
        assert matrix.cells()[CELL] == "FAILED", "what ends in between has failed"
    assert matrix.cells()[CELL] == "ok"


def test_a_cell_fails_with_any_of_its_tests_and_heals_when_that_is_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_as(monkeypatch, "one")
    with matrix.record(*CELL):
        pass
    run_as(monkeypatch, "two")
    with pytest.raises(AssertionError):
        fail()
    assert matrix.cells()[CELL] == "FAILED"
    run_as(monkeypatch, "one")
    with matrix.record(*CELL):
        pass
    assert matrix.cells()[CELL] == "FAILED", "the other test failed"
    run_as(monkeypatch, "two")
    with matrix.record(*CELL):
        pass
    assert matrix.cells()[CELL] == "ok"


@pytest.mark.parametrize(
    "cell",
    [
        ("reactor-sdk 0.7", "cloud", "live"),
        ("Node gRPC", "local", "file"),
        ("js-sdk 2.9.0", "cloud", "flying"),
        ("js-sdk 2.9.0", "cloud", "join"),
    ],
    ids="-".join,
)
def test_what_is_not_in_the_table_cannot_be_proved(cell: tuple[str, str, str]) -> None:
    with pytest.raises(KeyError), matrix.record(*cell):
        pass


def test_everything_that_is_due_has_to_be_proved(capsys: pytest.CaptureFixture[str]) -> None:
    cells = list(matrix.cells().items())
    due = [cell for cell, outcome in cells if outcome != "-"]
    assert len(due) < len(cells)
    for cell in due[1:]:
        with matrix.record(*cell):
            pass
    assert matrix.main() != 0
    assert "1 missing" in capsys.readouterr().out
    with matrix.record(*due[0]):
        pass
    assert matrix.main() == 0
    shown = capsys.readouterr().out
    assert all(client in shown for client in matrix.MODES)
    assert "missing" not in shown.splitlines()[1]
