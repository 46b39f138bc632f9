"""Failures of a running pool, measured: `python -m tests.e2e.pool kill_actor --times 20`.

Starts the service with Ray and `simulated` (canned video, small pictures: fake GPUs), plays
sessions through it, does to it what the scenario says, and prints what the viewers saw.
Exit code 1: a session was lost, or more frames were missing or came again than the scenario
allows. The scenarios: `scenarios.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from sana_gateway import Client
from tests.e2e.pool.fleet import playing
from tests.e2e.pool.gateways import behind_gateways
from tests.e2e.pool.outcome import Outcome
from tests.e2e.pool.scenarios import SCENARIOS, Site, play
from tests.e2e.pool.victims import healthy, pool_with
from tests.media.clips import Recipe, make
from tests.stack import Stack, serving

GATEWAYS = "kill_gateway"
"""Needs a gateway of its own to kill."""
SIZE = (160, 88)
SECONDS_EACH = 20
"""Of the clip, for each time that something is done."""


def options_of(actors: int, slots: int, *, size: tuple[int, int] = SIZE) -> list[str]:
    """Returns the options of a service of fake GPUs."""
    model = {
        "video": "canned",
        "chunk_ms": "60",
        "resident_slots": str(slots),
        "size": f"{size[0]}x{size[1]}",
    }
    words = ["--model", "simulated", "--actors", str(actors), "--log-level", "info"]
    for name, value in model.items():
        words += ["--model-option", f"{name}={value}"]
    return words


async def run(options: argparse.Namespace, site: Site, clip: Path) -> Outcome:
    """Plays the scenario."""
    await pool_with(site.client, healthy(options.actors))
    async with playing(
        site.client,
        "simulated",
        clip,
        options.sessions,
        decode=options.decode,
        live=SIZE if options.live else None,
    ) as fleet:
        floor = await fleet.undisturbed(3.0)
        print(f"undisturbed: longest gap {floor * 1e3:.0f} ms", file=sys.stderr)
        return await play(options.scenario, site, fleet, options.times)


def measured(options: argparse.Namespace, words: list[str], clip: Path) -> Outcome:
    """Starts the service that the scenario needs, and plays it."""

    async def at(address: str, stack: Stack, **gateway: Any) -> Outcome:
        async with Client(address) as client:
            return await run(options, Site(stack, client, **gateway), clip)

    if options.scenario == GATEWAYS:
        with behind_gateways(words, 1) as (head, (gateway,)):
            return asyncio.run(at(gateway.address, head, revive=gateway.revive))
    with serving(*words) as stack:
        return asyncio.run(at(stack.grpc_address, stack))


def main() -> int:
    """Runs one scenario as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, prog="tests.e2e.pool")
    parser.add_argument("scenario", choices=[*SCENARIOS])
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--actors", type=int, default=8)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--decode", action="store_true", help="compare every picture's marker")
    parser.add_argument("--live", action="store_true", help="cameras instead of clips")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # Those of a lost actor must find room on the others.
    slots = -(-options.sessions // max(1, options.actors - 1)) + 1
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(
            frames=24 * SECONDS_EACH * (options.times + 2), width=SIZE[0], height=SIZE[1]
        )
        clip = make(Path(folder) / "clip.mp4", recipe)
        outcome = measured(options, options_of(options.actors, slots), clip)
    said = json.dumps(outcome.as_json(), indent=2)
    print(said)
    if options.json:
        options.json.write_text(said + "\n")
    return int(bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())
