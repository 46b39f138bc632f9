"""The command line of load tests, as far as nothing is run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scheduler.scenario import ConfigurationError, library
from sdk_adapters.harness import command, modes, outputs
from sdk_adapters.harness.compare import compare
from sdk_adapters.harness.report import comparing
from sdk_adapters.harness.slo import Exit
from tests.unit.sdk_adapters.load_reports import bounds, full

pytestmark = pytest.mark.unit

RUN = CliRunner()


@pytest.fixture
def stored(tmp_path: Path) -> str:
    """Path of a stored report."""
    path = tmp_path / "report.json"
    path.write_text(full({"join": bounds(p95=1000)}).model_dump_json())
    return str(path)


def refusal(*words: str) -> str:
    """What a command that is refused says."""
    done = RUN.invoke(command.load, words)
    assert isinstance(done.exception, ConfigurationError), done.output
    return str(done.exception)


def test_presets_are_listed_and_shown() -> None:
    listed = RUN.invoke(command.load, ["--list"]).output
    assert all(name in listed for name in library.names() if name != "default")
    assert RUN.invoke(command.load, ["smoke", "--show"]).output == library.text("smoke")
    assert json.loads(RUN.invoke(command.load, ["--schema"]).output)["title"] == "Scenario"


def test_the_word_run_may_be_left_out() -> None:
    assert RUN.invoke(command.load, ["run", "smoke", "--show"]).output == library.text("smoke")


def test_help_teaches() -> None:
    text = RUN.invoke(command.load, ["--help"]).output
    for part in ("Examples", "capacity", "compare", "chaos", "Exit status", "docs/load.md"):
        assert part in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "name a preset (default, chaos"),
        (("nosuch",), "nosuch is neither a preset"),
        (("default",), "name one"),
        (("smoke", "--target", "gw"), "give host:port of the gateway's gRPC"),
        (("smoke", "--http", "http://gw"), "go with --target"),
        (("smoke", "--token", "t"), "go with --target"),
        (("smoke", "--turn", "stun:x"), "a TURN server is given as"),
        (("smoke", "--scale", "1e9"), "more than 1,000,000 sessions"),
        (("smoke", "--scale", "nan"), "above 0"),
        (("smoke", "--target", "a:1", "--target", "b:1", "--http", "a:2"), "HTTP of each gateway"),
        (("smoke", "--slo", "/nonexistent"), "/nonexistent cannot be read"),
        (("smoke", "--scale", "0"), "above 0"),
        (("capacity", "smoke", "--window", "soon"), "--window soon: a duration is written like"),
        (("chaos", "--deed", "kill-everybody"), "--deed kill-everybody: there are kill-actor"),
        (("compare", "a.json"), "a report of before and one of now"),
        (("compare", "a.json", "b.json", "c.json"), "several with -- between"),
        (("compare", "a.json", "--"), "a report of before and one of now"),
    ],
)
def test_what_cannot_be_done_is_said_in_plain_words(words: tuple[str, ...], said: str) -> None:
    assert said in refusal(*words)


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_EXTRA", ("nosuchmodule",))
    assert "pip install 'sana-gateway[load]'" in refusal("smoke")


def test_thresholds_of_a_file_take_the_place_of_the_scenarios(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text("slo: {join: {p95: 7}}\n")
    scenario = modes.scenario_of("smoke", scale=1.0, seed=3, slo=path)
    assert {name: each.asked for name, each in scenario.slo.items()} == {"join": {"p95": 7.0}}
    assert scenario.seed == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("join: {p95: soon}", "holds no thresholds: join.p95"),
        ("joy: {p95: 1}", "slo.joy: no such metric"),
        ("- a", "holds no thresholds"),
        ("{", "is not YAML"),
    ],
)
def test_a_file_that_holds_no_thresholds_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        modes.scenario_of("smoke", scale=1.0, seed=None, slo=path)


def test_a_target_is_addresses_in_the_same_order() -> None:
    target = modes.target_of(("a:1", "b:2"), ("http://a:3", "https://b"), "secret")
    assert (target.grpc, target.http) == (("a:1", "b:2"), ("a:3", "https://b"))
    assert "secret" not in repr(target)


def test_a_turn_server_may_stand_beside_a_service_that_is_yet_to_be_started() -> None:
    target = modes.target_of((), (), "", "turn:ann:secret@127.0.0.1:5000")
    assert (target.grpc, target.turn) == ((), "turn:ann:secret@127.0.0.1:5000")
    with pytest.raises(ConfigurationError, match="a TURN server is given as"):
        modes.target_of((), (), "", "stun:host")


@pytest.mark.parametrize("strict", [False, True])
def test_strict_is_said_by_the_scenario_or_by_the_command(tmp_path: Path, *, strict: bool) -> None:
    scenario = modes.scenario_of("smoke", scale=1.0, seed=None, slo=None, strict=strict)
    assert scenario.load.strict == strict
    path = tmp_path / "mine.yaml"
    path.write_text(library.text("smoke").replace("\nload:", "\nload:\n  strict: true"))
    own = modes.scenario_of(str(path), scale=1.0, seed=None, slo=None, strict=strict)
    assert own.load.strict


def test_where_nothing_can_be_written_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(modes, "showing", lambda *_, **__: pytest.fail("it was run"))
    for words in (("run", "smoke"), ("chaos",), ("capacity", "steady")):
        done = RUN.invoke(command.load, [*words, "--out", str(tmp_path / "file" / "out")])
        assert done.exit_code == Exit.INVALID
        assert "cannot be written" in done.output


def test_of_the_reports_those_are_left_that_can_be(tmp_path: Path) -> None:
    where = outputs.places(tmp_path, {"html": tmp_path / "taken"})
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        outputs.write(full(), where)
    assert {each.name for each in tmp_path.iterdir() if each.is_file()} == {
        "report.json",
        "report.md",
        "junit.xml",
    }


def test_reports_are_left_in_all_forms(tmp_path: Path) -> None:
    where = outputs.places(tmp_path / "out", {"json": tmp_path / "else" / "mine.json"})
    outputs.write(full(), where)
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["else/mine.json", "out/junit.xml", "out/report.html", "out/report.md"]
    assert modes.read(str(where["json"])) == full()


def test_a_run_that_was_ended_early_has_not_passed() -> None:
    slo = {"join": bounds(p95=1000)}
    assert modes.status_of(full(slo)) is Exit.PASSED
    assert modes.status_of(full(slo, measured_s=(10.0, 25.0))) is Exit.INVALID
    missed = full({"join": bounds(p95=1)}, measured_s=(10.0, 25.0))
    assert modes.status_of(missed) is Exit.FAILED


def test_two_reports_are_compared(stored: str, tmp_path: Path) -> None:
    markdown = tmp_path / "compared.md"
    words = ["compare", "--markdown", str(markdown), stored, stored]
    done = RUN.invoke(command.load, words)
    assert done.exit_code == 0, done.output
    assert "metrics compared: 0 better, 0 worse" in done.output
    assert markdown.read_text().startswith("### ")


def test_several_reports_have_dashes_between(stored: str) -> None:
    done = RUN.invoke(command.load, ["compare", stored, stored, "--", stored])
    assert done.exit_code == 0, done.output
    assert "2 before, 1 now" in done.output


def test_a_file_that_is_no_report_is_refused(tmp_path: Path, stored: str) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    done = RUN.invoke(command.load, ["compare", str(wrong), stored])
    assert done.exit_code == 2
    assert "is no load report" in done.output
    missing = RUN.invoke(command.load, ["compare", stored, str(tmp_path / "missing.json")])
    assert missing.exit_code == 2


def test_a_comparison_stands_in_a_table_of_the_same_width() -> None:
    rows = comparing.markdown(compare([full()], [full()])).splitlines()
    widths = {line.count(" | ") for line in rows if line.startswith("|")}
    assert widths == {len(comparing.HEADING) - 1}
