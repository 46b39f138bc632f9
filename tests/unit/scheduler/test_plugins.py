"""Plugin discovery: nothing imported before it is chosen, faults named and isolated."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar, Protocol

import pytest

from scheduler.core.errors import PluginError
from scheduler.process import plugins

pytestmark = pytest.mark.unit

GROUP = "sana_gateway_test.toys"


class Toy(Protocol):
    info: ClassVar[str]

    def play(self, times: int) -> None: ...


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two distributions with toys, on the path but not imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "toybox_one.py").write_text(
        "class Ball:\n    info = 'round'\n    def play(self, times): ...\n"
        "class Stone:\n    info = 'hard'\n"
        "class Sign:\n    info = 'flat'\n    play = 3\n"
    )
    (tmp_path / "toybox_two.py").write_text("raise OSError('no batteries')\n")
    distribute(
        tmp_path,
        "toybox-one",
        ball="toybox_one:Ball",
        stone="toybox_one:Stone",
        sign="toybox_one:Sign",
    )
    distribute(tmp_path, "toybox-two", robot="toybox_two:Robot")
    for name in ("toybox_one", "toybox_two"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def distribute(folder: Path, distribution: str, **toys: str) -> None:
    """Writes the metadata that an installer would."""
    metadata = folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n"
    )
    lines = [f"{name} = {value}" for name, value in toys.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))


@pytest.mark.usefixtures("installed")
def test_discovery_names_what_is_installed_and_imports_nothing() -> None:
    found = plugins.discover(GROUP)
    assert [plugin.name for plugin in found] == ["ball", "robot", "sign", "stone"]
    assert found[0] == plugins.PluginInfo("ball", "toybox-one", "1.2", "toybox_one:Ball")
    assert not {"toybox_one", "toybox_two"} & set(sys.modules)


@pytest.mark.usefixtures("installed")
def test_loading_imports_the_chosen_one_alone() -> None:
    ball = plugins.load(GROUP, "ball", Toy)
    assert ball.info == "round"
    assert "toybox_one" in sys.modules
    assert "toybox_two" not in sys.modules


@pytest.mark.usefixtures("installed")
def test_an_unknown_name_is_refused_with_the_list_of_what_is_installed() -> None:
    with pytest.raises(PluginError, match=r"no plugin 'kite'.*ball, robot, sign, stone"):
        plugins.load(GROUP, "kite")


def test_an_empty_group_is_said_to_be_empty() -> None:
    assert plugins.discover("sana_gateway_test.nothing") == []
    with pytest.raises(PluginError, match="installed: none"):
        plugins.load("sana_gateway_test.nothing", "kite")


def test_a_name_that_two_distributions_use_is_refused(installed: Path) -> None:
    distribute(installed, "toybox-three", ball="toybox_one:Stone")
    with pytest.raises(PluginError, match=r"several plugins.*toybox-one, toybox-three"):
        plugins.load(GROUP, "ball")


@pytest.mark.usefixtures("installed")
def test_an_import_that_fails_becomes_a_plugin_error_with_its_cause() -> None:
    with pytest.raises(PluginError, match=r"'robot'.*OSError: no batteries") as caught:
        plugins.load(GROUP, "robot")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.usefixtures("installed")
def test_a_plugin_of_the_wrong_shape_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(PluginError, match="is no Toy: play is missing"):
        plugins.load(GROUP, "stone", Toy)
    with pytest.raises(PluginError, match="is no Toy: play is not a method"):
        plugins.load(GROUP, "sign", Toy)


@pytest.mark.usefixtures("installed")
def test_the_report_isolates_the_broken_ones() -> None:
    statuses = {status.plugin.name: status.error for status in plugins.report(GROUP, Toy)}
    assert statuses["ball"] is None
    assert "no batteries" in str(statuses["robot"])
    assert "play is missing" in str(statuses["stone"])


def test_this_project_declares_its_own_plugins() -> None:
    names = {plugin.name for plugin in plugins.discover("sana_gateway.storage")}
    assert "filesystem" in names
