"""What may be imported where: a gateway needs neither Ray nor torch nor OpenCV.

The rules between our own packages are import-linter's, in the tier `lint`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.required import ROOT, require

pytestmark = pytest.mark.contract

HEAVY: Final = ("ray", "torch", "diffusers", "transformers", "cv2")

IMPORT_ALL: Final = """
import importlib, pkgutil, sys
for name in {packages!r}:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(found.name)
print(*sorted({heavy!r} & set(sys.modules)))
"""


def loaded(python: Path, *packages: str) -> list[str]:
    """Imports all modules of packages in a new process; returns the heavy ones that came along."""
    code = IMPORT_ALL.format(packages=packages, heavy=set(HEAVY))
    done = subprocess.run(
        [python, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_environment_of_a_gateway_has_none_of_the_heavy_packages() -> None:
    python = require(".venvs/gateway/bin/python")
    code = f"import importlib.util as u; print(*[n for n in {HEAVY!r} if u.find_spec(n)])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "package", ["gateway", "sdk_adapters.reactor", "scheduler.core", "scheduler.process"]
)
def test_everything_of_a_gateway_imports_without_them(package: str) -> None:
    assert loaded(require(".venvs/gateway/bin/python"), package) == []


def test_the_command_runs_in_the_environment_of_a_gateway() -> None:
    command = require(".venvs/gateway/bin/sana-gateway")
    done = subprocess.run(
        [command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout


def test_a_gateway_loads_none_of_them_where_they_are_installed() -> None:
    assert loaded(Path(sys.executable), "gateway", "sdk_adapters.reactor") == []


def test_the_engine_and_its_media_load_neither_ray_nor_torch() -> None:
    heavy = loaded(Path(sys.executable), "model_actor.engine", "model_actor.media")
    assert {"ray", "torch", "diffusers", "transformers"} & set(heavy) == set()
