"""Whether a service grows: 30 minutes at 70 % of its capacity, sessions coming and going.

    python -m tests.bench.soak [--minutes 30] [--json OUT]

A service as users start it (Ray, one actor with room for `SLOTS` sessions, pictures that are really
encoded) is under `tests/bench/scenarios/soak.yaml`: 14 at once over both wires, half of them
cameras, each for 22 s on average, so over a thousand in half an hour. A warm-up of a sixth
of the time comes before and does not count: caches and pools fill first. The load prints a line
every five seconds; nothing is kept between runs.

What the service takes is read from /proc, of every process of it, every `EVERY_S`. Its growth is
the sum of the slopes (least squares) of those processes that lasted all the time, per 1,000
sessions, as a share of what they take; decoders, which come and go, must not become more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from tests.stack import ROOT, Stack, serving

SCENARIO: Final = Path(__file__).parent / "scenarios/soak.yaml"
SLOTS: Final = 20
CHUNK_MS: Final = 41.5
"""Of a second of video: as much compute is there as for twenty sessions (850 ms a second)."""
SERVICE: Final = (
    *("--model", "simulated", "--actors", "1", "--model-option", f"chunk_ms={CHUNK_MS}"),
    *("--model-option", f"resident_slots={SLOTS}", "--model-option", "video=encoded"),
    *("--model-option", "size=320x176"),
)
WARM_UP: Final = 1 / 6
"""Time before what counts, as a share of it."""
EVERY_S: Final = 5.0
MINUTE: Final = 12
"""Looks of a minute."""
MOST: Final = 0.01
"""Growth that is allowed per 1,000 sessions, of what there was."""
LEAST_SHARE: Final = 0.65
"""Of the capacity that has to be in use for it to be a soak."""
STANDING: Final = ("gateway", "head", "scheduler", "actor")
"""Roles of one process each, which lasts."""
LASTING: Final = 0.9
"""Share of the looks at which a process was there that counts as lasting."""
SPARE: Final = 2.0
"""Processes that come and go: so many more of them, on average, are chance."""
INVALID: Final = 2
"""Exit status of a load that could not be what the scenario says."""
ROLES: Final = {
    "SchedulerShell": "scheduler",
    "RayShellHost": "actor",
    "decode_worker": "decoders",
    "raylet": "ray",
    "gcs_server": "ray",
    "/ray/": "ray",
    "serve head": "head",
    "gateway.cli": "gateway",
}
"""What processes are called, by words of their command line, the first that fits."""


@dataclass(frozen=True)
class Taken:
    """What a process takes at one moment."""

    role: str
    rss_mb: float
    descriptors: int


@dataclass(frozen=True)
class Look:
    """What all processes of a service take, by their id and when they began."""

    at_s: float
    processes: dict[tuple[int, float], Taken]


def look(stack: Stack, at_s: float) -> Look:
    """Looks at the processes of a service."""
    found = {}
    members = stack.members()
    for each in stack.members():
        # Decoders have no environment to be known by.
        with contextlib.suppress(psutil.Error):
            members += each.children(recursive=True)
    for each in set(members):
        with contextlib.suppress(psutil.Error), each.oneshot():
            words = " ".join(each.cmdline())
            role = next((name for word, name in ROLES.items() if word in words), "other")
            taken = Taken(role, each.memory_info().rss / 2**20, each.num_fds())
            found[each.pid, each.create_time()] = taken
    return Look(at_s, found)


@contextlib.contextmanager
def watched(stack: Stack, looks: list[Look]) -> Iterator[None]:
    """Looks every few seconds for the time of a block; seconds count from its begin."""
    began, over = time.monotonic(), threading.Event()

    def watch() -> None:
        while not over.wait(EVERY_S):
            looks.append(look(stack, time.monotonic() - began))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def steepness(points: Sequence[tuple[float, float]]) -> float:
    """Returns the slope of a line through points by least squares."""
    middle_x, middle_y = (statistics.fmean(axis) for axis in zip(*points, strict=True))
    across = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / across if across else 0.0


def growth(
    looks: Sequence[Look], sessions: int, of: Callable[[Taken], float]
) -> dict[str, dict[str, float]]:
    """Returns level and growth of the lasting processes, by role and of `all`.

    Args:
        looks: At least two.
        sessions: How many began meanwhile.
        of: What may grow.
    """
    lines: dict[tuple[int, float], list[tuple[float, float]]] = {}
    roles: dict[tuple[int, float], str] = {}
    for each in looks:
        for key, taken in each.processes.items():
            lines.setdefault(key, []).append((each.at_s, of(taken)))
            roles[key] = taken.role
    lasting = {key: line for key, line in lines.items() if len(line) >= LASTING * len(looks)}
    took_s = looks[-1].at_s - looks[0].at_s
    found: dict[str, dict[str, float]] = {}
    for role in ("all", *sorted({roles[key] for key in lasting})):
        those = [line for key, line in lasting.items() if role in ("all", roles[key])]
        level = sum(statistics.median(value for _, value in line) for line in those)
        grown = sum(map(steepness, those)) * took_s / sessions * 1000
        found[role] = {
            "processes": len(those),
            "level": round(level, 1),
            "growth_per_1000_sessions": round(grown / level, 5) if level else 0.0,
        }
    return found


def by_role(one: Look) -> dict[str, list[float]]:
    """Returns processes, MB and descriptors of each role at a moment."""
    found: dict[str, list[float]] = {}
    for taken in one.processes.values():
        those = found.setdefault(taken.role, [0, 0.0, 0])
        for place, amount in enumerate((1, taken.rss_mb, taken.descriptors)):
            those[place] = round(those[place] + amount, 1)
    return found


def begun_anew(looks: Sequence[Look]) -> list[str]:
    """Returns the roles whose process did not last, one for each that took its place."""
    seen = {(taken.role, key) for each in looks for key, taken in each.processes.items()}
    roles = [role for role, _ in seen]
    return [role for role in STANDING for _ in range(roles.count(role) - 1)]


def passing(looks: Sequence[Look]) -> tuple[float, float]:
    """Returns how many processes came and went, on average: in the first half and the second."""
    kept = [key for each in looks for key in each.processes]
    lasting = {key for key in set(kept) if kept.count(key) >= LASTING * len(looks)}
    counts = [len(each.processes.keys() - lasting) for each in looks]
    middle = len(counts) // 2
    return statistics.fmean(counts[:middle]), statistics.fmean(counts[middle:])


def figures(
    report: dict[str, Any], looks: Sequence[Look], before: Look, after: Look
) -> dict[str, Any]:
    """Returns what a soak is about.

    Args:
        report: Of the load.
        looks: At the service while the load was measured.
        before: At the service before the load.
        after: When all sessions had ended.
    """
    metrics = {name: each["value"] for name, each in report["metrics"].items()}
    begin, end = report["run"]["measured_s"]
    begun = metrics["sessions_begun"]["total"]
    timeline = report["timeline"]
    connected = [
        count
        for at, count in zip(timeline["at_s"], timeline["connected"], strict=True)
        if begin <= at <= end
    ]
    totals = ("sessions_lost", "sessions_failed", "frames_shown", "frames_lost")
    minutes = [each for number, each in enumerate(looks) if number % MINUTE == 0]
    return {
        "minutes": round((end - begin) / 60, 1),
        "share_of_capacity": round(statistics.fmean(connected) / SLOTS, 3),
        "sessions": begun,
        **{name: metrics[name]["total"] for name in totals},
        "rss_mb": growth(looks, begun, lambda taken: taken.rss_mb),
        "descriptors": growth(looks, begun, lambda taken: taken.descriptors),
        "begun_anew": begun_anew(looks),
        "passing_processes": [round(count, 1) for count in passing(looks)],
        "processes_before_and_after": [len(before.processes), len(after.processes)],
        "each_minute": [{"at_s": round(each.at_s), **by_role(each)} for each in minutes],
    }


def verdict(found: dict[str, Any], status: int = 0) -> list[str]:
    """Returns what is not as it has to be.

    Args:
        found: The figures.
        status: Exit status of the load.
    """
    faults = ["the load was not what the scenario says"] if status == INVALID else []
    faults += [
        f"{name} is {found[name]}" for name in ("sessions_lost", "sessions_failed") if found[name]
    ]
    if found["share_of_capacity"] < LEAST_SHARE:
        faults.append(f"only {found['share_of_capacity']:.0%} of the capacity was in use")
    faults += [f"the {role} died, and another took its place" for role in found["begun_anew"]]
    for name in ("rss_mb", "descriptors"):
        grown = found[name]["all"]["growth_per_1000_sessions"]
        if grown >= MOST:
            faults.append(f"{name} grew by {grown:.2%} per 1,000 sessions")
    first, second = found["passing_processes"]
    if second > first + SPARE:
        faults.append(f"processes that come and go became more: {first}, then {second}")
    return faults


def load(stack: Stack, minutes: float, warm_up: float, out: Path) -> int:
    """Puts the scenario on a service; returns its exit status. It prints a line now and then."""
    scenario = yaml.safe_load(SCENARIO.read_text())
    scenario["duration"] = f"{minutes * 60:.0f}s"
    scenario["warm_up"] = f"{warm_up * 60:.0f}s"
    told = out.with_suffix(".yaml")
    told.write_text(yaml.safe_dump(scenario))
    command = [str(Path(sys.executable).parent / "sana-gateway"), "load", str(told)]
    target = ("--target", stack.grpc_address, "--http", stack.http_url)
    return subprocess.run(
        [*command, *target, "--plain", "--out", str(out)], cwd=ROOT, check=False
    ).returncode


def settled(stack: Stack, most: int, within_s: float = 60.0) -> Look:
    """Returns a look at a service without sessions: when it has at most so many processes."""
    deadline = time.monotonic() + within_s
    while True:
        now = look(stack, time.monotonic())
        if len(now.processes) <= most or time.monotonic() > deadline:
            return now
        time.sleep(1.0)


def soak(minutes: float, warm_up: float) -> tuple[dict[str, Any], list[str]]:
    """Runs it; returns the figures, and what is wrong with them.

    Raises:
        RuntimeError: The load left no report.
    """
    looks: list[Look] = []
    with tempfile.TemporaryDirectory() as name, serving(*SERVICE) as stack:
        out = Path(name) / "out"
        before = look(stack, 0.0)
        with watched(stack, looks):
            status = load(stack, minutes, warm_up, out)
        if not (out / "report.json").exists():
            raise RuntimeError(f"the load ended with {status} and left no report")
        after = settled(stack, len(before.processes))
        report = json.loads((out / "report.json").read_text())
    begin, end = report["run"]["measured_s"]
    # The load takes a few seconds to begin; what it waits for in the end does not count.
    measured = [each for each in looks if begin + EVERY_S <= each.at_s <= end]
    found = figures(report, measured, before, after)
    return found, verdict(found, status)


def main() -> int:
    """Runs it; the exit status is 1 where something grew, failed or was lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--warm-up", type=float, help="minutes before; default: a sixth of them")
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    warm_up = told.minutes * WARM_UP if told.warm_up is None else told.warm_up
    found, faults = soak(told.minutes, warm_up)
    text = json.dumps(found, indent=2)
    print(text)
    if told.json:
        told.json.write_text(text + "\n")
    print("\n".join(faults) or "nothing grew, nothing was lost")
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
