"""What running sessions notice of an attack on the front door.

    python -m tests.bench.flood [--open 2000] [--rate 1000] [--runs 3] [--seconds 20] [--json OUT]

A service with API keys (its gateway, its head, its actors) has one core; the viewers of its
sessions and the attacker, which goes last there, have the other. Runs without and with the attack
take turns; the figure is the growth of the 99th percentile of frame lateness at the viewers, in
milliseconds. `tests/bench/attacking.py` says what the attacker does. `--media-workers 0` attacks a
gateway in one process, whose event loop plays the video, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.stack import ROOT, Stack, serving

TARGET_CORE, OTHER_CORE = 0, 1
RISE_S = 60.0
"""How long the half-open connections may take to be open."""
SCENARIO = """
name: flood
summary: Sessions that play while the front door is attacked.
duration: {seconds}s
warm_up: 6s
seed: 1
workload:
  arrivals: {{kind: level, connected: {sessions}, over: 3s}}
  session: {{kind: fixed, value: 1h}}
  think: {{kind: fixed, value: 0.2s}}
  play: {{kind: fixed, value: 1h}}
  pause: {{kind: fixed, value: 1s}}
  live_share: 0
  prompts_per_minute: 6
load:
  wires: {wires}
  decode: 0
  processes: 1
  clip: {{seconds: 90, width: 160, height: 88}}
"""
WIRES = {
    "both": "{grpc: 0.5, webrtc: 0.5}",
    "grpc": "{grpc: 1.0}",
    "webrtc": "{webrtc: 1.0}",
}
OPTIONS = ("chunk_ms=5", "video=canned", "resident_slots=64")
PROCESSES = {
    "front_door.worker": "media worker",
    "serve head": "head",
    "sana-sched": "scheduler",
    "model_actor": "actors",
}
"""What processes are called, by words of their command line; the others are the gateway."""


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started within runs on this core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def service(folder: Path, command: str, media_workers: int) -> Iterator[tuple[Stack, str]]:
    """A service that asks for keys, on its core; with a token."""
    keys = folder / "keys.yaml"
    made = [command, "keys", "new", "--file", str(keys), "--id", "bench", "--tenant", "bench"]
    said = subprocess.run(made, capture_output=True, text=True, check=True, cwd=ROOT)
    key = next(word for word in said.stdout.split() if word.startswith("rk_"))
    options = [word for option in OPTIONS for word in ("--model-option", option)]
    words = ("--model", "simulated", "--backend", "in-process", "--spare-decoders", "0")
    workers = ("--media-workers", str(media_workers))
    doors = (*workers, "--auth", "api-key", "--api-keys", str(keys))
    with on_core(TARGET_CORE):
        started = serving(*words, *options, *doors)
        stack = started.__enter__()
    try:
        yield stack, token_for(stack, key)
    except BaseException:
        started.__exit__(*sys.exc_info())
        raise
    started.__exit__(None, None, None)


def token_for(stack: Stack, key: str) -> str:
    """Exchanges an API key for a token."""
    headers = {"Reactor-API-Key": key}
    request = urllib.request.Request(f"{stack.http_url}/tokens", b"", headers)  # noqa: S310 - ours
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return str(json.load(answer)["jwt"])


@contextmanager
def attacked(stack: Stack, half_open: int, rate: float) -> Iterator[list[dict[str, Any]]]:
    """An attack, once its half-open connections are open; what its lines said since is there at
    the end.
    """
    lines: list[dict[str, Any]] = []
    addresses = (stack.http_url, stack.grpc_address)
    command = [sys.executable, "-m", "tests.bench.attacking", *addresses]
    amounts = ("--open", str(half_open), "--rate", str(rate))
    with tempfile.NamedTemporaryFile("r") as said, Path(said.name).open("w") as sink:
        with on_core(OTHER_CORE):
            process = subprocess.Popen([*command, *amounts], cwd=ROOT, stdout=sink)
        try:
            began = time.monotonic()
            while _held(said.readlines()) < 0.9 * half_open and time.monotonic() - began < RISE_S:
                time.sleep(1.0)
            yield lines
        finally:
            process.kill()
            process.wait()
            lines += [json.loads(line) for line in said if line.endswith("\n")]


def _held(lines: list[str]) -> int:
    return int(json.loads(lines[-1])["held"]) if lines else 0


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """Returns what each part of a service has used of its core."""
    found: dict[str, float] = {}
    for each in stack.members():
        try:
            words, times = " ".join(each.cmdline()), each.cpu_times()
        except psutil.Error:
            continue
        name = next((name for word, name in PROCESSES.items() if word in words), "gateway")
        found[name] = found.get(name, 0.0) + times.user + times.system
    return found


def viewed(stack: Stack, token: str, scenario: Path, out: Path, command: str) -> dict[str, Any]:
    """Plays the scenario; returns what its viewers saw."""
    target = ("--target", stack.grpc_address, "--http", stack.http_url, "--token", token)
    words = [command, "load", str(scenario), *target, "--plain", "--out", str(out)]
    before, began = cpu_seconds(stack), time.monotonic()
    with on_core(OTHER_CORE):
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1, 2} or not (out / "report.json").exists():
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    took, after = time.monotonic() - began, cpu_seconds(stack)
    report = json.loads((out / "report.json").read_text())
    values = {name: each["value"] for name, each in report["metrics"].items()}
    return {
        "lateness_p50_ms": values["frame_lateness"]["p50"],
        "lateness_p99_ms": values["frame_lateness"]["p99"],
        "frames": values["frames_shown"]["total"],
        "frames_lost": values["frames_lost"]["total"],
        "sessions_lost": values["sessions_lost"]["total"],
        "command_ack_p99_ms": values.get("command_ack", {}).get("p99"),
        "generator_cpu": values.get("generator_cpu", {}).get("max"),
        "core_share": {
            name: round((after[name] - before.get(name, 0.0)) / took, 3) for name in after
        },
    }


def bench(told: argparse.Namespace) -> dict[str, Any]:
    """Measures turn about."""
    command = str(Path(sys.executable).parent / "sana-gateway")
    quiet, loud, attacks = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario = folder / "flood.yaml"
        amounts = {"seconds": told.seconds, "sessions": told.sessions}
        scenario.write_text(SCENARIO.format(**amounts, wires=WIRES[told.wires]))
        with service(folder, command, told.media_workers) as (stack, token):
            for run in range(told.runs):
                quiet.append(viewed(stack, token, scenario, folder / f"quiet{run}", command))
                print(json.dumps({"quiet": quiet[-1]}), flush=True)
                with attacked(stack, told.open, told.rate) as lines:
                    loud.append(viewed(stack, token, scenario, folder / f"loud{run}", command))
                attacks.append(summary(lines))
                print(json.dumps({"attacked": loud[-1], "attack": attacks[-1]}), flush=True)
    grown = [
        after["lateness_p99_ms"] - before["lateness_p99_ms"]
        for before, after in zip(quiet, loud, strict=True)
    ]
    return {
        "quiet": quiet,
        "attacked": loud,
        "attack": attacks,
        "growth_p99_ms": round(statistics.median(grown), 2),
        "frames_lost": sum(each["frames_lost"] for each in loud),
        "sessions_lost": sum(each["sessions_lost"] for each in loud),
    }


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums an attack up."""
    first, last = lines[0], lines[-1]
    seconds = max(last["at"] - first["at"], 1e-9)
    counts = ("sent", "answered", "cut", "refused", "forgotten", "opened", "closed")
    answers = {
        status: count - first["answers"].get(status, 0) for status, count in last["answers"].items()
    }
    return {
        "held": statistics.median(line["held"] for line in lines),
        **{f"{name}_per_s": round((last[name] - first[name]) / seconds, 1) for name in counts},
        "answers": answers,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--open", type=int, default=2000, help="half-open connections")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=6)
    parser.add_argument("--wires", choices=sorted(WIRES), default="both")
    parser.add_argument("--media-workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    result = bench(told)
    text = json.dumps(result, indent=2)
    print(text)
    if told.json:
        told.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
