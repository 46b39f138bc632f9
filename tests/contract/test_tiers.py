"""`tools/tiers.py`, and how the end-to-end tests are spread over workers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.e2e import spread
from tests.required import ROOT

pytestmark = pytest.mark.contract


@pytest.fixture
def tiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiers", ROOT / "tools/tiers.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    # Its dataclasses look for their module.
    monkeypatch.setitem(sys.modules, "tiers", made)
    spec.loader.exec_module(made)
    monkeypatch.setattr(made, "REPORTS", tmp_path)
    return made


def test_tiers_beside_another_are_run_once_and_counted(
    tiers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run_tier(tier: str, place: Any = tiers.HERE, quiet: Any = int) -> Any:
        place.say(f"this is {tier}")
        ran.append(tier)
        quiet()
        return tiers.Count(passed=1, failed=tier == "types")

    monkeypatch.setattr(tiers, "run_tier", run_tier)
    counts = tiers.run_tiers(("lint", "types", "unit", "contract", "e2e"))
    assert list(counts) == ["lint", "types", "unit", "contract", "e2e"]
    assert sorted(ran) == sorted(counts)
    assert ran[:2] == ["lint", "unit"], "the others wait for the tier that they run beside"
    assert counts["types"].failed == 1
    ran.clear()
    assert list(tiers.run_tiers(("types", "contract"))) == ran == ["types", "contract"]


def test_what_is_said_beside_is_shown_in_the_end(
    tiers: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(tiers.COMMANDS, "types", (("python", "-c", "print('found a fault')"),))
    monkeypatch.setitem(tiers.COMMANDS, "e2e", (("python", "-c", "print('all is well')"),))
    monkeypatch.setattr(tiers, "MATRIX", "")
    counts = tiers.run_tiers(("types", "e2e"))
    assert {count.passed for count in counts.values()} == {1}
    said = capfd.readouterr().out
    assert said.index("all is well") < said.index("== types") < said.index("found a fault")


def test_a_run_that_is_given_up_ends_what_runs_beside(
    tiers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where a shell has begun this run in the background, SIGINT is ignored.
    monkeypatch.setattr(tiers, "GRACE_S", 0.5)
    command = ("python", "-c", "import time; time.sleep(600)")
    monkeypatch.setitem(tiers.COMMANDS, "types", (command, command))
    run_tier = tiers.run_tier

    def interrupted(tier: str, *given: Any, **told: Any) -> Any:
        if tier == "e2e":
            raise KeyboardInterrupt
        return run_tier(tier, *given, **told)

    monkeypatch.setattr(tiers, "run_tier", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tiers.run_tiers(("types", "e2e"))


def test_what_was_compiled_is_kept(
    tiers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(tiers, "BYTECODE", tmp_path / "bytecode")
    (tmp_path / "imported.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import imported"
    assert tiers.HERE.run(("python", "-c", code), 60) == 0
    assert list((tmp_path / "bytecode").rglob("imported.*.pyc"))


def test_files_with_tests_alone_are_found(tiers: ModuleType, tmp_path: Path) -> None:
    for name, text in {
        "test_all.py": "pytestmark = [pytest.mark.e2e, pytest.mark.{}]",
        "test_one.py": "@pytest.mark.{}  # it measures\ndef test_x(): ...",
        "test_none.py": "pytest.mark.{}_at_home",
        "helper.py": "pytest.mark.{}",
    }.items():
        (tmp_path / name).write_text(text.format(tiers.ALONE))
    found = tiers.files_with_tests_alone([tmp_path])
    assert [file.name for file in found] == ["test_all.py", "test_one.py"]


def test_no_tier_with_tests_alone_runs_beside_another(tiers: ModuleType) -> None:
    for tier in {other for others in tiers.BESIDE.values() for other in others}:
        folders = [ROOT / "tests" / folder for folder in tiers.FOLDERS.get(tier, ())]
        assert tiers.files_with_tests_alone(folders) == []


def test_what_is_spread_exists() -> None:
    files = [file for together in spread.TOGETHER.values() for file in together]
    assert len(files) == len(set(files))
    units = {*files, *(unit for unit in spread.SECONDS if unit not in spread.TOGETHER)}
    assert [file for file in units if not (ROOT / "tests/e2e" / file).is_file()] == []


def test_files_that_share_a_service_are_one_unit_and_the_longest_comes_first() -> None:
    moves, failures = (
        f"tests/e2e/pool/test_{name}.py::test_x[a::b]" for name in ("moves", "failures")
    )
    short = "tests/e2e/test_buf_curl.py::test_x"
    assert spread.unit_of(moves) == spread.unit_of(failures) == "split"
    assert spread.unit_of(short) == "test_buf_curl.py"
    assert sorted([short, moves], key=spread.rank) == [moves, short]
