"""Figures as Markdown, for `docs/performance.md`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.bench.sana.rows import ROWS, WAYS
from tests.bench.sana.stages import STAGES

CEILING: Final = 0.85
"""Share of a GPU that sessions are admitted to."""
FRAMES: Final = 24
"""Of a steady chunk."""
RATES: Final = (24, 16)
TARGETS: Final = {"bf16": 0.33, "fp8": 0.28}
"""Seconds of a chunk, the pass that commits included."""
BUDGET: Final = {"encode": 0.13, "DiT": 0.14, "decode": 0.06}
"""Seconds of its stages; the transformer's five passes are one."""
_EMPTY: Final = "-"
_TOGETHER: Final = tuple(name for name in ROWS if " of " in name)
Rows = Mapping[str, Mapping[str, Any]]


def sessions(chunk_s: float, rate: int) -> int:
    """Returns how many sessions a GPU has compute for.

    Args:
        chunk_s: Seconds that a chunk takes.
        rate: Frames per second of a session.
    """
    return math.floor(CEILING * FRAMES / rate / chunk_s + 1e-9)


def lines(rows: Rows) -> Iterator[str]:
    """Yields the section."""
    yield from _machine(rows)
    yield from _chunks(rows)
    yield from _rates(rows)
    yield from _together(rows)
    yield from _rest(rows)


def missed(rows: Rows) -> list[str]:
    """Returns which targets were measured and not met."""
    return [
        f"{name}: {_chunk_s(rows[name]):.3f} s, to be {target:.2f} s"
        for name, target in TARGETS.items()
        if name in rows and _chunk_s(rows[name]) > target
    ]


def _machine(rows: Rows) -> Iterator[str]:
    machine = rows.get("machine")
    if not rows:
        yield "No GPU: nothing was measured, and the rows are empty."
    elif machine is None:
        yield "What the machine can do at most was not measured."
    else:
        memory = f", {machine['memory_bytes'] / 1e9:.0f} GB" if "memory_bytes" in machine else ""
        eight = f"; in 8 bits {machine['fp8_tflops']:.0f}" if "fp8_tflops" in machine else ""
        cuda = f", CUDA {machine['cuda']}, cuDNN {machine['cudnn']}" if "cuda" in machine else ""
        yield (
            f"{machine['name']}{memory}; torch {machine['torch']}{cuda}. Commit "
            f"{machine.get('commit') or 'not known'}. Products of large matrices: "
            f"{machine['matrix_tflops']:.3g} TFLOP/s{eight}."
        )
    yield ""


def _chunks(rows: Rows) -> Iterator[str]:
    yield (
        "| One session, a steady chunk of 24 frames | encode | DiT, 4 passes | decode | commit | "
        "all, p50 (p99) | times real time at 24 fps | sessions at 24 / 16 fps | peak memory |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for name in ("baseline", *WAYS):
        row = rows.get(name)
        title = "upstream's arithmetic, eager" if name == "baseline" else _titled(name)
        if row is None:
            yield f"| {title} |{f' {_EMPTY} |' * 8}"
            continue
        stages = " | ".join(f"{row['stages'][stage]['p50_ms']:.1f} ms" for stage in STAGES)
        chunk, took = row["chunk"], _chunk_s(row)
        counts = " / ".join(str(sessions(took, rate)) for rate in RATES)
        memory = f"{row['peak_bytes'] / 1e9:.1f} GB" if row["peak_bytes"] else _EMPTY
        yield (
            f"| {title} | {stages} | {chunk['p50_ms']:.1f} ms ({chunk['p99_ms']:.1f}) | "
            f"{FRAMES / 24 / took:.2f} | {counts} | {memory} |"
        )
    both = f"bf16 {TARGETS['bf16']:.2f} s, fp8 {TARGETS['fp8']:.2f} s"
    yield (
        f"| *target* | {BUDGET['encode']:.2f} s | {BUDGET['DiT']:.2f} s with commit | "
        f"{BUDGET['decode']:.2f} s | | {both} | | 3 at 24 fps | |"
    )
    yield ""


def _titled(name: str) -> str:
    on = WAYS[name].named
    return f"{name} ({', '.join(f'`{each}`' for each in on)})" if len(on) > 1 else f"`{name}`"


def _rates(rows: Rows) -> Iterator[str]:
    yield "| TFLOP/s (of the ceiling) | encode | DiT | decode |"
    yield "|---|---|---|---|"
    flops = rows.get("operations", {}).get("flops")
    ceiling = rows.get("machine", {}).get("matrix_tflops")
    for name in ("baseline", "eager", "bf16", "fp8"):
        row = rows.get(name)
        if row is None or flops is None or ceiling is None:
            yield f"| {name} |{f' {_EMPTY} |' * 3}"
            continue
        cells = []
        for stages in (("encode",), ("generate", "commit"), ("decode",)):
            done = sum(flops[stage] for stage in stages)
            took = sum(row["stages"][stage]["p50_ms"] for stage in stages) / 1e3
            rate = done / took / 1e12
            cells.append(f"{rate:.3g} ({rate / ceiling:.0%})")
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _together(rows: Rows) -> Iterator[str]:
    yield "| Sessions together | a chunk of each | gain over one after the other | peak memory |"
    yield "|---|---|---|---|"
    alone = rows.get("bf16") or rows.get("eager")
    for name in _TOGETHER:
        row = rows.get(name)
        if row is None or alone is None:
            yield f"| {name} |{f' {_EMPTY} |' * 3}"
            continue
        gain = row["sessions"] * _chunk_s(alone) / _chunk_s(row)
        memory = f"{row['peak_bytes'] / 1e9:.1f} GB" if row["peak_bytes"] else _EMPTY
        yield f"| {name} | {row['chunk']['p50_ms']:.1f} ms | {gain:.2f} | {memory} |"
    yield ""


def _rest(rows: Rows) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    parking = rows.get("parking")
    told = _EMPTY
    if parking is not None:
        size = parking["session_bytes"] / 1e9
        park, restore = (parking[name]["p50_ms"] for name in ("park", "restore"))
        told = (
            f"{size:.3g} GB: {park:.0f} ms to the host's memory ({size / park * 1e3:.1f} GB/s; the "
            f"compute thread is held for {parking['compute_thread']['p50_ms']:.1f} ms), back in "
            f"{restore:.0f} ms"
        )
    yield f"| park and restore a session | {told} |"
    deviation = rows.get("closeness", {}).get("deviation")
    told = _EMPTY
    if deviation is not None:
        told = ", ".join(f"{name} {each:.2%}" for name, each in deviation.items())
    yield f"| deviation of latents from `eager`, after three windows | {told} |"


def _chunk_s(row: Mapping[str, Any]) -> float:
    return float(row["chunk"]["p50_ms"]) / 1e3
