"""`sana-gateway load` as people and pipelines run it, each time with a service of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import psutil
import pytest

from sdk_adapters.harness.report.model import LoadReport, parse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

LOAD = (sys.executable, "-m", "gateway.cli", "load")
TAG = "SANA_TEST_LOAD"
"""Variable by which all that a command started is known."""
SCENARIO = """
name: tiny
duration: {duration}
warm_up: 0s
workload:
  crowds: [{{at: 0s, sessions: 2, over: 0.5s}}]
  session: {{kind: fixed, value: 1h}}
  think: {{kind: fixed, value: 100ms}}
  play: {{kind: fixed, value: 1h}}
  live_share: 0
pool:
  gpus: 1
  gpus_at_start: 1
  scaling: {{spare_gpus: 1}}
  model: {{name: simulated, chunk_ms: 50, chunk_jitter_ms: 0}}
load: {{wires: {{grpc: 1}}, decode: 0, processes: 1, limits: {limits}}}
slo:
  sessions_lost: {{total: 0}}
  frames_shown: {{total: {frames}}}
"""
ANY = "{generator_cpu: 1, generator_lag_ms: 60000}"
"""On a machine that runs other tests beside this one the generator is late at times."""


class Command:
    """A load test in a process group of its own, as a shell begins it."""

    def __init__(self, folder: Path, **changes: object) -> None:
        scenario = folder / "tiny.yaml"
        wanted = {"duration": "4s", "limits": ANY, "frames": 1, **changes}
        scenario.write_text(SCENARIO.format(**wanted))
        self.out = folder / "out"
        self._tag = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [*LOAD, str(scenario), "--plain", "--out", str(self.out)],
            env={**os.environ, TAG: self._tag},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def lines(self) -> Iterator[str]:
        """Yields what it prints."""
        assert self.process.stdout is not None
        yield from self.process.stdout

    def send(self, what: signal.Signals) -> None:
        """Sends a signal to all, as a terminal does for Ctrl-C, and `timeout` at its end."""
        os.killpg(self.process.pid, what)

    def members(self) -> list[psutil.Process]:
        """Returns what runs of it."""
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if each.environ().get(TAG) == self._tag and each.status() != "zombie":
                    found.append(each)
        return found

    @property
    def report(self) -> LoadReport:
        """What it left."""
        return parse((self.out / "report.json").read_bytes(), "report.json")


@contextlib.contextmanager
def load(folder: Path, **changes: object) -> Iterator[Command]:
    """Runs a load test; nothing of it runs on afterwards."""
    command = Command(folder, **changes)
    try:
        yield command
        assert [each.cmdline() for each in command.members()] == []
    finally:
        for each in command.members():
            with contextlib.suppress(psutil.Error):
                each.kill()
        command.process.wait()


def test_a_run_leaves_its_reports_and_passes(tmp_path: Path) -> None:
    with load(tmp_path) as command:
        said, _ = command.process.communicate()
        assert command.process.returncode == 0, said
    assert "PASSED: All 2 thresholds were met." in said
    assert str(command.out / "report.html") in said
    left = {path.name for path in command.out.iterdir()}
    assert {"report.html", "report.json", "report.md", "junit.xml", "service.log"} <= left
    assert command.report.passed
    assert command.report.sessions.counted == 2
    suites = ET.parse(command.out / "junit.xml").getroot()  # noqa: S314 - ours
    assert [each.get("tests") for each in suites] == ["3"]


@pytest.mark.parametrize(
    "what", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_ends_it_early_and_what_was_measured_is_kept(
    tmp_path: Path, what: signal.Signals
) -> None:
    with load(tmp_path, duration="200s") as command:
        said, interrupted = [], False
        for line in command.lines():
            said.append(line)
            if "2 playing" in line and not interrupted:
                command.send(what)
                interrupted = True
        command.process.wait()
        assert command.process.returncode == 2, "".join(said)
    assert any("Ending the run early" in line for line in said)
    assert command.report.run.measured_s[1] < 200
    assert command.report.sessions.counted == 2
    assert any("was ended early" in note for note in command.report.notes)
    assert "The run was ended early." in (command.out / "report.html").read_text("utf-8")


def test_a_service_that_is_not_there_is_said_in_plain_words(tmp_path: Path) -> None:
    done = subprocess.run(
        [*LOAD, "smoke", "--target", "127.0.0.1:1", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "is --target the host:port of its gRPC?" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
