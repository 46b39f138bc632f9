"""`sana-gateway config`: what it shows is what the roles read."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from gateway import commands
from gateway.config_command import config, effective, rendered, toml
from gateway.settings import GatewaySettings
from scheduler import commands as scheduler_commands
from scheduler.core.errors import ConfigurationError
from scheduler.process.config import load_settings

pytestmark = pytest.mark.unit

FILE = """
http_port = 9999
ice_servers = ["turn:user:pass@turn.example:3478"]
[limits]
max_peers = 3
[head]
actors = 3
model = ["simulated"]
park_after = "5m"
placement_port = 0
degrade = true
[actor]
drain_grace = "10m"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sana.toml"
    path.write_text(FILE)
    return path


def run(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(config, [*words], env=environment)


def parsed(command: typer.Typer, *words: str) -> dict[str, object]:
    return typer.main.get_command(command).make_context("x", [*words]).params


@pytest.mark.parametrize("command", [commands.serve, scheduler_commands.head])
def test_a_role_takes_its_options_from_its_table(command: typer.Typer, file: Path) -> None:
    taken = parsed(command, "--config", str(file))
    assert taken["actors"] == 3
    assert taken["model"] == ["simulated"]
    assert taken["park_after"] == "5m"
    assert taken["degrade"] is True


def test_an_actor_takes_its_own(file: Path) -> None:
    taken = parsed(scheduler_commands.actor, "--config", str(file), "--join", "h:1")
    assert taken["drain_grace"] == "10m"


def test_a_command_line_goes_before_the_environment_and_that_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANA_GATEWAY_HEAD__PARK_AFTER", "6m")
    monkeypatch.setenv("SANA_GATEWAY_HEAD__MODEL", '["painter", "simulated"]')
    monkeypatch.setenv("SANA_GATEWAY_HEAD__DEGRADE", "false")
    taken = parsed(scheduler_commands.head, "--config", str(file), "--actors", "5")
    assert (taken["actors"], taken["park_after"], taken["degrade"]) == (5, "6m", False)
    assert taken["model"] == ["painter", "simulated"]


def test_the_file_may_be_named_by_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANA_GATEWAY_CONFIG", str(file))
    assert parsed(scheduler_commands.head)["actors"] == 3
    assert parsed(commands.gateway)["config"] == file
    assert load_settings(GatewaySettings, file=file).http_port == 9999


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[head]\nactor = 1", "unknown setting head.actor; did you mean actors"),
        ("[head]\nready_file = 'x'", "unknown setting head.ready_file"),
        ("[head]\nmodel = 'painter'", "head.model: a list of texts was expected"),
        ("[head]\nactors = [1]", "head.actors: a text or a number was expected"),
        ("[head]\ndegrade = 'yes'", "head.degrade: true or false was expected"),
        ("head = 1", "head: a table was expected"),
        ("[actor]\njoins = 'x'", "unknown setting actor.joins; did you mean join"),
        ("[limits]\nmax_peer = 1", "unknown setting limits.max_peer"),
        ("[pool]\nx = 1", "unknown setting pool"),
        ("[head", "the settings file is not TOML"),
    ],
)
def test_what_no_role_understands_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        effective(path, {})


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SANA_GATEWAY_HEAD__ACTORZ", "1", "SANA_GATEWAY_HEAD__ACTORS"),
        ("SANA_GATEWAY_HEAD__MODEL", "painter", "a JSON list of texts was expected"),
    ],
)
def test_a_wrong_variable_of_a_role_is_refused(variable: str, value: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        effective(None, {variable: value})


def test_a_gateway_leaves_the_variables_of_other_roles_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SANA_GATEWAY_HEAD__ACTORS", "2")
    assert load_settings(GatewaySettings) == GatewaySettings()


def test_what_is_printed_is_a_file_that_says_the_same(file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.toml"
    shown = effective(file, {})
    again.write_text("\n".join(rendered(shown, docs=False)))
    known = {each.key: each.value for each in shown if each.key != "ice_servers"}
    assert {each.key: each.value for each in effective(again, {}) if each.key in known} == known


def test_the_documented_form_says_what_each_setting_means_and_changes_none(
    file: Path,
) -> None:
    result = run("print", "--docs", "--config", str(file))
    assert result.exit_code == 0
    said = tomllib.loads(result.output)
    assert said["http_port"] == 9999
    assert said["head"]["actors"] == 3
    assert "grpc_port" not in said
    assert "# grpc_port = 50051" in result.output
    assert "# Environment: SANA_GATEWAY_HEAD__PARK_AFTER" in result.output
    for each in effective(file, {}):
        assert each.help, f"{each.key} has no words"


def test_every_line_says_where_its_value_is_from(file: Path) -> None:
    result = run("print", "--config", str(file), SANA_GATEWAY_GRPC_PORT="7")
    lines = set(result.output.splitlines())
    assert {
        "http_port = 9999  # file",
        "grpc_port = 7  # environment",
        'host = "127.0.0.1"  # default',
        "max_peers = 3  # file",
    } <= lines


def test_what_may_hold_a_secret_is_not_shown(file: Path) -> None:
    result = run("print", "--config", str(file), RAY_AUTH_TOKEN="hush-hush")
    assert result.exit_code == 0
    assert "pass@" not in result.output
    assert "hush" not in result.output
    assert "# ice_servers: set, and not shown" in result.output


def test_check_counts_or_refuses(file: Path, tmp_path: Path) -> None:
    assert "fine, 9 settings" in run("check", str(file)).output
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("nonsense = 1")
    result = run("check", str(wrong))
    assert isinstance(result.exception, ConfigurationError)


plain = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(plain)
def test_values_survive_being_written(value: object) -> None:
    assert tomllib.loads(f"a = {toml(value)}")["a"] == value
