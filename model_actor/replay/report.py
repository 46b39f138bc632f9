"""The report of a replay: for people, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_actor.replay.comparing import SAME_DB, Place, RunResult, Verdict

_WORST_FIRST = (Verdict.DIFFERS, Verdict.ALIKE, Verdict.BIT_EQUAL, Verdict.NOTHING)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a journal."""

    session: str
    model: str
    runs: Sequence[RunResult]
    differences: Mapping[str, tuple[str, str]]
    """What is different here: of each thing how it was, and how it is."""

    @property
    def verdict(self) -> Verdict:
        """The worst of what came of the runs; nothing, where nothing was compared."""
        verdicts = {each.verdict for each in self.runs}
        return next((each for each in _WORST_FIRST if each in verdicts), Verdict.NOTHING)

    @property
    def is_same(self) -> bool:
        """Whether what was made again is what was shown, as far as can be told."""
        return self.verdict in (Verdict.BIT_EQUAL, Verdict.ALIKE)

    def as_json(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {
            "session": self.session,
            "model": self.model,
            "verdict": self.verdict.value,
            "runs": [_run_json(each) for each in self.runs],
            "environment": {
                name: {"journal": was, "here": now} for name, (was, now) in self.differences.items()
            },
        }

    def lines(self) -> Iterator[str]:
        """Yields it as text."""
        yield f"session {self.session}, model {self.model}: {self.verdict.value}"
        for run in self.runs:
            yield from _run_lines(run)
        for name, (was, now) in self.differences.items():
            yield f"  different here: {name} was {was or 'not named'}, is {now or 'not there'}"


def _run_lines(run: RunResult) -> Iterator[str]:
    told = f"run {run.number} (seed {run.seed}): {run.verdict.value}"
    if run.compared:
        told += f", {run.equal} of {run.compared} frames have the same bits"
    yield told
    if run.first_difference is not None:
        yield f"  differs from {run.first_difference} on"
    if run.first_difference is not None and run.pictures:
        size = " at half size" if run.reduced else ""
        yield (
            f"  {run.pictures} reference pictures, the worst is {run.worst_db:.1f} dB alike{size}"
            f" (the same: {SAME_DB:.0f} dB)"
        )
    elif run.first_difference is not None:
        yield "  the journal has no reference pictures: how far they are apart cannot be told"
    yield from (f"  {note}" for note in run.notes)


def _run_json(run: RunResult) -> dict[str, Any]:
    return {
        "run": run.number,
        "seed": run.seed,
        "verdict": run.verdict.value,
        "windows": run.windows,
        "compared_frames": run.compared,
        "equal_frames": run.equal,
        "unknown_frames": run.unknown,
        "first_difference": _place_json(run.first_difference),
        "source_difference": _place_json(run.source_difference),
        "reference_pictures": run.pictures,
        "worst_psnr_db": run.worst_db if math.isfinite(run.worst_db) else None,
        "notes": run.notes,
    }


def _place_json(place: Place | None) -> dict[str, int] | None:
    if place is None:
        return None
    return {"run": place.run, "chunk": place.chunk, "frame": place.frame}
