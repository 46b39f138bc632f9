"""Sessions with a camera both ways, the gateway on one core."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.bench.media import packets
from tests.bench.media.bench import WARM_UP_S, Bench
from tests.bench.media.clients.driver import null_clients
from tests.bench.media.results import OURS, Figure, Target
from tests.bench.media.rows.gateway_cpu import separate
from tests.bench.media.systems.ours import GATEWAY
from tests.bench.media.watching import watch

SESSIONS: Final = 24
CAMERA_BPS: Final = 1_200_000
CODEC: Final = "h264"
NOTE = (
    "Cameras send packets that were encoded before, 24 fps at 1.2 Mbit/s, small pictures padded; "
    "the other core decodes them, sends them and counts the 2.5 Mbit/s that come back. A session "
    "counts as whole with 24 fps within 1 %, nothing lost and no gap over 200 ms; in live mode a "
    "gap may also come from a starved camera or decoder on the other core."
)


async def measure(bench: Bench) -> list[Figure]:
    """Joins 24 sessions that publish a camera, and watches them."""
    count = 4 if bench.quick else SESSIONS
    bench.say(f"camera: {count} sessions both ways")
    options = ("video=canned", "chunk_ms=1", f"resident_slots={count + 4}")
    with bench.small(options) as service:
        async with null_clients() as clients:
            await service.join(clients, CODEC, count, camera_bitrate=CAMERA_BPS)
            separate(service, clients, GATEWAY)
            await clients.start()
            await asyncio.sleep(2 * WARM_UP_S)
            separate(service, clients, GATEWAY)
            watched = [await watch(service, clients, bench.window_s) for _ in range(bench.runs)]
            await service.leave(clients)
    detail = {
        "fps worst": [round(each.worst_rate, 2) for each in watched],
        "longest gap ms": [round(each.longest_gap_ms) for each in watched],
        "lost packets": [each.lost for each in watched],
        "client cores": [round(each.client_cores, 3) for each in watched],
        "cores by role": [
            {name: round(each.spent.cores(name), 3) for name in each.spent.by_role}
            for each in watched
        ],
    }

    def figure(name: str, unit: str, values: list[float], target: Target | None = None) -> Figure:
        called = f"{count} cameras: {name}"
        return Figure("camera", called, OURS, unit, tuple(values), target, note=NOTE, detail=detail)

    late = [packets.percentile(each.lateness_ms(), 0.99) for each in watched]
    all_whole = Target(count, at_least=True)
    cores = [each.spent.cores(GATEWAY) for each in watched]
    return [
        figure("whole sessions", "", [float(each.whole) for each in watched], all_whole),
        figure("gateway, share of the core", "cores", cores),
        figure(
            "gateway CPU a frame, in and out together",
            "ms",
            [each.ms_a_frame(GATEWAY) for each in watched],
        ),
        figure("pacing error p99", "ms", late),
    ]
