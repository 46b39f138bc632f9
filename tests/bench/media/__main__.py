"""The media path beside the floor and its rivals, in one run on one machine.

    python -m tests.bench.media --json OUT [--only NAME ...] [--runs 5] [--quick]

Our service is started as users start it (`sana-gateway serve`, backend `in-process`: Ray
takes no part in the media path, and its idle processes would blur the figures); beside it,
from the same clip, at the same pinned bitrate and with the same clients: the bare encoder,
a naive aiortc server, and `reactor-runtime` where `make setup` found a Python for it.
Writes JSON, a table (`OUT` with `.md`) and a chart (`.svg`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.bench.media import results
from tests.bench.media.bench import Bench, told
from tests.bench.media.chart import svg
from tests.bench.media.registry import ROWS
from tests.bench.media.results import Report, report_of
from tests.bench.media.systems import incumbent
from tests.bench.media.table import markdown
from tests.stack import ROOT

CACHE = ROOT / ".cache/bench"
TITLES = {name: row.title for name, row in ROWS.items()}


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="tests.bench.media",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--json", type=Path, help="write the figures there, table and chart beside it")
    add("--only", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="NAME",
        help=f"measure these alone: {', '.join(ROWS)}")  # fmt: skip
    add("--runs", type=int, default=5, help="repetitions of each measurement (default 5)")
    add("--quick", action="store_true", help="one repetition, short windows: does it work?")
    add("--render", type=Path, help="measure nothing; render this JSON again")
    options = parser.parse_args(words)
    if options.runs < 1:
        parser.error("--runs is at least 1")
    return options


async def measure(
    names: Sequence[str], *, runs: int, quick: bool, out: Path | None = None
) -> tuple[Report, bool]:
    """Measures some rows.

    Args:
        names: The rows; at least one.
        runs: Repetitions of each measurement.
        quick: One repetition and short windows instead.
        out: Where to write what was found so far, after every row.

    Returns:
        What was found, and whether all rows could be measured.
    """
    machine, began, start = results.machine(), results.now(), time.monotonic()
    versions = results.versions()
    versions["reactor-runtime"] = incumbent.version() or "missing"
    whole = True
    with tempfile.TemporaryDirectory(prefix="sana-bench-") as folder:
        bench = Bench(1 if quick else runs, quick, Path(folder), CACHE, told)
        for name in names:
            row_began = time.monotonic()
            try:
                bench.figures += await ROWS[name].measure(bench)
            except Exception as error:  # one row must not cost the others their results
                traceback.print_exc()
                bench.note(f"The row {name} failed: {type(error).__name__}.")
                whole = False
            told(f"{name}: done in {time.monotonic() - row_began:.0f} s")
            report = Report(
                commit=results.commit(),
                began=began,
                seconds=round(time.monotonic() - start, 1),
                runs=bench.runs,
                quick=quick,
                machine=machine,
                versions=versions,
                figures=tuple(bench.figures),
                notes=tuple(bench.notes),
            )
            if out is not None:
                # After every row: who stops after ten minutes keeps what was found.
                write(report, out)
    return report, whole


def write(report: Report, out: Path) -> None:
    """Writes JSON, table and chart."""
    out.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(report, TITLES))
    out.with_suffix(".svg").write_text(svg(report, TITLES))


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit status is 1 when a row could not be measured."""
    options = parse(words)
    if options.render is not None:
        report, whole = report_of(json.loads(options.render.read_text())), True
    else:
        report, whole = asyncio.run(
            measure(options.only, runs=options.runs, quick=options.quick, out=options.json)
        )
    if options.render is not None:
        write(report, options.render)
    sys.stdout.write(markdown(report, TITLES))
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
