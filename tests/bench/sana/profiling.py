"""Where the time of a window goes, operator by operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from torch.profiler import ProfilerActivity, profile

from tests.bench.sana.rows import WAYS
from tests.bench.sana.stages import STAGES, Bench, Runner

_MOST: Final = 20
_WINDOWS: Final = 3


def profiled(bench: Bench, way: str, rows: Mapping[str, Any]) -> Iterator[str]:
    """Yields a table for each stage: operators by time, with the rate of those that multiply.

    Args:
        bench: What is measured.
        way: One of `WAYS`.
        rows: What was measured before: the ceiling is among it.
    """
    runner = Runner(bench, bench.engine(WAYS[way]), 1)
    runner.steady()
    ceiling = rows.get("machine", {}).get("matrix_tflops")
    activities = [ProfilerActivity.CPU]
    if bench.on_gpu:
        activities.append(ProfilerActivity.CUDA)
    windows = [runner.tasks() for _ in range(_WINDOWS)]
    recorded: dict[str, list[Any]] = {name: [] for name in STAGES}
    for tasks in windows:
        for name in STAGES:
            bench.settle()
            with profile(activities=activities, with_flops=True, record_shapes=True) as seen:
                runner.run(name, tasks)
                bench.settle()
            recorded[name].append(seen)
    for name in STAGES:
        yield from _stage(name, recorded[name][-1], ceiling, on_gpu=bench.on_gpu)


def _stage(name: str, seen: Any, ceiling: float | None, *, on_gpu: bool) -> Iterator[str]:
    def took_us(each: Any) -> float:
        return float(each.self_device_time_total if on_gpu else each.self_cpu_time_total)

    operators = sorted(seen.key_averages(group_by_input_shape=True), key=took_us, reverse=True)
    whole = sum(map(took_us, operators)) or 1.0
    yield f"#### {name}: {whole / 1e3:.1f} ms of operators"
    yield ""
    yield "| operator | shapes | calls | ms | share | TFLOP/s |"
    yield "|---|---|---|---|---|---|"
    for each in operators[:_MOST]:
        took = took_us(each)
        rate = each.flops / took / 1e6 if each.flops and took else 0.0
        part = f" ({rate / ceiling:.0%})" if ceiling else ""
        told = f"{rate:.3g}{part}" if rate else ""
        shapes = str([shape for shape in each.input_shapes if shape])[:60]
        yield (
            f"| {each.key[:50]} | {shapes} | {each.count} | {took / 1e3:.2f} | "
            f"{took / whole:.0%} | {told} |"
        )
    yield ""
