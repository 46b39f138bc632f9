"""Runs the checks and tests tier by tier and counts what passed.

Usage: .venv/bin/python tools/tiers.py [TIER ...]

Without arguments, all tiers but `slow`. A failed tier does not keep the next from running. Tiers
that need the processors alone run beside one that mostly waits (`BESIDE`).
Prints a table and, as the last line, `N passed, N failed, N skipped` over all of them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import TextIO
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / ".cache/tests"
BYTECODE = ROOT / ".cache/bytecode"
"""Where compiled modules are kept, apart from the sources. Without them, as where
PYTHONDONTWRITEBYTECODE is set, each of hundreds of processes compiles all that it imports: a
service takes 6 s of a processor to start instead of 2."""
BIN = Path(sys.executable).parent
NO_TESTS = 5
"""Exit status of pytest when it found no test."""

COMMANDS = {
    "lint": (
        ("ruff", "check", "--quiet", "."),
        ("ruff", "format", "--quiet", "--check", "."),
        ("lint-imports", "--no-cache"),
    ),
    "types": (("mypy",),),
}
"""Tiers of plain commands; each counts as one test."""

FOLDERS = {
    "unit": ("unit", "properties"),
    "contract": ("contract",),
    "media": ("media",),
    "integration": ("integration",),
    "e2e": ("e2e",),
}
"""Tiers of tests, by their folders."""

SPREAD = {
    "unit": "worksteal",
    "contract": "worksteal",
    "media": "worksteal",
    "integration": "loadfile",
    "e2e": "loadfile",
}
"""Tiers whose tests share the processors, and how xdist spreads them (its option `--dist`).

Tests marked `alone` run after them, one after the other.
"""
MOST_WORKERS = 4
WAITING = {"e2e": 1}
"""Workers beyond the processors: tests that play video at its own pace wait most of their time."""
IN_ORDER = {"e2e": ("--no-loadscope-reorder",)}
"""Tiers whose tests come in an order of their own, the longest first (tests/e2e/conftest.py)."""
BESIDE = {"e2e": ("types", "contract")}
"""Tiers that run while another one waits, where both are asked for; what they say comes after.

None whose tests have deadlines: they get what the other leaves of the processors (`LOW`).
"""
LOW = ("sh", "-c", '(echo 19 > /proc/self/autogroup) 2>&-; exec nice -n 19 "$@"', "low")
"""Words before a command that goes last; where the kernel shares processors out among sessions
(sched_autogroup), niceness counts within a session alone, and the session has one of its own.
"""
ALONE = "alone"
_ALONE = re.compile(rf"mark\.{ALONE}\b")
MOST_AGAIN = 5
"""Failed tests of a spread tier that are run once more, alone.

Beside others a test may fail because it did not get the processor in time; what fails alone too
is a failure, and so is more than this. The report names them and counts them (`again`).
"""

MATRIX = "e2e"
"""The tier whose tests fill the table of clients, modes and flows."""
MATRIX_TABLE = ("python", "-m", "tests.e2e.reactor.matrix")
"""Prints it; fails when somebody did not get through something."""

SLOW = "slow"
LIMIT_S = {SLOW: 5 * 3600}
"""Longest time of a tier; the others have `DEFAULT_LIMIT_S`."""
DEFAULT_LIMIT_S = 900
GRACE_S = 30
"""Time for a command that was interrupted to end what it started."""


@dataclass(frozen=True)
class Count:
    """Outcome of a tier."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    again: int = 0
    """Of those that passed: failed beside others and passed alone."""
    seconds: float = 0.0

    def __add__(self, other: Count) -> Count:
        """Adds up two outcomes."""
        return Count(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.again + other.again,
            self.seconds + other.seconds,
        )

    @property
    def line(self) -> str:
        """The plain closing line."""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass(frozen=True)
class Place:
    """Where commands run: with what priority, and where they say something."""

    prefix: tuple[str, ...] = ()
    """Words before each command."""
    out: TextIO | None = None
    """File of what they say; None: it is shown."""
    lock: Lock = field(default_factory=Lock)
    """Held while a command begins, and while the place is closed."""
    closed: Event = field(default_factory=Event)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Says a line."""
        print(line, file=self.out, flush=True)

    def run(self, command: Sequence[str], limit_s: float) -> int:
        """Runs a command in a process group of its own.

        Returns:
            Its exit status; that of a command over its time is not 0, nor that of one that does
            not run because the place is closed.
        """
        words = [*self.prefix, str(BIN / command[0]), *command[1:]]
        errors = None if self.out is None else subprocess.STDOUT
        with self.lock:
            if self.closed.is_set():
                return 130
            self.say(f"$ {' '.join(command)}")
            process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=environment(),
                start_new_session=True,
                stdout=self.out,
                stderr=errors,
            )
            self.running.append(process)
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.say(f"ended after {limit_s:.0f} s")
            return 124
        finally:
            end(process)
            self.running.remove(process)

    def close(self) -> None:
        """Ends what runs here; nothing begins any more."""
        with self.lock:
            self.closed.set()
        for process in tuple(self.running):
            end(process)


def environment() -> dict[str, str]:
    """Returns the variables of commands."""
    told = {**os.environ, "PYTHONPYCACHEPREFIX": str(BYTECODE)}
    told.pop("PYTHONDONTWRITEBYTECODE", None)
    return told


HERE = Place()


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command that still runs, over its time or by Ctrl-C; lets it clean up first."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)


def run_commands(tier: str, place: Place) -> Count:
    """Runs the commands of a tier, all of them."""
    statuses = [place.run(command, DEFAULT_LIMIT_S) for command in COMMANDS[tier]]
    failed = sum(status != 0 for status in statuses)
    return Count(passed=len(statuses) - failed, failed=failed)


def run_tests(tier: str, place: Place, quiet: Callable[[], object]) -> Count:
    """Runs the tests of a tier.

    Args:
        tier: Which one.
        place: Where.
        quiet: Called before tests beside which nothing may run; returns once nothing does.
    """
    slow = tier == SLOW
    folders = ("",) if slow else FOLDERS[tier]
    paths = [path for folder in folders if (path := ROOT / "tests" / folder).is_dir()]
    if not any(file for path in paths for file in path.rglob("test_*.py")):
        return Count()
    chosen = "slow" if slow else "not slow"
    processors = min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    if tier not in SPREAD or processors < 2:
        quiet()
        return run_pytest(tier, tier, paths, chosen, place)
    workers = str(processors + WAITING.get(tier, 0))
    spread = ("--numprocesses", workers, "--dist", SPREAD[tier], *IN_ORDER.get(tier, ()))
    beside = f"{chosen} and not {ALONE}"
    together = run_pytest(tier, tier, paths, beside, place, *spread)
    quiet()
    if 0 < together.failed <= MOST_AGAIN:
        again = run_pytest(f"{tier}-again", tier, paths, beside, place, "--last-failed")
        together = after(together, again)
    if alone := files_with_tests_alone(paths):
        chosen = f"{chosen} and {ALONE}"
        together += run_pytest(f"{tier}-{ALONE}", tier, alone, chosen, place)
    return together


def files_with_tests_alone(paths: Sequence[Path]) -> list[Path]:
    """Returns the files that mark tests `alone`: to collect all others costs half a minute."""
    files = (file for path in paths for file in sorted(path.rglob("test_*.py")))
    return [file for file in files if _ALONE.search(file.read_text("utf-8"))]


def after(together: Count, again: Count) -> Count:
    """The outcome of a spread tier whose failed tests were run once more, alone."""
    passed = together.failed - again.failed if again.passed else 0
    return Count(
        passed=together.passed + passed,
        failed=together.failed - passed,
        skipped=together.skipped,
        again=passed,
    )


def run_pytest(
    name: str, tier: str, paths: Sequence[Path], chosen: str, place: Place, *options: str
) -> Count:
    """Runs the tests of some folders or files that a marker expression chooses.

    Whatever pytest complains of without naming a test is one failure; that it chose none is not,
    where there need not be any. Each tier remembers its own failures.
    """
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = (
        "pytest",
        "--quiet",
        "--durations=5",
        "--durations-min=2",
        f"--junit-xml={report.relative_to(ROOT)}",
        f"--override-ini=cache_dir=.cache/pytest/{tier}",
        "-m",
        chosen,
        *options,
        *(str(path.relative_to(ROOT)) for path in paths),
    )
    status = place.run(command, LIMIT_S.get(name, DEFAULT_LIMIT_S))
    count = read_report(report)
    fine = {0, NO_TESTS} if name == SLOW or name.endswith(ALONE) else {0}
    if status not in fine and not count.failed:
        count += Count(failed=1)
    return count


def read_report(report: Path) -> Count:
    """Counts the tests of a JUnit report; a missing or torn one has none."""
    try:
        suites = list(ET.parse(report).getroot().iter("testsuite"))
    except (OSError, ET.ParseError):
        return Count()
    total = Count()
    for suite in suites:
        number = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
        failed = number["failures"] + number["errors"]
        passed = number["tests"] - failed - number["skipped"]
        total += Count(max(passed, 0), failed, number["skipped"])
    return total


def run_tier(tier: str, place: Place = HERE, quiet: Callable[[], object] = int) -> Count:
    """Runs one tier and takes its time."""
    place.say(f"\n== {tier}")
    began = time.monotonic()
    if tier == MATRIX:
        shutil.rmtree(REPORTS / "matrix", ignore_errors=True)
    count = run_commands(tier, place) if tier in COMMANDS else run_tests(tier, place, quiet)
    if tier == MATRIX:
        count += run_matrix(count)
    return count + Count(seconds=time.monotonic() - began)


def run_beside(tier: str, others: Sequence[str]) -> dict[str, Count]:
    """Runs a tier and, while it waits, others; returns the outcomes of all of them."""
    said = REPORTS / "beside.txt"
    with said.open("w") as out, ThreadPoolExecutor(1) as thread:
        place = Place(LOW, out)
        running = thread.submit(lambda: {other: run_tier(other, place) for other in others})
        try:
            counts = {tier: run_tier(tier, quiet=running.result)}
        except BaseException:
            place.close()
            raise
        counts.update(running.result())
    print(said.read_text(), flush=True)
    return counts


def run_tiers(tiers: Sequence[str]) -> dict[str, Count]:
    """Runs tiers, one after the other but for those that may run beside another."""
    beside = {each: [other for other in BESIDE.get(each, ()) if other in tiers] for each in tiers}
    put_off = {other for others in beside.values() for other in others}
    counts: dict[str, Count] = {}
    for tier in tiers:
        if beside[tier]:
            counts.update(run_beside(tier, beside[tier]))
        elif tier not in put_off:
            counts[tier] = run_tier(tier)
    return {tier: counts[tier] for tier in tiers}


def run_matrix(tests: Count) -> Count:
    """Prints the table of clients, modes and flows; it counts as one test.

    Where tests are skipped for want of a tool, which never happens in CI, cells may be empty.
    """
    print(flush=True)
    if HERE.run(MATRIX_TABLE, DEFAULT_LIMIT_S) == 0:
        return Count(passed=1)
    return Count(skipped=1) if tests.skipped and not tests.failed else Count(failed=1)


def main(names: list[str]) -> int:
    """Runs the command line."""
    known = (*COMMANDS, *FOLDERS, SLOW)
    tiers = names or [tier for tier in known if tier != SLOW]
    if unknown := sorted(set(tiers) - set(known)):
        print(f"no such tier: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    REPORTS.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    counts = run_tiers(tiers)
    total = replace(sum(counts.values(), Count()), seconds=time.monotonic() - began)
    heads = ("passed", "failed", "skipped", "again")
    print(f"\n{'tier':<12}" + "".join(f" {head:>7}" for head in heads) + f" {'seconds':>8}")
    for name, each in {**counts, "all": total}.items():
        numbers = "".join(f" {getattr(each, head):>7}" for head in heads)
        print(f"{name:<12}{numbers} {each.seconds:>8.1f}")
    (REPORTS / "summary.txt").write_text(f"{total.line}\n")
    print(f"\n{total.line}", flush=True)
    return int(total.failed > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
