"""Tables of the command line."""

from __future__ import annotations

import pytest
from rich.table import Table

from gateway.tables import show

pytestmark = pytest.mark.unit

SESSION = f"s{'4' * 32}"
ROW = (
    SESSION,
    "a-tenant-of-some-length",
    "sana-streaming",
    "active",
    "3cb2ff2e",
    "yes",
    "",
    "16 s",
)


@pytest.mark.parametrize("columns", ["40", "80", "400"])
def test_nothing_is_cut_however_narrow_the_terminal_is(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    table = Table(*(f"column {number}" for number in range(len(ROW))))
    table.add_row(*ROW)
    show(table)
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if SESSION in line]
    assert all(part in line for part in ROW)
    assert "…" not in "".join(lines)
