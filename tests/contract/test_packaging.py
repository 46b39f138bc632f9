"""The two distributions: what their wheels hold, and that their entry points lead somewhere."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import scheduler
from scheduler.process import plugins
from tests.required import ROOT

pytestmark = pytest.mark.contract

GROUPS = tuple(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"])


def wheel(folder: Path, out: Path) -> set[str]:
    """Builds a wheel with the build backend itself; returns the names of its files."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=folder,
        capture_output=True,
        check=True,
    )
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return wheel(ROOT, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return wheel(ROOT / "sdk_adapters/python", tmp_path_factory.mktemp("client"))


def packages(names: set[str]) -> set[str]:
    return {top for name in names if not (top := name.partition("/")[0]).endswith(".dist-info")}


def test_the_server_wheel_holds_our_packages_and_no_others(server: set[str]) -> None:
    assert packages(server) == {
        "gateway",
        "model_actor",
        "scheduler",
        "sdk_adapters",
        "sana_gateway_internal",
    }


def test_the_internal_stubs_lie_at_the_top_of_the_server_wheel(server: set[str]) -> None:
    assert "sana_gateway_internal/v1/stream_pb2.py" in server
    assert "sana_gateway_internal/v1/stream_pb2_grpc.py" in server


def test_the_client_alone_ships_the_public_stubs(server: set[str], client: set[str]) -> None:
    assert packages(client) == {"sana_gateway"}
    assert "sana_gateway/v1/session_pb2.py" in client
    assert not [name for name in server if "session_pb2" in name]


def test_the_sources_of_the_clients_stay_out_of_the_server_wheel(server: set[str]) -> None:
    outside = ("sdk_adapters/python/", "sdk_adapters/typescript/", "sdk_adapters/web/")
    assert not [name for name in server if name.startswith(outside)]


def test_both_wheels_are_typed(server: set[str], client: set[str]) -> None:
    typed = {name for name in server | client if name.endswith("/py.typed")}
    assert typed >= {
        "gateway/py.typed",
        "model_actor/py.typed",
        "scheduler/py.typed",
        "sana_gateway/py.typed",
    }


def test_the_wheel_ships_every_file_that_the_source_reads(server: set[str]) -> None:
    data = {
        path.relative_to(ROOT).as_posix()
        for package in ("gateway", "model_actor", "scheduler")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".py"}
    }
    assert data - server == set()


@pytest.mark.parametrize("group", GROUPS)
def test_every_entry_point_leads_to_something(group: str) -> None:
    assert [status for status in plugins.report(group) if status.error] == []


def test_the_package_called_scheduler_is_ours() -> None:
    # The name is a common one: another distribution of that name would shadow it.
    assert Path(scheduler.__file__ or "").parent == ROOT / "scheduler"
