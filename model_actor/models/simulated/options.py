"""The `--model-option key=value` pairs of `simulated`, checked and turned into values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from model_actor.plugin import FewerSteps, Stage
from scheduler.core.errors import PluginError

OPTIONS: dict[str, str] = {
    "chunk_ms": "time that a window takes, declared and spent, in ms (default 280)",
    "first_ms": "time that the first window of a run takes, in ms (default as chunk_ms)",
    "jitter_ms": "spread of that time around its mean, in ms (default 0)",
    "busy": "true: spend the time computing; false: sleeping, as if a GPU computed (default)",
    "gil_ms": "part of the time, in ms, in which no other Python thread runs (default 0)",
    "load_s": "time that loading takes, in s (default 0)",
    "weights_gb": "declared memory of the model (default 0)",
    "session_gb": "declared memory of each session (default 0)",
    "resident_gb": "declared memory for sessions; 0: only resident_slots counts (default)",
    "resident_slots": "sessions that an actor holds at once (default 8)",
    "snapshot_bytes": "size to which the snapshot of a session is padded (default 0)",
    "degraded_rates": "shares of the frame rate at which sessions may run where there is no room "
    "for more, highest first, as 2/3 or 2/3,1/2 (default none)",
    "degraded_steps": "fewer steps with which sessions may run where there is no room for more, "
    "each with the time that a window takes then, in ms, as 2:140 or 2:140,1:90 (default none)",
    "max_batch": "most sessions in one call (default 1)",
    "batch_share": "share of the time that each further session of a batch adds (default 1)",
    "stages": "stages in order: names that share chunk_ms, or name:ms for each, out of encode, "
    "generate, decode, commit (default generate)",
    "size": "width and height of its pictures, as 160x88: smaller ones are cheap to decode, so "
    "that many sessions fit on a machine without GPU (default 1280x704)",
    "video": "encoded: pictures go through the real encoder (default); canned: every session "
    "is shown one loop of 240 marked keyframes, padded to the wanted bitrate",
    "fail_every": "every n-th window of the actor fails; tried again it succeeds",
    "fail_at": "indices of windows that fail whenever they are tried, as 3 or 3,7",
    "delay_at": "windows that take longer, as index:ms or index:ms,index:ms",
    "hang_at": "index of a window that never returns",
    "crash_at": "index of a window that ends the process",
}
"""Names and explanations, as the command line shows them."""

_SHARES = {"encode": 0.15, "generate": 0.55, "decode": 0.2, "commit": 0.1}
"""How `chunk_ms` falls to stages that are given without a time of their own."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options come to."""

    chunk_ms: float = 280.0
    first_ms: float | None = None
    jitter_ms: float = 0.0
    busy: bool = False
    gil_ms: float = 0.0
    load_s: float = 0.0
    weights_gb: float = 0.0
    session_gb: float = 0.0
    resident_gb: float = 0.0
    resident_slots: int = 8
    snapshot_bytes: int = 0
    degraded_rates: tuple[float, ...] = ()
    degraded_steps: tuple[FewerSteps, ...] = ()
    max_batch: int = 1
    batch_share: float = 1.0
    stages: tuple[tuple[str, float | None], ...] = (("generate", None),)
    size: tuple[int, int] | None = None
    """None: as declared."""
    video: str = "encoded"
    fail_every: int | None = None
    fail_at: frozenset[int] = frozenset()
    delay_at: Mapping[int, float] = field(default_factory=dict)
    hang_at: int | None = None
    crash_at: int | None = None

    def declared_stages(self) -> tuple[Stage, ...]:
        """Returns the stages with their times."""
        total = sum(_SHARES[name] for name, _ in self.stages)
        return tuple(
            Stage(
                name,
                cost_ms=self.chunk_ms * _SHARES[name] / total if cost is None else cost,
                off_latency_path=name == "commit",
            )
            for name, cost in self.stages
        )


def parse(options: Mapping[str, str]) -> Settings:
    """Reads the options.

    Raises:
        PluginError: An option is unknown, or its value makes no sense.
    """
    values: dict[str, object] = {}
    for name, text in options.items():
        if name not in _PARSERS:
            raise PluginError(f"simulated has no option {name!r}; it has {', '.join(OPTIONS)}")
        try:
            values[name] = _PARSERS[name](text)
        except (ValueError, ZeroDivisionError) as error:
            raise PluginError(f"simulated: {name}={text!r}: {OPTIONS[name]}") from error
    return Settings(**values)  # type: ignore[arg-type]


def _time(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(text)
    return value


def _index(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _size(text: str) -> tuple[int, int]:
    """Reads WIDTHxHEIGHT; the marker has 40 by 22 cells of two pixels at least."""
    width, height = (int(part) for part in text.split("x"))
    if width % 2 or height % 2 or not (80 <= width <= 4096 and 44 <= height <= 4096):
        raise ValueError(text)
    return width, height


def _rates(text: str) -> tuple[float, ...]:
    rates = tuple(float(Fraction(part)) for part in text.split(","))
    if not all(0 < rate < 1 for rate in rates) or list(rates) != sorted(rates, reverse=True):
        raise ValueError(text)
    return rates


def _fewer_steps(text: str) -> tuple[FewerSteps, ...]:
    pairs = [part.partition(":") for part in text.split(",")]
    fewer = tuple(FewerSteps(_count(steps), _time(ms)) for steps, _, ms in pairs)
    if len({each.steps for each in fewer}) < len(fewer) or not all(each.chunk_ms for each in fewer):
        raise ValueError(text)
    return fewer


def _choice(*choices: str) -> Callable[[str], str]:
    def parse_choice(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse_choice


def _indices(text: str) -> frozenset[int]:
    return frozenset(_index(part) for part in text.split(","))


def _delays(text: str) -> dict[int, float]:
    pairs = [part.partition(":") for part in text.split(",")]
    return {_index(index): _time(ms) for index, _, ms in pairs}


def _stages(text: str) -> tuple[tuple[str, float | None], ...]:
    """Reads stages; they keep the order of a pass, and one of them makes the pictures."""
    stages: list[tuple[str, float | None]] = []
    for part in text.split(","):
        name, _, cost = part.partition(":")
        stages.append((name, _time(cost) if cost else None))
    names = [name for name, _ in stages]
    if names != [name for name in _SHARES if name in names] or "generate" not in names:
        raise ValueError(text)
    return tuple(stages)


_PARSERS: dict[str, Callable[[str], Any]] = {
    "chunk_ms": _time,
    "first_ms": _time,
    "jitter_ms": _time,
    "busy": lambda text: _choice("true", "false")(text.lower()) == "true",
    "gil_ms": _time,
    "load_s": _time,
    "weights_gb": _time,
    "session_gb": _time,
    "resident_gb": _time,
    "resident_slots": _count,
    "snapshot_bytes": _index,
    "degraded_rates": _rates,
    "degraded_steps": _fewer_steps,
    "max_batch": _count,
    "batch_share": _time,
    "stages": _stages,
    "size": _size,
    "video": _choice("encoded", "canned"),
    "fail_every": _count,
    "fail_at": _indices,
    "delay_at": _delays,
    "hang_at": _index,
    "crash_at": _index,
}
