"""What one outgoing frame costs the gateway, everything in it, on one core."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from tests.bench.media import packets, processes
from tests.bench.media.bench import WARM_UP_S, Bench
from tests.bench.media.clients.driver import NullClients, null_clients
from tests.bench.media.results import OURS, STOCK, Figure, Target
from tests.bench.media.systems.naive import SERVER
from tests.bench.media.systems.ours import GATEWAY
from tests.bench.media.systems.service import Service
from tests.bench.media.watching import Watched, watch

MANY: Final = 64
COUNTS: Final = (1, 4, 16, MANY)
QUICK_COUNTS: Final = (4,)
CODEC: Final = "h264"
COST = Target(0.25)
SHARE = Target(0.70)
LATENESS = Target(5.0)
ALL = Target(MANY, at_least=True)
NOTE = (
    "The gateway is pinned to core 0; actor, decode workers and the clients to core 1. The model "
    "is `simulated` with `video=canned` at 160x96, its packets padded to 2.5 Mbit/s: sources "
    "at full size would not fit beside it on the other core. Stock aiortc sends the same packets."
)


async def measure(bench: Bench) -> list[Figure]:
    """Watches 1, 4, 16 and 64 sessions of ours, then 64 of stock aiortc in packet mode."""
    figures: list[Figure] = []
    counts = QUICK_COUNTS if bench.quick else COUNTS
    options = ("video=canned", "chunk_ms=1", f"resident_slots={MANY + 8}")
    with bench.small(options) as service:
        async with null_clients() as clients:
            for count in counts:
                bench.say(f"gateway_cpu: {count} sessions")
                await service.join(clients, CODEC, count - joined(figures))
                watched = await _pinned(bench, service, clients, GATEWAY)
                figures += _figures(watched, count, OURS, GATEWAY)
            await service.leave(clients)
    async with bench.naive(packets=True) as stock, null_clients() as clients:
        bench.say(f"gateway_cpu: stock aiortc, {counts[-1]} sessions")
        await stock.join(clients, CODEC, counts[-1])
        watched = await _pinned(bench, stock, clients, SERVER)
        figures += _figures(watched, counts[-1], STOCK, SERVER)
    return figures


def joined(figures: list[Figure]) -> int:
    """Returns how many sessions the last figure was taken with."""
    return int(figures[-1].detail["sessions"]) if figures else 0


def separate(service: Service, clients: NullClients, role: str) -> None:
    """Gives one role core 0, and all else core 1; nothing where there is only one."""
    if (os.cpu_count() or 1) < 2:
        return
    for each, members in service.roles.items():
        processes.pin(members, {0 if each == role else 1})
    processes.pin([clients.process], {1})


async def _pinned(bench: Bench, service: Service, clients: NullClients, role: str) -> list[Watched]:
    separate(service, clients, role)
    await clients.start()
    await asyncio.sleep(WARM_UP_S)
    separate(service, clients, role)
    return [await watch(service, clients, bench.window_s) for _ in range(bench.runs)]


def _figures(watched: list[Watched], count: int, system: str, role: str) -> list[Figure]:
    many = count == MANY and system == OURS
    sessions = "session" if count == 1 else "sessions"
    detail = {
        "sessions": count,
        "fps worst": [round(each.worst_rate, 2) for each in watched],
        "Mbit/s each": [round(each.mbps, 2) for each in watched],
        "lost packets": [each.lost for each in watched],
        "client cores": [round(each.client_cores, 3) for each in watched],
        "cores by role": [
            {name: round(each.spent.cores(name), 3) for name in each.spent.by_role}
            for each in watched
        ],
        "threads": watched[-1].spent.threads(role),
    }

    def figure(name: str, unit: str, values: list[float], target: Target | None) -> Figure:
        return Figure(
            "gateway_cpu",
            f"{count} {sessions}: {name}",
            system,
            unit,
            tuple(values),
            target if many else None,
            note=NOTE,
            detail=detail,
        )

    late = [packets.percentile(each.lateness_ms(), 0.99) for each in watched]
    return [
        figure("CPU an outgoing frame", "ms", [each.ms_a_frame(role) for each in watched], COST),
        figure("share of the core", "cores", [each.spent.cores(role) for each in watched], SHARE),
        figure("pacing error p99", "ms", late, LATENESS),
        figure("whole sessions", "", [float(each.whole) for each in watched], ALL),
    ]
