"""What SANA-Streaming costs on this machine's GPU: `python -m tests.bench.sana`.

Random weights of the true size, made on the device. Every row is written down as soon as it is
measured (`--json`), and rows that are there already are not measured again: a long run may be
made of short ones (`--budget SECONDS` begins no row after that time). What was compiled is kept
beside the figures. Prints the Markdown of `docs/performance.md`; without a GPU its rows are empty.
`--size tiny` runs everything that a CPU can, in seconds: to see that it works.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.bench.sana.stages import Bench
    from tests.bench.sana.store import Store

FOLDER: Final = Path(__file__).resolve().parents[3] / ".cache/bench/sana"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; exit status 1 where a row failed."""
    options = _options(arguments)
    compiled = options.json.parent / "compiled"
    # Before torch is there: it looks once.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled / "inductor"))
    os.environ.setdefault("TRITON_CACHE_DIR", str(compiled / "triton"))
    import torch

    from tests.bench.sana import table
    from tests.bench.sana.models import size_of
    from tests.bench.sana.stages import Bench
    from tests.bench.sana.store import Store

    there = torch.cuda.is_available()
    device = torch.device(options.device or ("cuda" if there else "cpu"))
    if device.type == "cpu":
        # Of a tiny model, threads would wait for one another.
        torch.set_num_threads(1)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    bench = Bench(size_of(options.size), device, dtype, options.seconds)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    store, failed = Store(options.json, name, options.size), False
    if device.type == "cpu" and options.size != "tiny":
        print("This machine has no GPU that torch can use: the rows stay empty.", file=sys.stderr)
    elif options.profile:
        from tests.bench.sana.profiling import profiled

        print("\n".join(profiled(bench, options.profile, store.rows)))
        return 0
    else:
        failed = _measure(bench, store, options)
    print("\n".join(table.lines(store.rows)))
    for each in table.missed(store.rows):
        print(f"missed: {each} (--profile tells where the time goes)", file=sys.stderr)
    return int(failed)


def _measure(bench: Bench, store: Store, options: argparse.Namespace) -> bool:
    """Measures the rows that are missing; returns whether one failed."""
    from scheduler.core.errors import PluginError
    from tests.bench.sana.rows import ROWS

    began, failed = time.monotonic(), False
    for name in options.only or ROWS:
        if name in store.rows and not options.again:
            continue
        if time.monotonic() - began > options.budget:
            print(f"{name}: no time left; run again for it", file=sys.stderr)
            continue
        row_began = time.monotonic()
        try:
            bench.clean()
            made = ROWS[name](bench)
        except PluginError as error:
            print(f"{name}: {error}", file=sys.stderr)
        except Exception as error:  # one row that fails leaves the others
            print(f"{name}: failed, {type(error).__name__}: {error}", file=sys.stderr)
            failed = True
        else:
            took_s = time.monotonic() - row_began
            store.add(name, {**made, "took_s": round(took_s, 1)})
            print(f"{name}: measured in {took_s:.0f} s", file=sys.stderr, flush=True)
    return failed


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sana", description=__doc__)
    parser.add_argument("--size", choices=("2b", "tiny"), default="2b", help="default: 2b")
    parser.add_argument("--device", help="cuda, cuda:1, cpu (default: the GPU where there is one)")
    parser.add_argument("--only", action="append", metavar="ROW", help="measure this row; again")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    parser.add_argument("--budget", type=float, default=1e9, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=20.0, help="of windows in a row (20)")
    parser.add_argument("--json", type=Path, default=FOLDER / "figures.json", metavar="FILE")
    parser.add_argument("--profile", metavar="ROW", help="operators of one way, and no table")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
