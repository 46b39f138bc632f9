"""The Reactor SDKs in environments of their own, and how their scripts are run."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.media.clips import Recipe, make
from tests.required import ROOT, require

HERE: Final = Path(__file__).resolve().parent
LIMIT_S: Final = 120.0
"""Longest time of a script for each of its flows."""


@dataclass(frozen=True)
class Sdk:
    """One release of the SDK."""

    client: str
    """Its row in the matrix."""
    script: Path
    environment: str
    """Folder below `.venvs`."""
    variable: str
    """Names the interpreter, where it is not the one of `make setup`."""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        told = os.environ.get(self.variable)
        return Path(told) if told else require(f".venvs/{self.environment}/bin/python")


SDKS: Final = {
    "native": Sdk(
        "reactor-sdk 1.13.0", HERE / "client_native.py", "reactor-native", "REACTOR_NATIVE_PYTHON"
    ),
    "py08": Sdk(
        "reactor-sdk 0.8.0", HERE / "client_py08.py", "reactor-py08", "REACTOR_PY08_PYTHON"
    ),
}


async def drive(
    name: str, url: str, mode: str, flows: Sequence[str], clips: Path, size: str = "1280x704"
) -> dict[str, Any]:
    """Goes through flows, one after the other, in one process; returns its reports by flow.

    Raises:
        AssertionError: It reported nothing; with its last words.
    """
    words = (url, mode, ",".join(flows), str(clips), "--size", size)
    sdk = SDKS[name]
    limit_s = LIMIT_S * len(flows)
    out, err = await run(
        sdk.python, str(sdk.script), *words, "--timeout", str(LIMIT_S - 20), limit_s=limit_s
    )
    reports = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert reports, err[-4000:]
    for report in reports:
        report["stderr"] = err[-4000:]
    return {report["flow"]: report for report in reports}


async def run(python: Path, *words: str, limit_s: float) -> tuple[str, str]:
    """Runs a script to its end; returns what it printed, and its complaints.

    Raises:
        TimeoutError: It did not end.
    """
    process = await asyncio.create_subprocess_exec(
        str(python),
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(limit_s):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode(), err.decode()


def passed(report: Any) -> Any:
    """Returns the report of a flow that went well.

    Raises:
        AssertionError: It did not.
    """
    if isinstance(report, BaseException):
        raise report
    shown = {key: it for key, it in report.items() if key != "stderr"}
    assert report["ok"], f"{report['failure']}\n{shown}\n{report['stderr']}"
    return report


def make_clips(folder: Path) -> Path:
    """Writes the clips that the flows use, good ones and bad ones."""
    make(folder / "moving.mp4", Recipe(frames=57))
    make(folder / "short.mp4", Recipe(frames=40))
    make(folder / "few.mp4", Recipe(frames=20))
    (folder / "text.mp4").write_text("This is no video.\n" * 100)
    return folder
