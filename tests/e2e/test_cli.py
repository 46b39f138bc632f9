"""Commands that cannot do what they were told: one sentence, status 2, nothing left running."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.required import ROOT, require
from tests.stack import role

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

IN_PROCESS = ("--backend", "in-process", "--model", "simulated")


@dataclass(frozen=True)
class Place:
    """What commands find where they run."""

    port: int
    """Somebody listens there."""
    empty: Path
    """A folder with nothing in it."""


Words = Callable[[Place], Sequence[str]]
COMMANDS: dict[str, Words] = {
    "unknown model": lambda _: ("serve", "--backend", "in-process", "--model", "nosuch"),
    "unknown auth": lambda _: ("serve", "--auth", "nosuch"),
    "port in use": lambda place: (
        *("serve", *IN_PROCESS, "--http-port", str(place.port), "--grpc-port", "0"),
    ),
    "no head": lambda _: ("serve", "actor", "--join", "127.0.0.1:1", "--join-timeout", "0"),
    "head without certificate": lambda place: ("serve", "head", "--tls", str(place.empty)),
    "gateway without certificate": lambda place: (
        *("serve", "gateway", "--tls", str(place.empty), "--storage-root", str(place.empty)),
    ),
    "actor without certificate": lambda place: (
        *("serve", "actor", "--tls", str(place.empty), "--join", "127.0.0.1:1"),
    ),
}
"""Commands that are refused, by what is wrong with them."""
BARE_COMMANDS: dict[str, Words] = {
    "no ray": lambda _: ("serve", "head"),
    "no opencv": lambda _: ("serve", "head", "--backend", "in-process"),
    "no harness": lambda _: ("load", "smoke"),
}
"""Those that are refused in an environment without the extras."""


def refusal(python: Path | str, words: Sequence[str]) -> list[str]:
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


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield Place(taken.getsockname()[1], tmp_path_factory.mktemp("empty"))


Said = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def said(place: Place) -> Iterator[Said]:
    """Tells what a command said. They run two at a time: most of it is importing."""
    bare = ROOT / ".venvs/gateway/bin/python"
    with ThreadPoolExecutor(2) as threads:
        running = {
            name: threads.submit(refusal, python, words(place))
            for python, commands in ((sys.executable, COMMANDS), (bare, BARE_COMMANDS))
            for name, words in commands.items()
        }
        yield lambda name: running[name].result()


def test_serve_ends_with_the_reason_that_its_head_gives(said: Said) -> None:
    reason, ended = said("unknown model")
    assert reason.startswith("no plugin 'nosuch' in sana_gateway.models")
    assert ended == "scheduler and actors did not start (exit status 2)"


def test_an_unknown_auth_plugin_is_refused_before_the_head_is_started(said: Said) -> None:
    [reason] = said("unknown auth")
    assert reason.startswith("no plugin 'nosuch' in sana_gateway.auth")


def test_a_port_in_use_ends_serve_and_what_it_had_started(said: Said, place: Place) -> None:
    wanted = f"HTTP cannot listen on 127.0.0.1:{place.port}: Address already in use"
    assert said("port in use") == [wanted]


@pytest.mark.parametrize(
    ("command", "extra", "way_out"),
    [
        ("no ray", "ray", "--backend in-process"),
        ("no opencv", "painter", ""),
        ("no harness", "load", "pip install"),
    ],
)
def test_without_the_extras_the_one_to_install_is_named(
    said: Said, command: str, extra: str, way_out: str
) -> None:
    require(".venvs/gateway/bin/python")
    [reason] = said(command)
    assert f"sana-gateway[{extra}]" in reason
    assert way_out in reason


def test_an_actor_without_a_head_to_join_says_so(said: Said) -> None:
    [reason] = said("no head")
    assert reason.startswith("no Ray head answers at 127.0.0.1:1")


@pytest.mark.parametrize("role", ["head", "gateway", "actor"])
def test_a_role_without_the_certificate_it_was_told_of_starts_nothing(
    said: Said, role: str
) -> None:
    wanted = "the TLS folder has no readable ca.crt: `sana-gateway certs` makes a set"
    assert said(f"{role} without certificate") == [wanted]


def test_a_head_that_is_stopped_while_its_actor_starts_ends_in_order() -> None:
    with role("serve", "head", "--placement-port", "0", *IN_PROCESS):
        pass
