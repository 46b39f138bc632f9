"""Checks a folder of the oracle against our model.

    python -m tests.oracle DIR [--json OUT]

The folder is laid out as `tests/fixtures/sana-oracle`: what upstream's code computed, and the
weights that it computed with. Prints every comparison with its error and its tolerance; parts
and references that are not there are said to be absent. Exit status: 0 all is within tolerance,
1 something is not, 2 the folder cannot be read.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch

from tests.oracle import autoencoder, text, transformer
from tests.oracle.checks import Part
from tests.oracle.folder import Folder

PARTS: Final[dict[str, Callable[[Folder], Part]]] = {
    each.NAME: each.check for each in (transformer, autoencoder, text)
}


def checked(folder: Folder) -> list[Part]:
    """Compares all parts of a folder; a broken one does not keep the others from it."""
    parts = []
    for name, check in PARTS.items():
        if not folder.has(name):
            parts.append(Part(name, absent=[name]))
            continue
        try:
            parts.append(check(folder))
        except Exception as error:
            traceback.print_exc()
            parts.append(Part(name, fault=f"{type(error).__name__}: {error}"))
    return parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the outcome here")
    options = parser.parse_args(arguments)
    if not (options.folder / "config.json").is_file():
        print(f"{options.folder} is no folder of the oracle: config.json is missing")
        return 2
    # The models are tiny: threads would wait for one another.
    torch.set_num_threads(1)
    parts = checked(Folder(options.folder))
    for part in parts:
        _print(part)
    count = sum(len(part.checks) for part in parts)
    passed = count > 0 and all(part.passed for part in parts)
    failed = sum(not check.passed for part in parts for check in part.checks)
    print(f"{count} comparisons, {failed} beyond tolerance: {'passed' if passed else 'FAILED'}")
    if options.json:
        outcome = {"passed": passed, "parts": [_outcome(part) for part in parts]}
        options.json.write_text(json.dumps(outcome, indent=2) + "\n")
    return int(not passed)


def _print(part: Part) -> None:
    if part.fault:
        print(f"{part.name:<5} FAULT  {part.fault}")
    for check in part.checks:
        mark = "ok  " if check.passed else "FAIL"
        print(f"{part.name:<5} {mark} {check.name:<40} {check.error:9.2e} <= {check.tolerance:.1e}")
    for name in part.absent:
        print(f"{part.name:<5} absent {name}")


def _outcome(part: Part) -> dict[str, Any]:
    checks = [{**asdict(check), "passed": check.passed} for check in part.checks]
    return {**asdict(part), "checks": checks, "passed": part.passed}


if __name__ == "__main__":
    sys.exit(main())
