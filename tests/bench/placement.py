"""How many placements the core makes per second in a large pool, and how long each step takes.

A pool is filled until it holds its sessions, some of which pause. Then sessions end and new
ones come, a hundred at a time, while all actors send their signs of life. A placement is
everything from the ask to the session's being on its actor: `PlaceAsked` and `AdmitAnswered`,
each with `decide`. The rate is by CPU time, which other programs on the machine disturb
least; every step (one `apply` with its `decide`) is timed by the clock.

python -m tests.bench.placement [--json] [--actors N] [--sessions N] [--placements N]
    [--policy pack|spread|least-loaded]
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field

from scheduler.core import pool_events as ev
from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId
from scheduler.core.placement import LeastLoaded, Pack, Spread
from scheduler.core.pool import Pool

POLICIES = {"pack": Pack, "spread": Spread, "least-loaded": LeastLoaded}
TENANTS = tuple(Principal(f"tenant-{number}", frozenset()) for number in range(50))
GATEWAYS = tuple(GatewayId(f"gateway-{number}") for number in range(8))
SLOTS = 16
CHUNK_MS = 110.0
IDLE = 0.4
"""Share of the sessions that hold no compute."""
BEATS_PER_PLACEMENT = 2
BLOCK = 100


@dataclass
class Bench:
    """A pool, its time, and how long its steps took."""

    pool: Pool
    now: float = 0.0
    steps: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds of each step, by the kind of event."""
    placed: dict[SessionId, Epoch] = field(default_factory=dict)
    asked: int = 0

    def tell(self, event: ev.Event) -> list[ev.Effect]:
        """Takes one step, and returns its effects."""
        begun = time.perf_counter()
        try:
            self.pool.apply(event, self.now)
        finally:
            effects = self.pool.decide(self.now)
            self.steps[type(event).__name__].append(time.perf_counter() - begun)
        return effects

    def new_ask(self) -> ev.PlaceAsked:
        """Returns what a gateway asks for a session that was not there before."""
        number = self.asked
        self.asked += 1
        tenant, gateway = TENANTS[number % len(TENANTS)], GATEWAYS[number % len(GATEWAYS)]
        return ev.PlaceAsked(SessionId(f"s{number}"), "model", tenant, gateway)

    def place(self, ask: ev.PlaceAsked) -> SessionId:
        """Places a new session and has it confirmed."""
        session = ask.session
        effects = self.tell(ask)
        [admit] = [effect for effect in effects if isinstance(effect, ev.Admit)]
        self.tell(ev.AdmitAnswered(admit.actor, session, admit.epoch))
        self.placed[session] = admit.epoch
        return session

    def live(self, session: SessionId, gateway: GatewayId, *, idle: bool) -> None:
        """Connects a session and has it compute, or not."""
        epoch = self.placed[session]
        self.tell(ev.ConnectionsReported(gateway, {session: 1}, complete=False))
        self.tell(ev.BookAsked(session, epoch))
        if idle:
            self.tell(ev.Unbooked(session, epoch))


def run(actors: int, sessions: int, placements: int, policy: str) -> dict[str, object]:
    """Fills a pool, replaces sessions, and returns what was measured."""
    rules = ev.PoolRules(park_after=None)
    bench = Bench(Pool(rules, POLICIES[policy]()))
    names = [ActorId(f"actor-{number:04}") for number in range(actors)]
    for name in names:
        bench.tell(ev.ActorRegistered(name, ("model", "alias"), name, SLOTS, CHUNK_MS, 1000.0))
    draw = random.Random(7)
    while len(bench.placed) < sessions:
        session = bench.place(bench.new_ask())
        bench.live(session, GATEWAYS[0], idle=draw.random() < IDLE)
        # All actors send signs of life twice a second: here, so that none is lost.
        bench.now += 0.0005
        if bench.asked % 1000 == 0:
            beat_all(bench, names)
    bench.steps.clear()
    gc.collect()
    placing = 0.0
    begun = time.process_time()
    ids = list(bench.placed)
    beats = itertools.cycle(names)
    for _ in range(placements // BLOCK):
        draw.shuffle(ids)
        for session in [ids.pop() for _ in range(BLOCK)]:
            bench.tell(ev.ReleaseAsked(session, "closed"))
            del bench.placed[session]
        asks = [bench.new_ask() for _ in range(BLOCK)]
        block_begun = time.process_time()
        new = [bench.place(ask) for ask in asks]
        placing += time.process_time() - block_begun
        for session in new:
            bench.live(session, draw.choice(GATEWAYS), idle=draw.random() < IDLE)
        ids += new
        bench.now += BLOCK * 0.001
        for _ in range(BLOCK * BEATS_PER_PLACEMENT):
            bench.tell(ev.ActorBeat(next(beats), CHUNK_MS, chunks=4))
    cpu = time.process_time() - begun
    steps = [took for kind in bench.steps.values() for took in kind]
    return {
        "actors": actors,
        "sessions": len(bench.placed),
        "policy": policy,
        "placements": placements,
        "placements_per_s": round(placements / placing),
        "with_all_else_per_s": round(placements / cpu),
        "step_us": quantiles(steps),
        "by_event_us": {kind: quantiles(took) for kind, took in sorted(bench.steps.items())},
    }


def beat_all(bench: Bench, names: list[ActorId]) -> None:
    """Sends a sign of life of every actor."""
    for name in names:
        bench.tell(ev.ActorBeat(name, CHUNK_MS))


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Returns p50, p99 and the most, in microseconds."""
    ordered = sorted(seconds)
    return {
        "p50": round(ordered[len(ordered) // 2] * 1e6, 1),
        "p99": round(ordered[int(len(ordered) * 0.99)] * 1e6, 1),
        "max": round(ordered[-1] * 1e6, 1),
    }


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.placement", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--actors", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--placements", type=int, default=20_000)
    parser.add_argument("--policy", choices=sorted(POLICIES), default="pack")
    chosen = parser.parse_args(arguments)
    report = run(chosen.actors, chosen.sessions, chosen.placements, chosen.policy)
    if chosen.json:
        print(json.dumps(report))
        return
    for key, value in report.items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
