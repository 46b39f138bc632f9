"""The rows of the benchmark, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.bench.media.bench import Bench
from tests.bench.media.results import Figure
from tests.bench.media.rows import (
    camera,
    camera_in,
    clean,
    commands,
    floor,
    gateway_cpu,
    join,
    latency,
    outpath,
)


@dataclass(frozen=True, slots=True)
class Row:
    """Measurements that belong together."""

    title: str
    measure: Callable[[Bench], Awaitable[list[Figure]]]


ROWS: Final[dict[str, Row]] = {
    "floor": Row("The floor: the bare encoder", floor.measure),
    "outpath": Row("Out path: from I420 to encrypted packets, all processes", outpath.measure),
    "gateway_cpu": Row("The gateway on one core, watch-only sessions", gateway_cpu.measure),
    "camera": Row("The gateway on one core, camera both ways", camera.measure),
    "clean": Row("Clean sessions on the whole machine", clean.measure),
    "latency": Row("Latency of a chunk that is due when ready", latency.measure),
    "shown": Row("The same, to the picture in reactor-sdk", latency.shown),
    "camera_in": Row("Camera in", camera_in.measure),
    "commands": Row("Command round trip, four sessions streaming", commands.measure),
    "join": Row("Joining, and being lost", join.measure),
}
