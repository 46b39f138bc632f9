"""What the benchmark found: figures with their spread, and what they were taken on."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from tests.stack import ROOT

SCHEMA: Final = "sana-gateway/bench-media/1"
"""Changes when a field of the JSON changes its name or its meaning."""
OURS, FLOOR, NAIVE, INCUMBENT, STOCK = "ours", "floor", "naive", "incumbent", "stock aiortc"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to be."""

    limit: float
    at_least: bool = False
    """Whether more is better."""

    def met_by(self, value: float) -> bool:
        """Tells whether a median is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit

    @property
    def text(self) -> str:
        """For people."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured, once a run."""

    row: str
    """The row of the table of measurements that it belongs to."""
    name: str
    """What, for people; the same for all systems that it is compared over."""
    system: str
    """Whose."""
    unit: str
    values: tuple[float, ...]
    """One of each run."""
    target: Target | None = None
    quoted: bool = False
    """Not measured in this run but written down from an earlier one."""
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    """What explains it: shares of processes and threads, for example."""

    @property
    def median(self) -> float:
        """The figure to compare."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether it reaches its target; None without one."""
        return None if self.target is None else self.target.met_by(self.median)


@dataclass(frozen=True, slots=True)
class Machine:
    """What it was measured on."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    load_before: float
    """Load average over the minute before the first measurement."""


@dataclass(frozen=True, slots=True)
class Report:
    """All of one run of the benchmark."""

    commit: str
    """With `+` where the tree has changes that are not committed."""
    began: str
    """UTC, ISO 8601."""
    seconds: float
    runs: int
    quick: bool
    machine: Machine
    versions: dict[str, str]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""

    def as_json(self) -> dict[str, Any]:
        """Returns it as plain values, figures with median, least and most."""
        plain = asdict(self)
        plain["figures"] = [_plain(figure) for figure in self.figures]
        return {"schema": SCHEMA, **plain}


def figure_of(plain: dict[str, Any]) -> Figure:
    """Reads a figure of a JSON report back."""
    target = plain.get("target")
    return Figure(
        row=plain["row"],
        name=plain["name"],
        system=plain["system"],
        unit=plain["unit"],
        values=tuple(plain["values"]),
        target=None if target is None else Target(**target),
        quoted=plain["quoted"],
        note=plain["note"],
        detail=plain["detail"],
    )


def report_of(plain: dict[str, Any]) -> Report:
    """Reads a JSON report back.

    Raises:
        ValueError: It is one of another schema.
    """
    if plain.get("schema") != SCHEMA:
        raise ValueError(f"expected a report of schema {SCHEMA}")
    known = {key: plain[key] for key in ("commit", "began", "seconds", "runs", "quick", "versions")}
    return Report(
        **known,
        machine=Machine(**plain["machine"]),
        figures=tuple(figure_of(each) for each in plain["figures"]),
        notes=tuple(plain["notes"]),
    )


def machine() -> Machine:
    """Describes this machine."""
    return Machine(
        cpu=_cpu_model(),
        cores=os.cpu_count() or 0,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=f"{platform.system()} {platform.release()}, CPython {platform.python_version()}",
        load_before=round(os.getloadavg()[0], 2),
    )


def commit() -> str:
    """Returns the commit of the tree; `unknown` outside a checkout."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return "unknown" if not head else head + ("+" if _git("status", "--porcelain") else "")


def now() -> str:
    """Returns the time for a report."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions(names: Sequence[str] = ("aiortc", "av", "grpcio", "numpy", "ray")) -> dict[str, str]:
    """Returns the versions of what matters here."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def _plain(figure: Figure) -> dict[str, Any]:
    plain = asdict(figure)
    values = figure.values
    return {
        **plain,
        "median": figure.median,
        "min": min(values),
        "max": max(values),
        "met": figure.met,
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
