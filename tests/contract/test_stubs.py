"""The committed stubs are what the generators make, and run on the declared floors."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.required import ROOT, require

pytestmark = pytest.mark.contract


def generator_version(folder: str) -> str:
    """Returns the grpcio-tools that the stubs of a folder were made with."""
    versions: set[str] = {
        version
        for path in (ROOT / folder).glob("*_pb2_grpc.py")
        for version in re.findall(r"GRPC_GENERATED_VERSION = '([\d.]+)'", path.read_text())
    }
    (version,) = versions
    return version


def dependencies(pyproject: str) -> list[str]:
    project = tomllib.loads((ROOT / pyproject).read_text())["project"]
    names: list[str] = project["dependencies"]
    return names


def test_the_stubs_are_fresh() -> None:
    require(".venvs/proto-client/bin/python")
    require(Path(sys.executable).parent / "protoc-gen-mypy")
    done = subprocess.run(
        [sys.executable, "proto/generate.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("folder", "pyproject"),
    [
        ("proto/sana_gateway_internal/v1", "pyproject.toml"),
        ("sdk_adapters/python/sana_gateway/v1", "sdk_adapters/python/pyproject.toml"),
    ],
)
def test_the_floor_of_grpcio_is_the_version_that_the_stubs_ask_for(
    folder: str, pyproject: str
) -> None:
    assert f"grpcio>={generator_version(folder)}" in dependencies(pyproject)
