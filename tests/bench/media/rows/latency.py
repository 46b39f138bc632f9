"""From a chunk that is ready, and due, to its packets and to the picture in a real client."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Sequence
from typing import Any, Final

from tests.bench.media.bench import Bench, sdk
from tests.bench.media.clients.driver import NullClients, null_clients
from tests.bench.media.clip import FRAMES, RATE
from tests.bench.media.quoted import quote
from tests.bench.media.results import INCUMBENT, NAIVE, OURS, Figure, Target
from tests.bench.media.systems.service import Ready, Service
from tests.bench.media.watching import Followed, follow

ROW, SHOWN = "latency", "shown"
FIRST_PACKET = Target(15.0)
WORST_FRAME = Target(60.0)
FRAME_SHOWN = Target(80.0)
FOLLOW_S: Final = 4.8
NOTE = (
    "Ready: the model hands over the chunk, one a second, frame n exactly n / 24 s after the "
    "first (ours: model thread blocked meanwhile; incumbent: `emit`; naive server: the moment "
    "the frame is due, it has no model). A frame's own time begins when its chunk was ready, "
    "plus its place in the chunk. A value is the median over the chunks of a run, a worst frame "
    "the worst of the run, the jump cut included."
)


async def measure(bench: Bench) -> list[Figure]:
    """Follows one session of each system from its start, packet by packet."""
    figures: list[Figure] = []
    for codec in ("vp8", "h264"):
        with bench.ours(pace="deadline") as service:
            async with null_clients() as clients:
                followed = await _followed(bench, service, clients, codec)
                figures += _figures(bench, followed, codec, OURS)
    async with bench.naive() as server, null_clients() as clients:
        figures += _figures(bench, await _followed(bench, server, clients, "vp8"), "vp8", NAIVE)
    if not bench.has_incumbent:
        return figures + quote(bench, ROW)
    async with bench.incumbent() as runtime, null_clients() as clients:
        followed = await _followed(bench, runtime, clients, "vp8")
        figures += _figures(bench, followed, "vp8", INCUMBENT)
    return figures


async def shown(bench: Bench) -> list[Figure]:
    """Runs the real SDK, which decodes, and reads the frames' numbers out of its pictures."""
    if not bench.has_sdk:
        bench.note("Frames shown in reactor-sdk: .venvs/reactor-native is missing, run make setup.")
        return []
    figures = []
    with bench.ours(pace="deadline") as service:
        looks = []
        for run in range(bench.runs):
            bench.say(f"{SHOWN}: {OURS}, run {run + 1}")
            service.ready()
            said = await sdk("watch", service.url, seconds=_seconds(bench), clip=service.source)
            looks.append((said, service.ready()))
        figures += _shown_figures(bench, looks, OURS)
    if not bench.has_incumbent:
        return figures + quote(bench, SHOWN)
    looks = []
    for run in range(bench.runs):
        bench.say(f"{SHOWN}: {INCUMBENT}, run {run + 1}")
        async with bench.incumbent() as runtime:
            await runtime.provide(1)
            said = await sdk("watch", runtime.urls[0], local=True, seconds=_seconds(bench))
            looks.append((said, runtime.ready()))
    return figures + _shown_figures(bench, looks, INCUMBENT)


def delays_ms(said: dict[str, Any], ready: Sequence[Ready]) -> dict[int, float]:
    """Returns how long after its chunk was ready each chunk's first frame was shown.

    A client may not show the very first frame of a stream: for the first chunk it is the
    first that was shown, less its place in the chunk.

    Args:
        said: `shown` of the SDK's client: time and number of each picture.
        ready: When the chunks of its session were ready.
    """
    seen: dict[int, int] = {}
    index = -1
    for at_ns, number in said["shown"]:
        step = (number - index) % FRAMES
        if 0 < step <= FRAMES // 2:
            index += step
            seen.setdefault(index, at_ns)
    found: dict[int, float] = {}
    for each in ready:
        first = min(seen, default=0) if each.first_frame == 0 else each.first_frame
        if each.session_id in ("", said["session_id"]) and first in seen:
            place_ms = (first - each.first_frame) / RATE * 1e3
            found[each.first_frame] = (seen[first] - each.at_ns) / 1e6 - place_ms
    return found


def _seconds(bench: Bench) -> float:
    return 4.0 if bench.quick else FOLLOW_S


async def _followed(
    bench: Bench, service: Service, clients: NullClients, codec: str
) -> list[Followed]:
    found = []
    for run in range(bench.runs):
        bench.say(f"{ROW}: {service.name}, {codec}, run {run + 1}")
        await service.join(clients, codec)
        await asyncio.sleep(0.5)  # the join is over
        found.append(await follow(service, clients, codec, bench.clip.folder, _seconds(bench)))
        await service.leave(clients)
    return found


def _figures(bench: Bench, runs: Sequence[Followed], codec: str, system: str) -> list[Figure]:
    ours = system == OURS
    later = [_median([chunk.first_packet for chunk in each.later]) for each in runs]
    first = [math.nan if each.start is None else each.start.first_packet for each in runs]
    worst = [max(each.complete_ms, default=math.nan) for each in runs]
    called = codec.upper()
    wanted = [
        (f"{called}, chunk due when ready: to the first packet", later, FIRST_PACKET),
        (f"{called}, first chunk after start: to the first packet", first, FIRST_PACKET),
        (f"{called}: worst frame complete", worst, WORST_FRAME),
    ]
    return [
        figure
        for name, values, target in wanted
        if (figure := _known(bench, ROW, name, system, values, target if ours else None))
    ]


def _shown_figures(
    bench: Bench, looks: Sequence[tuple[dict[str, Any], list[Ready]]], system: str
) -> list[Figure]:
    delays = [delays_ms(said, ready) for said, ready in looks]
    target = FRAME_SHOWN if system == OURS else None
    later = [_median([ms for first, ms in each.items() if first >= 2 * RATE]) for each in delays]
    start = [each.get(0, math.nan) for each in delays]
    wanted = [
        ("VP8, chunk due when ready: to shown in reactor-sdk", later),
        ("VP8, first chunk after start: to shown in reactor-sdk", start),
    ]
    return [
        figure
        for name, values in wanted
        if (figure := _known(bench, SHOWN, name, system, values, target))
    ]


def _known(
    bench: Bench,
    row: str,
    name: str,
    system: str,
    values: Sequence[float],
    target: Target | None,
) -> Figure | None:
    """Makes a figure of the runs that have a value; notes those that have none."""
    kept = tuple(value for value in values if not math.isnan(value))
    if len(kept) < len(values):
        missing = len(values) - len(kept)
        bench.note(f"{system}, {name}: {missing} of {len(values)} runs without a value.")
    return Figure(row, name, system, "ms", kept, target, note=NOTE) if kept else None


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan
