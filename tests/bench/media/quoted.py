"""Figures of the incumbent from earlier measurements, for machines that cannot run it.

`reactor-runtime` 3.10.0, measured on 2 cores of an AMD EPYC with clients and a clip like
those here: comparable in kind, not in the last digit. Every use is marked as quoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.bench.media.bench import Bench
from tests.bench.media.results import INCUMBENT, Figure

SOURCE: Final = "quoted from measurements of 3.10.0"
FIGURES: Final[Mapping[str, tuple[tuple[str, str, tuple[float, ...]], ...]]] = {
    "outpath": (
        ("VP8, 1 session: CPU a session", "cores", (0.400, 0.407, 0.421)),
        ("VP8, 4 sessions: CPU a session", "cores", (0.390, 0.405, 0.411)),
    ),
    "clean": (("VP8: sessions at full rate without loss", "", (4,)),),
    "latency": (
        ("VP8, chunk due when ready: to the first packet", "ms", (42.2, 43.6, 86.6)),
        ("VP8, first chunk after start: to the first packet", "ms", (85,)),
        ("VP8: worst frame complete", "ms", (224,)),
    ),
    "shown": (("VP8, chunk due when ready: to shown in reactor-sdk", "ms", (333, 336, 497)),),
    "commands": (
        ("4 sessions: p50", "ms", (21,)),
        ("4 sessions: p90", "ms", (43,)),
        ("4 sessions, model computing: p50", "ms", (1000,)),
        ("4 sessions, model computing: p90", "ms", (1000,)),
    ),
    "join": (
        ("reactor-sdk, connect to ready", "ms", (280, 312, 363)),
        ("reactor-sdk, STUN server that does not answer", "ms", (7400,)),
        ("killed client noticed after", "s", (7.7,)),
    ),
}


def quote(bench: Bench, row: str) -> list[Figure]:
    """Returns the quoted figures of a row, and notes that they are."""
    bench.note(
        f"The incumbent, reactor-runtime: no Python >= 3.12 with it here; {SOURCE}, "
        "taken on another machine."
    )
    return [
        Figure(row, name, INCUMBENT, unit, values, quoted=True, note=f"{INCUMBENT}: {SOURCE}.")
        for name, unit, values in FIGURES[row]
    ]
