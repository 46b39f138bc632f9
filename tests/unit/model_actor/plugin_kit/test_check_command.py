"""`plugin check`: what it prints, how it ends, and what it cannot examine."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from model_actor.plugin import WindowTask
from model_actor.plugin_kit import command
from scheduler.core.errors import PluginError
from scheduler.process import plugins
from tests.unit.model_actor.sound_model import Sound, declares

pytestmark = pytest.mark.unit

Install = Callable[[type], None]


class WrongShape(Sound):
    def edit(self, task: WindowTask) -> np.ndarray:
        return super().edit(task)[1:]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the log of the test's own process as it is."""
    monkeypatch.setattr(command, "configure_logging", lambda *_, **__: None)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a model as the plugin `sound`."""

    def add(kind: type) -> None:
        module = types.ModuleType("sound_plugin")
        module.Model = kind  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "sound_plugin", module)
        entry = EntryPoint("sound", "sound_plugin:Model", command.GROUP)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group else [])

    return add


def check(*words: str) -> Any:
    return CliRunner().invoke(command.plugin, ["check", *words])


def test_a_sound_plugin_passes_every_rule(install: Install) -> None:
    install(Sound)
    result = check("sound")
    assert result.exit_code == 0, result.output
    for rule in ("name", "geometry", "determinism", "batching", "snapshots", "failures"):
        (line,) = [line for line in result.output.splitlines() if line.startswith(f"{rule} ")]
        assert line.split()[1] == "passed"
    assert "failed" not in result.output


def test_a_broken_rule_is_explained_and_ends_with_1(install: Install) -> None:
    install(WrongShape)
    result = check("sound", "--json", "--only", "geometry", "--only", "failures")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["model"], told["passed"]) == ("sound", False)
    verdicts = {each["rule"]: each["verdict"] for each in told["rules"]}
    assert verdicts == {"name": "passed", "geometry": "failed", "failures": "passed"}
    assert "shape (5, 72, 64), not (4, 72, 64)" in told["rules"][1]["told"]


def test_a_plugin_of_another_name_than_its_entry_point_is_told(install: Install) -> None:
    install(declares(name="noise"))
    result = check("sound", "--json", "--only", "batching")
    assert result.exit_code == 1
    (name, _) = json.loads(result.stdout)["rules"]
    assert "'sound', and not 'noise'" in name["told"]


def test_what_is_no_model_is_refused(install: Install) -> None:
    install(type("Half", (), {"load": lambda _: None, "open": None}))
    result = check("sound")
    assert isinstance(result.exception, PluginError)
    assert str(result.exception) == (
        "sound is no model: it has no close, configure, open, restore, snapshot, stage"
    )


def test_what_cannot_be_loaded_is_refused_with_the_reason(install: Install) -> None:
    class Unloadable(Sound):
        def load(self) -> None:
            raise FileNotFoundError("weights.safetensors")

    install(Unloadable)
    result = check("sound")
    assert isinstance(result.exception, PluginError)
    assert "cannot be loaded: FileNotFoundError: weights.safetensors" in str(result.exception)


def test_options_reach_the_model_and_its_refusal_the_author(install: Install) -> None:
    given: dict[str, str] = {}

    class Picky(Sound):
        def configure(self, options: dict[str, str]) -> None:
            given.update(options)
            raise PluginError("sound has no option 'x'")

    install(Picky)
    result = check("sound", "--model-option", "x=1", "--weights", "/w")
    assert isinstance(result.exception, PluginError)
    assert str(result.exception) == "sound has no option 'x'"
    assert given == {"x": "1", "weights": "/w"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("noise",), "no plugin 'noise'.*installed: sound"),
        (("sound", "--only", "speed"), "no rule"),
    ],
)
def test_what_there_is_not_is_refused(install: Install, words: tuple[str, ...], why: str) -> None:
    install(Sound)
    result = check(*words)
    with pytest.raises(PluginError, match=why):
        raise result.exception
