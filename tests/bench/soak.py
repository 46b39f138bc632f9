"""Whether a service grows: 30 minutes at 70 % of its capacity, sessions coming and going.

    python -m tests.bench.soak [--minutes 30] [--json OUT]

Runs `tests/bench/scenarios/soak.yaml` through `sana-gateway load` on a service of its own (Ray, one
actor of 19 slots, 13 sessions at once, over a thousand in all). A slope is a line through
memory and descriptors over the measured time, after a warm-up of a sixth of it: caches and pools
fill first. Per 1,000 sessions, as a share of what there was, it has to be under 1 %, and no session
may be lost.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.stack import ROOT

SCENARIO = Path(__file__).parent / "scenarios/soak.yaml"
WARM_UP = 1 / 6
"""Share of the time that does not count."""
MOST = 0.01
"""Growth that is allowed per 1,000 sessions, of what there was."""


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """Returns what a soak is about, of a load report.

    Growth is a share of the level: a hundredth of 500 MB is 5 MB.
    """
    metrics = {name: each["value"] for name, each in report["metrics"].items()}
    timeline = report["timeline"]
    begin, end = report["run"]["measured_s"]
    minutes = (end - begin) / 60
    begun = metrics["sessions_begun"]["total"]
    measured = [begin <= at <= end for at in timeline["at_s"]]
    found: dict[str, Any] = {
        "minutes": round(minutes, 1),
        "sessions": begun,
        **{name: metrics[name]["total"] for name in ("sessions_lost", "sessions_failed")},
        **{name: metrics[name]["total"] for name in ("frames_shown", "frames_lost")},
    }
    for name, slope in (("rss_mb", "server_rss_slope"), ("descriptors", "server_fd_slope")):
        seen = zip(timeline[name], measured, strict=True)
        usual = statistics.median(value for value, counts in seen if counts and value is not None)
        grown = metrics[slope]["mean"] * minutes / begun * 1000
        found[name] = round(usual, 1)
        found[f"{name}_per_minute"] = metrics[slope]["mean"]
        found[f"{name}_growth_per_1000_sessions"] = round(grown / usual, 5)
    return found


def verdict(found: dict[str, Any]) -> list[str]:
    """Returns what is not as it has to be."""
    faults = [f"{name} is {found[name]}" for name in ("sessions_lost",) if found[name]]
    for name in ("rss_mb", "descriptors"):
        growth = found[f"{name}_growth_per_1000_sessions"]
        if growth >= MOST:
            faults.append(f"{name} grew by {growth:.2%} per 1,000 sessions")
    return faults


def run(minutes: float) -> dict[str, Any]:
    """Puts the scenario on a service of its own; returns the load report."""
    scenario = yaml.safe_load(SCENARIO.read_text())
    scenario["warm_up"] = f"{minutes * 60 * WARM_UP:.0f}s"
    scenario["duration"] = f"{minutes * 60 * (1 - WARM_UP):.0f}s"
    with tempfile.TemporaryDirectory() as name:
        told, out = Path(name) / "soak.yaml", Path(name) / "out"
        told.write_text(yaml.safe_dump(scenario))
        command = [str(Path(sys.executable).parent / "sana-gateway"), "load", str(told)]
        subprocess.run([*command, "--plain", "--out", str(out)], cwd=ROOT, check=False)
        report: dict[str, Any] = json.loads((out / "report.json").read_text())
        return report


def main() -> int:
    """Runs it; the exit status is 1 where something grew or was lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    found = figures(run(told.minutes))
    text = json.dumps(found, indent=2)
    print(text)
    if told.json:
        told.json.write_text(text + "\n")
    faults = verdict(found)
    print("\n".join(faults) or "nothing grew, nothing was lost")
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
