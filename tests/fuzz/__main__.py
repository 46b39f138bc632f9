"""Searches for inputs that something of ours cannot stand.

    python -m tests.fuzz TARGET [--runs N] [--seconds S] [--corpus DIR] [--json FILE]
    python -m tests.fuzz TARGET INPUT

The first form searches; what it finds new is kept in DIR (`.cache/fuzz/TARGET`), and the input
that failed in DIR/../TARGET-failed. The second tries one input again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.fuzz.targets import CORPUS, TARGETS, load, within
from tests.required import ROOT

_PROGRESS: Final = re.compile(r"#(\d+)\s.*cov: (\d+) ft: (\d+).*rss: (\d+)Mb")
_ENDLESS: Final = 2**31 - 1


def main() -> int:
    """Runs the command line; returns 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("input", nargs="?", type=Path, help="try this one and no others")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=0, help="end after so long; 0: do not")
    parser.add_argument("--corpus", type=Path, help="where what is found is kept")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    if words.input is not None:
        fuzz_one, _ = load(words.target)
        with within(TARGETS[words.target].cpu_s):
            fuzz_one(words.input.read_bytes())
        print("it stands")
        return 0
    found = search(words)
    print(json.dumps(found))
    if words.json is not None:
        words.json.write_text(json.dumps(found) + "\n")
    return int(bool(found["failed"]))


def search(words: argparse.Namespace) -> dict[str, object]:
    """Searches in processes of their own; returns the figures."""
    name, target = words.target, TARGETS[words.target]
    corpus = words.corpus or ROOT / ".cache/fuzz" / name
    failed = corpus.parent / f"{name}-failed"
    begin = corpus.parent / f"{name}-seeds"
    for each in (corpus, failed, begin):
        each.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(load(name)[1]()):
        (begin / f"{number:04}").write_bytes(seed)
    known = set(failed.iterdir())
    folders = [corpus, begin, *([CORPUS / name] if (CORPUS / name).is_dir() else [])]
    options = [
        f"-max_len={target.max_bytes}",
        f"-rss_limit_mb={target.memory_mb}",
        # Time is watched over by the target itself, as CPU time: a busy machine is no fault.
        "-timeout=86400",
        "-report_slow_units=86400",
        f"-artifact_prefix={failed}/",
        *map(str, folders),
    ]
    began = time.monotonic()
    figures = dict.fromkeys(("inputs", "coverage", "features", "rss_mb", "rss_begin_mb"), 0)
    wanted, seed = words.runs or _ENDLESS, words.seed
    code = 0
    while figures["inputs"] < wanted:
        left_s = words.seconds and round(began + words.seconds - time.monotonic())
        if left_s < 0 or (words.seconds and not left_s):
            break
        runs = min(wanted - figures["inputs"], target.runs_a_process)
        code, found = _searched(
            name, [f"-runs={runs}", f"-max_total_time={left_s}", f"-seed={seed}", *options]
        )
        figures = {each: max(figures[each], found[each]) for each in figures} | {
            "inputs": figures["inputs"] + found["inputs"]
        }
        seed += bool(seed)
        if code or not found["inputs"]:
            break
    failures = sorted(str(each) for each in set(failed.iterdir()) - known)
    return {
        "target": name,
        **figures,
        "seconds": round(time.monotonic() - began),
        "failed": failures or (["the search ended by itself"] if code else []),
    }


def _searched(name: str, options: list[str]) -> tuple[int, dict[str, int]]:
    """Searches in one process; shows what it says, and returns its status and figures."""
    command = [sys.executable, "-m", "tests.fuzz.search", name, *options]
    names = ("inputs", "coverage", "features", "rss_mb")
    found = dict.fromkeys((*names, "rss_begin_mb"), 0)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            if progress := _PROGRESS.match(line):
                found |= dict(zip(names, map(int, progress.groups()), strict=True))
                found["rss_begin_mb"] = found["rss_begin_mb"] or found["rss_mb"]
    return process.returncode, found


if __name__ == "__main__":
    raise SystemExit(main())
