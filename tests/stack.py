"""A running service for tests: `sana-gateway serve` as its users start it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Stack:
    """A running service."""

    http_url: str
    grpc_address: str
    process: subprocess.Popen[bytes]
    log: Path
    """What it logged so far."""


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
            raise RuntimeError("the service did not start:\n" + log.read_text()[-4000:])
        return json.loads(self._lines[0])

    def _read(self) -> None:
        self._lines.append(self.path.read_text())


@contextlib.contextmanager
def serving(*options: str, env: dict[str, str] | None = None) -> Iterator[Stack]:
    """Runs `sana-gateway serve` with free ports; ends it with SIGTERM.

    Raises:
        RuntimeError: It did not start, or did not end in order.
    """
    with tempfile.TemporaryDirectory(prefix="sana-test-") as name:
        folder = Path(name)
        announced = Announced(folder)
        log = folder / "log"
        command: Sequence[str] = (
            sys.executable, "-m", "gateway.cli", "serve", "--http-port", "0", "--grpc-port", "0",
            "--ready-file", str(announced.path), *options,
        )  # fmt: skip
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, stdout=sink, stderr=sink, cwd=ROOT, env={**os.environ, **(env or {})}
            )
        try:
            told = announced.wait(process, log, timeout=90)
            yield Stack(told["http"], told["grpc"], process, log)
        finally:
            process.terminate()
            try:
                code = process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise RuntimeError("the service did not end:\n" + log.read_text()[-4000:]) from None
        if code != 0:
            raise RuntimeError(f"the service ended with {code}:\n" + log.read_text()[-4000:])
