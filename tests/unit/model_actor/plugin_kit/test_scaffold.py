"""A new package: what it may be called, where it may go, and that it works as it is."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_actor.plugin_kit import scaffold
from model_actor.plugin_kit.command import plugin
from scheduler.core.errors import ConfigurationError
from tests.required import ROOT

pytestmark = pytest.mark.unit

NAMES = scaffold.Names.of("night-look", set())


def test_a_name_is_told_to_python_and_to_people() -> None:
    assert scaffold.Names("night-look", "night_look", "NightLookModel", "Night look") == NAMES


@pytest.mark.parametrize(
    "name",
    ["", "Look", "my look", "-look", "look-", "my--look", "1look", "my_look", "a/b", "x" * 25],
)
def test_names_that_no_package_can_have_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="NAME is made of small letters"):
        scaffold.Names.of(name, set())


@pytest.mark.parametrize("name", ["json", "numpy", "class", "model-actor"])
def test_names_that_python_knows_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="as something else"):
        scaffold.Names.of(name, set())


def test_names_of_installed_models_are_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(plugin, ["new", "painter", "--into", str(tmp_path)])
    assert isinstance(result.exception, ConfigurationError)
    assert "'painter' is installed here" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "night-look").mkdir()
    (tmp_path / "night-look/mine").write_text("kept")
    with pytest.raises(ConfigurationError, match="is there already: nothing was written"):
        scaffold.create(NAMES, tmp_path)
    assert (tmp_path / "night-look/mine").read_text() == "kept"
    (tmp_path / "dangling").mkdir()
    (tmp_path / "dangling/night-look").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="is there already"):
        scaffold.create(NAMES, tmp_path / "dangling")


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        scaffold.create(NAMES, tmp_path / "file")


def test_the_next_three_commands_are_told(tmp_path: Path) -> None:
    into = tmp_path / "some where"
    result = CliRunner().invoke(plugin, ["new", "night-look", "--into", str(into)])
    assert result.exit_code == 0, result.output
    commands = [line.strip() for line in result.output.splitlines() if line.startswith("  ")]
    assert commands == [
        f"pip install -e '{into}/night-look'",
        "sana-gateway plugin check night-look",
        "sana-gateway serve --model night-look",
    ]
    assert [path.name for path in into.iterdir()] == ["night-look"], "nothing else is left"


def test_the_package_names_itself_as_a_plugin() -> None:
    files = scaffold.files(NAMES)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    entry = project["entry-points"]["sana_gateway.models"]
    assert entry == {"night-look": "night_look.model:NightLookModel"}
    assert project["name"] == "night-look"
    assert {path.split("/")[0] for path in files} == {"README.md", "pyproject.toml", "src", "tests"}
    for path, text in files.items():
        assert "$" not in text, path
        if path.endswith(".py"):
            ast.parse(text)


@pytest.mark.parametrize("name", ["a", "night-look", "x" * 24])
def test_the_files_are_in_good_style(name: str, tmp_path: Path) -> None:
    folder = scaffold.create(scaffold.Names.of(name, set()), tmp_path)[0].parent
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    for words in (["check", "--select", "E,F,I,UP,B,ANN,RUF"], ["format", "--check"]):
        done = subprocess.run(
            [*ruff, *words, "--no-cache", str(folder)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_its_own_tests_pass(tmp_path: Path) -> None:
    folder = scaffold.create(NAMES, tmp_path)[0].parent
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": f"{folder}/src:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.slow
def test_its_types_are_sound(tmp_path: Path) -> None:
    folder = scaffold.create(NAMES, tmp_path)[0].parent
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", "/dev/null"),
            *(
                "--cache-dir",
                str(tmp_path / "cache"),
                "--follow-imports",
                "silent",
                "src/night_look",
            ),
        ],
        cwd=folder,
        env={"PATH": "", "MYPYPATH": f"{folder}/src:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
