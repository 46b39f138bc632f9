"""From I420 in the actor to encrypted packets: all processes, beside the floor and rivals."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from typing import Final

from tests.bench.media.bench import WARM_UP_S, Bench
from tests.bench.media.clients.driver import NullClients, null_clients
from tests.bench.media.clip import RATE
from tests.bench.media.quoted import quote
from tests.bench.media.results import INCUMBENT, OURS, Figure, Target
from tests.bench.media.rows.floor import floor_ms
from tests.bench.media.systems import incumbent, naive
from tests.bench.media.systems.ours import ACTOR, DECODE, GATEWAY
from tests.bench.media.systems.service import Service
from tests.bench.media.watching import Watched, follow, watch

ROW: Final = "outpath"
OVER_FLOOR: Final = {"vp8": Target(1.15), "h264": Target(1.25)}
OF_INCUMBENT: Final = {"vp8": Target(0.85), "h264": Target(0.45)}
SAME_QUALITY_DB: Final = 0.5
FOLLOW_S: Final = 6.0
NOTE = (
    "CPU of every process of a system but what decodes the source, which the others do not do "
    "(ours decodes a still clip of full size; its cost stands in the JSON). All are given the same "
    "pictures at the same pinned bitrate, ours and the naive server as I420, the incumbent as RGB, "
    "as its interface wants. Ratios to the incumbent compare with its VP8: it offers aiortc "
    "clients no H.264. CPU a session is that of a frame, 24 times a second, so that a machine that "
    "is short of CPU does not make a session cheap."
)


async def measure(bench: Bench) -> list[Figure]:
    """Watches 1 and 4 sessions of each system."""
    figures: list[Figure] = []
    with bench.ours() as service:
        async with null_clients() as clients:
            for codec in ("vp8", "h264"):
                floors = [await floor_ms(bench, codec, paced=paced) for paced in (False, True)]
                figures += [await _quality(bench, service, clients, codec)]
                for count in (1, 4):
                    watched = await _watched(bench, service, clients, codec, count)
                    figures += _ours(watched, codec, count, *floors)
    async with bench.naive() as server, null_clients() as clients:
        figures += [await _quality(bench, server, clients, "vp8")]
        for count in (1, 4):
            watched = await _watched(bench, server, clients, "vp8", count)
            figures += [_session(watched, "vp8", count, server.name, naive.SERVER)]
    return figures + await _compared(bench, figures)


async def _compared(bench: Bench, figures: Sequence[Figure]) -> list[Figure]:
    """The incumbent, measured or quoted, and ours in proportion to it."""
    if bench.has_incumbent:
        async with bench.incumbent() as runtime, null_clients() as clients:
            theirs = [await _quality(bench, runtime, clients, "vp8")]
            for count in (1, 4):
                watched = await _watched(bench, runtime, clients, "vp8", count)
                theirs.append(_session(watched, "vp8", count, runtime.name, incumbent.RUNTIME))
    else:
        theirs = quote(bench, ROW)
    base = next(each for each in theirs if each.name == session_name("vp8", 1))
    ratios = [
        Figure(
            ROW,
            f"{codec.upper()}: CPU a session, in proportion to the incumbent's VP8",
            OURS,
            "x",
            tuple(value / base.median for value in own.values),
            OF_INCUMBENT[codec],
            note=NOTE,
        )
        for codec in ("vp8", "h264")
        for own in figures
        if own.system == OURS and own.name == session_name(codec, 1)
    ]
    _warn_of_quality(bench, [*figures, *theirs])
    return theirs + ratios


def session_name(codec: str, count: int) -> str:
    """What the figure is called that is compared over systems."""
    return f"{codec.upper()}, {count} session{'s' * (count > 1)}: CPU a session"


def quality_name(codec: str) -> str:
    """What the quality is called."""
    return f"{codec.upper()}: PSNR at the client"


async def _watched(
    bench: Bench, service: Service, clients: NullClients, codec: str, count: int
) -> list[Watched]:
    """Watches so many sessions. One is joined anew for every run: its phase against the
    server's clock is fixed for its life. Several average that out, and stay.
    """
    joins, windows = (bench.runs, 1) if count == 1 else (1, bench.runs)
    watched = []
    for _ in range(joins):
        bench.say(f"{ROW}: {service.name}, {codec}, {count} session(s)")
        await service.join(clients, codec, count)
        await clients.start()
        await asyncio.sleep(WARM_UP_S)
        watched += [await watch(service, clients, bench.window_s) for _ in range(windows)]
        await service.leave(clients)
    return watched


async def _quality(bench: Bench, service: Service, clients: NullClients, codec: str) -> Figure:
    """PSNR of what a client gets, and the bitrate that it came at."""
    await service.join(clients, codec)
    seconds = 3.0 if bench.quick else FOLLOW_S
    followed = await follow(service, clients, codec, bench.clip.folder, seconds)
    await service.leave(clients)
    return Figure(
        ROW,
        quality_name(codec),
        service.name,
        "dB",
        (followed.quality,),
        detail={"Mbit/s": round(followed.mbps, 3), "pictures": len(followed.psnr)},
    )


def _ours(
    watched: list[Watched],
    codec: str,
    count: int,
    floor: Sequence[float],
    paced: Sequence[float],
) -> list[Figure]:
    costs = tuple(each.ms_a_frame(GATEWAY, ACTOR) for each in watched)
    called = f"{codec.upper()}, {count} session{'s' * (count > 1)}"
    proportions = [
        Figure(
            ROW,
            f"{called}: in proportion to the floor{how}",
            OURS,
            "x",
            tuple(cost / statistics.median(base) for cost in costs),
            target,
            note=NOTE,
        )
        for how, base, target in (
            ("", floor, OVER_FLOOR[codec]),
            (", both 24 frames a second", paced, None),
        )
    ]
    return [
        _session(watched, codec, count, OURS, GATEWAY, ACTOR),
        Figure(ROW, f"{called}: CPU a frame", OURS, "ms", costs, note=NOTE),
        *proportions,
    ]


def _session(watched: list[Watched], codec: str, count: int, system: str, *roles: str) -> Figure:
    return Figure(
        ROW,
        session_name(codec, count),
        system,
        "cores",
        tuple(each.ms_a_frame(*roles) * RATE / 1e3 for each in watched),
        note=NOTE,
        detail={
            "fps worst": [round(each.worst_rate, 2) for each in watched],
            "Mbit/s each": [round(each.mbps, 2) for each in watched],
            "lost packets": [each.lost for each in watched],
            "machine cores": [round(each.spent.machine, 2) for each in watched],
            "source decode cores": [round(each.spent.cores(DECODE), 3) for each in watched],
            "threads": {role: watched[-1].spent.threads(role) for role in roles},
        },
    )


def _warn_of_quality(bench: Bench, figures: Sequence[Figure]) -> None:
    """Says where pictures are not equal: CPU at unequal quality is no comparison."""
    found = {(each.system, each.name): each.median for each in figures}
    theirs = found.get((INCUMBENT, quality_name("vp8")))
    if theirs is None:
        bench.note("PSNR of the incumbent: its figures are quoted, and quality was not taken then.")
        return
    for codec in ("vp8", "h264"):
        gap = found[OURS, quality_name(codec)] - theirs
        if gap < -SAME_QUALITY_DB:
            bench.note(
                f"Equal quality: our {codec.upper()} is {-gap:.2f} dB below the incumbent's VP8 at "
                f"the same bitrate, more than the {SAME_QUALITY_DB} dB allowed."
            )
