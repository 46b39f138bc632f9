"""The audit log: who, what, to what, when and with which result; appended, private, no content."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.registry import REGISTRY
from structlog.testing import capture_logs

from gateway.audit import LONGEST, AuditLog
from scheduler.core.errors import ConfigurationError, ForbiddenError
from scheduler.core.ids import Holder, Principal

pytestmark = pytest.mark.unit

WHO = Principal(
    "staff",
    frozenset({"operator", "session"}),
    (Holder("tenant:staff"), Holder("key:ops", 3), Holder("token:abc")),
)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_a_line_says_who_did_what_when_and_with_which_result(path: Path) -> None:
    log = AuditLog(str(path), clock=lambda: 1_700_000_000.5)
    log.record(WHO, "actor.drain", "a1", grace_s=60.0)
    assert lines(path) == [
        {
            "time": "2023-11-14T22:13:20.500+00:00",
            "role": "gateway",
            "pid": os.getpid(),
            "tenant": "staff",
            "key": "ops",
            "scopes": ["operator", "session"],
            "action": "actor.drain",
            "target": "a1",
            "outcome": "done",
            "grace_s": 60.0,
        }
    ]


def test_what_nobody_called_for_has_no_caller(path: Path) -> None:
    AuditLog(str(path), role="keys").record(None, "keys.reload", added="web")
    (line,) = lines(path)
    assert (line["role"], line["tenant"], line["key"]) == ("keys", None, None)


def test_without_a_file_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    log = AuditLog()
    assert not log.is_on
    log.record(WHO, "actor.drain")
    log.close()
    assert capfd.readouterr().out == ""


def test_it_is_appended_to_and_its_owners_alone(path: Path) -> None:
    for action in ("first", "second"):
        log = AuditLog(str(path))
        log.record(WHO, action)
        log.close()
        log.close()
    assert [each["action"] for each in lines(path)] == ["first", "second"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lines_of_several_processes_do_not_mix(path: Path) -> None:
    script = (
        "import sys; from gateway.audit import AuditLog; log = AuditLog(sys.argv[1])\n"
        "for _ in range(200): log.record(None, 'x' * 150, 'y' * 150)"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(2)]
    assert [each.wait(60) for each in running] == [0, 0]
    assert len(lines(path)) == 400


def test_a_file_that_was_moved_away_is_made_again(path: Path, tmp_path: Path) -> None:
    log = AuditLog(str(path))
    log.record(WHO, "first")
    path.rename(tmp_path / "audit.1")
    log.record(WHO, "second")
    assert [each["action"] for each in lines(path)] == ["second"]
    assert [each["action"] for each in lines(tmp_path / "audit.1")] == ["first"]


def test_standard_output_is_a_file_too(capfd: pytest.CaptureFixture[str]) -> None:
    log = AuditLog("-")
    log.record(WHO, "actor.drain")
    log.close()
    assert json.loads(capfd.readouterr().out)["action"] == "actor.drain"


def test_a_target_cannot_make_a_line_of_its_own_and_is_cut(path: Path) -> None:
    AuditLog(str(path)).record(WHO, "actor.drain", '"}\n{"action": "forged' + "x" * 5000)
    (line,) = lines(path)
    assert line["action"] == "actor.drain"
    assert len(line["target"]) == LONGEST


@pytest.mark.parametrize("name", ["none/audit.jsonl", "."])
def test_a_file_that_cannot_be_appended_to_keeps_the_gateway_from_starting(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigurationError):
        AuditLog(str(tmp_path / name))


def test_a_line_that_is_lost_is_an_error_and_stops_nobody(path: Path) -> None:
    log = AuditLog(str(path))
    path.unlink()
    path.mkdir()
    before = REGISTRY.get_sample_value("sana_gateway_audit_lost_total") or 0.0
    with capture_logs() as said:
        log.record(WHO, "actor.drain")
    assert [each["event"] for each in said] == ["audit.lost"]
    assert REGISTRY.get_sample_value("sana_gateway_audit_lost_total") == before + 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "done"),
        (ForbiddenError("no"), "refused:FORBIDDEN"),
        (ValueError("secret"), "failed"),
        (asyncio.CancelledError(), "left"),
    ],
)
def test_what_becomes_of_a_block_is_its_outcome(
    path: Path, error: BaseException | None, outcome: str
) -> None:
    log = AuditLog(str(path))
    block = log.around(WHO, "session.end", "s1")
    block.__enter__()
    assert not block.__exit__(type(error) if error else None, error, None), "it is raised on"
    (line,) = lines(path)
    assert (line["outcome"], line["target"]) == (outcome, "s1")
    assert "secret" not in path.read_text()
