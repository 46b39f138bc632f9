"""What the load generator costs: how many sessions one core drives, and what measuring takes.

    python -m tests.bench.generator [--webrtc 40] [--grpc 200] [--seconds 12] [--runs 3]

The WebRTC sessions watch a real service on this machine, `simulated` with canned pictures
padded to 2.5 Mbit/s. So many gRPC sessions no service feeds beside the generator on two
cores: they watch a stand-in, the gateway's own gRPC server over a hub that hands out frames
of one size. Everything runs in one process of the generator, as an operator's load test
does; runs with measuring and without take turns. CPU is process time.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import structlog

from gateway.ports import EncodedFrame
from sana_gateway.v1 import media_pb2
from scheduler.scenario.scenario import Scenario, parse
from sdk_adapters.harness.generator import Target, run
from sdk_adapters.harness.plan import plan
from sdk_adapters.harness.records import Measured, Second
from sdk_adapters.harness.stack import StackOptions, own_stack
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

RATE: Final = 24
OCTETS: Final = 2600
"""Of a frame of the stand-in: 0.5 Mbit/s."""
TURNS: Final = 12
"""The stand-in's sessions are served in so many groups, evenly spread over a frame's time."""


def scenario(wire: str, sessions: int, seconds: float) -> Scenario:
    """Returns so many sessions that come within two seconds and watch to the end."""
    forever = {"kind": "fixed", "value": "10m"}
    return parse(
        {
            "name": "generator",
            "duration": seconds,
            "warm_up": 5,
            "workload": {
                "arrivals": {"kind": "level", "connected": sessions, "over": 2},
                "session": forever,
                "think": {"kind": "fixed", "value": 0.5},
                "play": forever,
                "pause": {"kind": "fixed", "value": 2},
                "live_share": 0,
                "prompts_per_minute": 12,
            },
            "pool": {"gpus": 1, "model": {"name": "simulated", "chunk_ms": 5, "session_gb": 0.5}},
            "load": {
                "wires": {wire: 1},
                "decode": 0,
                "clip": {"seconds": 30, "width": 160, "height": 88},
            },
        },
        "the benchmark",
    )


def cpu(measured: Measured) -> float:
    """Returns the CPU of the generator's processes within the measured time, in cores."""
    begin, end = measured.measured_s
    return statistics.fmean(each.cpu for each in measured.seconds if begin < each.at_s <= end)


def told(name: str, runs: list[tuple[Measured, Measured]]) -> None:
    """Prints the figures."""
    counted = runs[0][0]
    seconds = counted.measured_s[1] - counted.measured_s[0]
    frames = [sum(each.counts.get("frames_shown", 0) for each in on.sessions) for on, _ in runs]
    lost = [sum(each.counts.get("frames_lost", 0) for each in on.sessions) for on, _ in runs]
    metered = [
        on.measuring_cpu_s / max(1e-9, sum(each.cpu for each in on.seconds)) for on, _ in runs
    ]
    with_, without = [cpu(on) for on, _ in runs], [cpu(off) for _, off in runs]
    rate = statistics.median(frames) / seconds
    print(f"{name}: {len(counted.sessions)} sessions, {rate:,.0f} frames a second")
    print(f"  lost {max(lost):.0f}; invalid: {counted.invalid or 'no'}")
    print(f"  generator: {_spread(with_)} of a core, without measuring {_spread(without)}")
    print(f"  measuring, by its own meter: {_spread(metered)} of the generator's CPU")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


async def measure(name: str, wanted: Scenario, target: Target, runs: int) -> None:
    """Runs a scenario with measuring and without, in turn."""

    def seen(_: Second) -> None: ...

    pairs = []
    for _ in range(runs):
        on = await run(plan(wanted, processes=1), target, observe=seen)
        off = await run(plan(wanted, processes=1), target, observe=seen, measures=False)
        pairs.append((on, off))
    told(name, pairs)


@asynccontextmanager
async def stand_in() -> AsyncIterator[Target]:
    """Runs the gateway's gRPC server in a process of its own, over a hub that plays to all."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,))
    process.start()
    try:
        address = await asyncio.to_thread(here.recv)
        yield Target(grpc=(address,), http=(), token="")
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)


def _serve(pipe: Connection[Any, Any]) -> None:
    errors = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=errors)
    asyncio.run(_play(pipe))


async def _play(pipe: Connection[Any, Any]) -> None:
    hub, shown = FakeHub(("simulated",)), dict[str, int]()
    async with grpc_gateway(fake_services(hub)) as address:
        pipe.send(address)
        clock = asyncio.get_running_loop().time
        begin, turn = clock(), 0
        while True:
            turn += 1
            await asyncio.sleep(max(0.0, begin + turn / (RATE * TURNS) - clock()))
            playing = [each for each in hub.sessions.values() if each.state.started]
            for session in playing[turn % TURNS :: TURNS]:
                frame = shown[session.session_id] = shown.get(session.session_id, -1) + 1
                _hand_out(session, frame, clock())


def _hand_out(session: Any, frame: int, now: float) -> None:
    for connection in session.connections:
        for subscription in connection.subscriptions:
            if subscription.closed:
                continue
            subscription.viewer.frame(
                EncodedFrame(
                    data=b"x" * OCTETS,
                    keyframe=True,
                    codec=media_pb2.CODEC_H264,
                    timestamp_us=round(now * 1e6),
                    run=1,
                    chunk=frame // RATE,
                    frame=frame,
                    source_us=0,
                )
            )
            if frame % RATE == 0:
                stats = media_pb2.ViewerStats(run=1, chunk=frame // RATE, frame=frame)
                subscription.viewer.stats(stats)


async def main() -> None:
    """Measures both wires."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--webrtc", type=int, default=40, help="sessions; 0: leave out")
    parser.add_argument("--grpc", type=int, default=200, help="sessions; 0: leave out")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if options.webrtc:
        wanted = scenario("webrtc", options.webrtc, options.seconds)
        with tempfile.TemporaryDirectory() as folder:
            async with own_stack(StackOptions(wanted.spec), Path(folder)) as stack:
                await measure("WebRTC", wanted, stack.target, options.runs)
    if options.grpc:
        wanted = scenario("grpc", options.grpc, options.seconds)
        async with stand_in() as target:
            await measure("gRPC, a stand-in", wanted, target, options.runs)


if __name__ == "__main__":
    asyncio.run(main())
