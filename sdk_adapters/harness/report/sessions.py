"""The sessions of a run one by one: rows, the worst of them, and what went wrong. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from sdk_adapters.harness.records import Outcome, SessionRecord
from sdk_adapters.harness.report.model import (
    SESSIONS,
    WORST,
    Distribution,
    Failure,
    Row,
    Sessions,
    Value,
    Worst,
)
from sdk_adapters.harness.report.values import spread

WORST_ROWS: Final = 200
"""Of the rows of a large run, those that are the worst; the others are drawn."""
_WENT_WRONG: Final = {Outcome.LOST: 3, Outcome.FAILED: 2, Outcome.TURNED_AWAY: 1}
"""How bad an end is."""
_FELT: Final = (
    "join",
    "start_to_first_frame",
    "prompt_to_pixels",
    "glass_to_glass",
    "pause_to_resume",
    "reconnect",
    "migration_gap",
    "command_ack",
)
"""Waits of a user: the longest in a session says how bad it was."""
_FAULTS: Final = (
    ("frames_lost", "frames lost"),
    ("frames_repeated", "frames repeated"),
    ("pictures_wrong", "wrong pictures"),
    ("freezes", "freezes"),
    ("commands_refused", "commands refused"),
)

Badness = tuple[float, ...]


def rows(records: Sequence[SessionRecord], overall: Mapping[str, Value], seed: int) -> Sessions:
    """Returns the sessions that a report shows: all, or the worst and a sample.

    Args:
        records: The sessions that count, in order of arrival.
        overall: What all sessions together had.
        seed: Draws the sample.
    """
    if len(records) <= SESSIONS:
        shown = {record.number for record in records}
        sampled, selection = shown, "all"
    else:
        drawn = Random(seed).sample(records, SESSIONS - WORST_ROWS)  # noqa: S311 - no secret
        sampled = {record.number for record in drawn}
        bad = sorted(records, key=lambda each: badness(each, overall), reverse=True)[:WORST_ROWS]
        shown = sampled | {record.number for record in bad}
        selection = "the worst and a sample"
    return Sessions(
        counted=len(records),
        shown=len(shown),
        selection="all" if selection == "all" else "the worst and a sample",
        rows=tuple(
            _row(record, sampled=record.number in sampled)
            for record in records
            if record.number in shown
        ),
    )


def worst(records: Sequence[SessionRecord], overall: Mapping[str, Value]) -> tuple[Worst, ...]:
    """Returns the sessions that went worst, worst first, with what was wrong."""
    ordered = sorted(records, key=lambda each: badness(each, overall), reverse=True)
    return tuple(
        Worst(
            number=record.number,
            session_id=record.session_id,
            wire=record.wire,
            why=tuple(_complaints(record, overall)),
            trace_ids=tuple(record.trace_ids),
        )
        for record in ordered[:WORST]
    )


def badness(record: SessionRecord, overall: Mapping[str, Value]) -> Badness:
    """Returns how badly a session went, to be compared: its end, its frames, its waits."""
    counts = record.counts
    return (
        _WENT_WRONG.get(record.outcome, 0),
        counts.get("frames_lost", 0.0) + counts.get("frames_repeated", 0.0),
        counts.get("frozen_s", 0.0),
        max((share for share, *_ in _waits(record, overall)), default=0.0),
    )


def failures(records: Sequence[SessionRecord]) -> tuple[Failure, ...]:
    """Returns how sessions went wrong, by kind, most frequent first."""
    kinds = Counter(
        (record.outcome.value, record.failure or "unknown")
        for record in records
        if record.outcome in _WENT_WRONG
    )
    return tuple(
        Failure(outcome=outcome, kind=kind, sessions=count)
        for (outcome, kind), count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    )


def _complaints(record: SessionRecord, overall: Mapping[str, Value]) -> list[str]:
    said = []
    if record.outcome in _WENT_WRONG:
        said.append(f"{record.outcome.value}: {record.failure or 'unknown'}")
    said += [f"{count:,.0f} {name}" for key, name in _FAULTS if (count := record.counts.get(key))]
    if frozen := record.counts.get("frozen_s"):
        said.append(f"frozen for {frozen:.2f} s")
    if waits := _waits(record, overall):
        share, name, longest, usual = max(waits)
        if share > 0:
            said.append(f"{name} of up to {longest:,.0f} ms; half of all are below {usual:,.0f} ms")
    return said


def _waits(
    record: SessionRecord, overall: Mapping[str, Value]
) -> list[tuple[float, str, float, float]]:
    """Returns a session's longest waits: times what 95 of 100 are below, metric, both in ms."""
    found = []
    for name in _FELT:
        values, usual = record.values.get(name), overall.get(name)
        if values is None or not values.count or not isinstance(usual, Distribution):
            continue
        longest = spread(values).max
        found.append((longest / max(usual.p95, 1.0), name, longest, usual.p50))
    return found


def _row(record: SessionRecord, *, sampled: bool) -> Row:
    return Row(
        number=record.number,
        process=record.process,
        wire=record.wire,
        codec=record.codec,
        network=record.network,
        live=record.live,
        decoded=record.decoded,
        session_id=record.session_id,
        planned_s=record.planned_s,
        began_s=record.began_s,
        ended_s=record.ended_s,
        outcome=record.outcome.value,
        failure=record.failure,
        sampled=sampled,
        values={name: spread(each) for name, each in record.values.items() if each.count},
        counts=dict(record.counts),
        trace_ids=tuple(record.trace_ids),
    )
