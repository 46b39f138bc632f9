"""Commands that cannot do what they were told: one sentence, status 2, nothing left running."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.required import ROOT, require
from tests.stack import role

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

IN_PROCESS = ("--backend", "in-process", "--model", "simulated")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def refusal(*words: str, python: Path | str = sys.executable) -> list[str]:
    """Runs a command that is refused; returns what it said in its own name."""
    ended = subprocess.run(
        [str(python), "-m", "gateway.cli", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=90,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2, ended.stderr
    mark = "sana-gateway: "
    lines = ended.stderr.splitlines()
    return [line.removeprefix(mark) for line in lines if line.startswith(mark)]


def test_serve_ends_with_the_reason_that_its_head_gives() -> None:
    said = refusal("serve", "--backend", "in-process", "--model", "nosuch")
    assert said[0].startswith("no plugin 'nosuch' in sana_gateway.models")
    assert said[1:] == ["scheduler and actors did not start (exit status 2)"]


def test_an_unknown_auth_plugin_is_refused_before_the_head_is_started() -> None:
    [said] = refusal("serve", "--auth", "nosuch")
    assert said.startswith("no plugin 'nosuch' in sana_gateway.auth")


def test_a_port_in_use_ends_serve_and_what_it_had_started(taken_port: int) -> None:
    [said] = refusal("serve", *IN_PROCESS, "--http-port", str(taken_port), "--grpc-port", "0")
    assert said == f"HTTP cannot listen on 127.0.0.1:{taken_port}: Address already in use"


def test_without_the_extras_the_one_to_install_is_named() -> None:
    python = require(".venvs/gateway/bin/python")
    [no_ray] = refusal("serve", "head", python=python)
    assert "sana-gateway[ray]" in no_ray
    assert "--backend in-process" in no_ray
    [no_opencv] = refusal("serve", "head", "--backend", "in-process", python=python)
    assert "sana-gateway[painter]" in no_opencv


def test_an_actor_without_a_head_to_join_says_so() -> None:
    [said] = refusal("serve", "actor", "--join", "127.0.0.1:1", "--join-timeout", "0")
    assert said.startswith("no Ray head answers at 127.0.0.1:1")


@pytest.mark.parametrize("role", ["head", "gateway", "actor"])
def test_a_role_without_the_certificate_it_was_told_of_starts_nothing(
    role: str, tmp_path: Path
) -> None:
    needs = {
        "head": (),
        "gateway": ("--storage-root", str(tmp_path)),
        "actor": ("--join", "127.0.0.1:1"),
    }
    [said] = refusal("serve", role, "--tls", str(tmp_path), *needs[role])
    assert said == "the TLS folder has no readable ca.crt: `sana-gateway certs` makes a set"


def test_a_head_that_is_stopped_while_its_actor_starts_ends_in_order() -> None:
    with role("serve", "head", "--placement-port", "0", *IN_PROCESS):
        pass
