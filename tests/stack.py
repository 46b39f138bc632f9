"""A running service for tests: `sana-gateway serve` and its roles, as users start them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests import logs

ROOT = Path(__file__).resolve().parent.parent
TAG = "SANA_TEST_ROLE"
"""Variable by which all that a role started is known, whoever its parent became."""
START_S = 90
STOP_S = 40
LAST_WORDS = 4000
_RAY_SESSION = re.compile(r"/[^ =]*/session_\d[^/ ]*")


@dataclass(frozen=True)
class Stack:
    """A running service, or one role of it, and all that it started."""

    told: Mapping[str, str]
    """The addresses that it announced."""
    process: subprocess.Popen[bytes]
    log: Path
    """What it logged so far."""
    tag: str

    @property
    def http_url(self) -> str:
        """Where HTTP listens."""
        return self.told["http"]

    @property
    def grpc_address(self) -> str:
        """Where gRPC listens."""
        return self.told["grpc"]

    def stop(self) -> None:
        """Ends it with SIGTERM. Ending it again does nothing.

        Raises:
            RuntimeError: It did not end in order, or left something running.
        """
        if self.process.poll() is None:
            self.keep_logs_of_ray()
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"a role did not end:\n{self.last_words}") from None
        if code != 0:
            raise RuntimeError(f"a role ended with {code}:\n{self.last_words}")
        if left := self.members():
            names = [" ".join(each.cmdline())[:80] for each in left if each.is_running()]
            self.kill()
            raise RuntimeError(f"a role left running: {names}\n{self.last_words}")
        if faults := self.complaints():
            raise RuntimeError("\n".join(["a role logged faults of ours:", *faults])[:LAST_WORDS])

    def keep_logs_of_ray(self) -> None:
        """Has what its workers under Ray logged looked at in the end."""
        sessions = set()
        for each in self.members():
            with contextlib.suppress(psutil.Error):
                if found := _RAY_SESSION.search(" ".join(each.cmdline())):
                    sessions.add(found[0])
        for session in sessions:
            for log in (*Path(session, "logs").glob("*"), Path(session).parent / "ray-start.log"):
                logs.keep(log)

    def complaints(self) -> list[str]:
        """Returns the lines of its log that tell of a fault of ours."""
        marks = ('"level": "error"', '"level": "critical"', "Traceback", "never retrieved")
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if any(mark in line for mark in marks)]

    def kill(self) -> None:
        """Ends it and all that it started, at once."""
        for each in self.members():
            with contextlib.suppress(psutil.Error):
                each.kill()
        self.process.wait()

    def members(self) -> list[psutil.Process]:
        """Returns what runs of it; a process that nobody has reaped does not."""
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if each.environ().get(TAG) == self.tag and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
        return found

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-LAST_WORDS:]


class Announced:
    """A named pipe into which a process writes one JSON line once it serves."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ready"
        os.mkfifo(self.path)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, process: subprocess.Popen[bytes], log: Path, timeout: float) -> dict[str, str]:
        """Returns what was announced.

        Raises:
            RuntimeError: The process ended first, or took too long; with its last words.
        """
        deadline = time.monotonic() + timeout
        while self._reader.is_alive() and process.poll() is None and time.monotonic() < deadline:
            self._reader.join(0.1)
        if not self._lines:
            raise RuntimeError("the service did not start:\n" + log.read_text()[-LAST_WORDS:])
        told: dict[str, str] = json.loads(self._lines[0])
        return told

    def _read(self) -> None:
        self._lines.append(self.path.read_text())


@contextlib.contextmanager
def role(
    *words: str,
    python: Path | str = sys.executable,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Stack]:
    """Runs `sana-gateway` with these words; ends it with SIGTERM.

    Args:
        words: Subcommand and options, without `--ready-file`.
        python: Whose environment to run it in.
        env: Variables to add.
        prefix: Words before the command, for example to run it in a namespace.

    Raises:
        RuntimeError: It did not start, did not end in order, or left something running.
    """
    tag = uuid.uuid4().hex
    logs.forbid((env or {}).get("RAY_AUTH_TOKEN", ""))
    with tempfile.TemporaryDirectory(prefix="sana-test-") as name:
        folder = Path(name)
        announced = Announced(folder)
        log = folder / "log"
        with log.open("ab") as sink:
            logs.keep(log)
            process = subprocess.Popen(
                [
                    *prefix,
                    str(python),
                    *("-m", "gateway.cli", *words, "--ready-file", str(announced.path)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=ROOT,
                env={**os.environ, **(env or {}), TAG: tag},
            )
        starting = Stack({}, process, log, tag)
        try:
            told = announced.wait(process, log, START_S)
            yield Stack(told, process, log, tag)
        except BaseException:
            with contextlib.suppress(RuntimeError):
                starting.stop()
            raise
        starting.stop()


@contextlib.contextmanager
def serving(
    *options: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> Iterator[Stack]:
    """Runs `sana-gateway serve` with free ports; ends it with SIGTERM.

    Raises:
        RuntimeError: It did not start, did not end in order, or left something running.
    """
    ports = ("--http-port", "0", "--grpc-port", "0")
    with role("serve", *ports, *options, env=env, prefix=prefix) as running:
        yield running
