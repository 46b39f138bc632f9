"""The scan of all logs of a run: it finds what is planted, and leaves what logs are made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import logs
from tests.contract.test_rules_of_tests import run
from tests.required import ROOT

pytestmark = pytest.mark.contract

KEY = "rk_" + "x" * 43
TOKEN = f"eyJhbGciOiJIUzI1NiJ9.{'y' * 40}.{'z' * 43}"


@pytest.fixture(scope="module")
def scan() -> logs.Scan:
    return logs.Scan(logs.prompts(ROOT / "tests"), ["hunter2-of-turn"])


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("an API key", f'{{"event": "x", "key": "{KEY}"}}'),
        ("a token", f"refused {TOKEN}"),
        ("an Authorization header", '{"headers": {"Authorization": "x"}}'),
        ("an Authorization header", "sent Bearer abcdefghijklmnop"),
        ("a private key", "-----BEGIN EC PRIVATE KEY-----"),
        ("a password of ICE", "a=ice-pwd:abcdefghijklmnopqrstuvwx"),
        ("a description of media", "m=video 9 UDP/TLS/RTP/SAVPF 96"),
        ("a login of TURN", "turn:user:password@turn.example.org:3478"),
        ("a name of a video", "cannot open holiday.mp4"),
        ("a prompt", '{"event": "x", "what": "a watercolour of a harbour"}'),
        ("a secret", "hunter2-of-turn"),
    ],
)
def test_what_must_not_be_logged_is_found_with_its_line(
    scan: logs.Scan, kind: str, line: str
) -> None:
    assert set(scan.faults(f"before\n{line}\nafter")) == {f"{kind}: {line}"}


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "token.issued", "key": "web", "tenant": "acme", "level": "info"}',
        '{"event": "session.created", "session_id": "3f2b9c", "trace_id": "4bf92f3577b34da6"}',
        '{"event": "door.in_the_clear", "address": "0.0.0.0:8080", "remedy": "--tls-cert FILE"}',
        "turn:turn.example.org:3478 does not answer",
        "the prompt is longer than 2000 characters",
    ],
)
def test_what_logs_are_made_of_is_left(scan: logs.Scan, line: str) -> None:
    assert scan.faults(line) == []


def test_prompts_are_known_from_the_tests_themselves(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        "FIRST_PROMPT = 'an owl of porcelain'\n"
        "async def test_x():\n"
        "    await session.set_prompt('a badger of brass')\n"
        "    send(prompt='a hare of cork', other='not a prompt')\n"
        "    send({'prompt': f'a newt of glass with {stuff}'})\n"
        "    await session.set_prompt('short')\n"
    )
    (tmp_path / "page.js").write_text(
        "await session.setPrompt('a crab of tin');\nsend({ prompt: \"a wolf of wool\" });\n"
    )
    assert logs.prompts(tmp_path) == {
        "an owl of porcelain", "a badger of brass", "a hare of cork", "a newt of glass with",
        "a crab of tin", "a wolf of wool",
    }  # fmt: skip
    assert "quetzalcoatl in marzipan" in logs.prompts(ROOT / "tests")


PLANTED = """
import pathlib
import sys

import pytest

from tests import logs

pytestmark = pytest.mark.unit
SECOND_PROMPT = "a badger of brass"
THIRD_PROMPT = "a hare of cork"
FOURTH_PROMPT = "a newt of glass"
FIFTH_PROMPT = "a wolf of wool"
SIXTH_PROMPT = "a crab of tin"


def written(text):
    log = pathlib.Path(text.replace(" ", "-"))
    log.write_text(f"set {text}")
    return log


def test_a_service_logs_it():
    logs.keep(written(SECOND_PROMPT))


def test_a_log_is_removed():
    log = written(THIRD_PROMPT)
    logs.keep(log)
    log.unlink()


def test_its_own_process_says_it():
    print(f"2026-11-23 06:21:43 [info     ] set {FOURTH_PROMPT}")
    print(FIFTH_PROMPT)
    print(f"careful: {SIXTH_PROMPT}", file=sys.stderr)


def test_a_secret_without_a_form_is_logged():
    logs.forbid("s3cret", "")
    logs.keep(written("s3cret"))
"""


def test_a_run_fails_when_something_is_planted(tmp_path: Path) -> None:
    done = run(tmp_path, "tests/unit/test_x.py", PLANTED)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "4 passed" in done.stdout
    for words in ("set a badger of brass", "set a hare of cork", "careful: a crab of tin"):
        assert f"a prompt: {words}" in done.stdout
    assert "set a newt of glass" in done.stdout
    assert "a wolf of wool" not in done.stdout, "what a command prints is no log"
    assert "a secret: set s3cret" in done.stdout
