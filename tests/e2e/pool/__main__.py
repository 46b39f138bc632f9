"""Failures of a running pool, measured: `python -m tests.e2e.pool kill_actor --times 20`.

Starts the service with Ray and `simulated` (canned video, small pictures: fake GPUs), plays
sessions through it, does to it what the scenario says, and prints what the viewers saw.
Exit code 1: a session was lost, or a frame was missing or came again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from sana_gateway import Client
from tests.e2e.pool.fleet import playing
from tests.e2e.pool.gateways import behind_gateways
from tests.e2e.pool.scenarios import (
    Outcome,
    Scenario,
    drain_actor,
    kill_actor,
    kill_gateway,
    kill_scheduler,
    kill_scheduler_amid,
    kill_target,
    roll,
    stop_actor,
    terminate_actor,
    undisturbed,
)
from tests.e2e.pool.victims import healthy, pool_with
from tests.media.clips import Recipe, make
from tests.stack import Stack, serving

SCENARIOS: dict[str, Scenario] = {
    each.__name__: each
    for each in (
        *(kill_actor, stop_actor, drain_actor, terminate_actor, roll),
        *(kill_scheduler, kill_target, kill_scheduler_amid),
    )
}
GATEWAYS = "kill_gateway"
"""Needs a gateway of its own to kill."""
SIZE = (160, 88)
SECONDS_EACH = 12
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


async def run(
    options: argparse.Namespace, stack: Stack, address: str, clip: Path, scenario: Scenario
) -> Outcome:
    """Plays a scenario."""
    async with Client(address) as client:
        await pool_with(client, healthy(options.actors))
        async with playing(
            client,
            "simulated",
            clip,
            options.sessions,
            decode=options.decode,
            live=SIZE if options.live else None,
        ) as fleet:
            floor = await undisturbed(fleet, 3.0)
            print(f"undisturbed: longest gap {floor * 1e3:.0f} ms", file=sys.stderr)
            return await scenario(stack, client, fleet, options.times)


def play(options: argparse.Namespace, words: list[str], clip: Path) -> Outcome:
    """Starts the service that the scenario needs, and plays it."""
    if options.scenario == GATEWAYS:
        with behind_gateways(words, 1) as (head, (gateway,)):
            scenario = kill_gateway(gateway.revive)
            return asyncio.run(run(options, head, gateway.address, clip, scenario))
    with serving(*words) as stack:
        scenario = SCENARIOS[options.scenario]
        return asyncio.run(run(options, stack, stack.grpc_address, clip, scenario))


def main() -> int:
    """Runs one scenario as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, prog="tests.e2e.pool")
    parser.add_argument("scenario", choices=[*SCENARIOS, GATEWAYS])
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
        outcome = play(options, options_of(options.actors, slots), clip)
    said = json.dumps(outcome.as_json(), indent=2)
    print(said)
    if options.json:
        options.json.write_text(said + "\n")
    # What was on its way when a gateway died may be missing or come again: nobody knows.
    frames = 0 if options.scenario == GATEWAYS else outcome.missing + outcome.repeated
    return int(bool(outcome.lost or frames or outcome.mismatched))


if __name__ == "__main__":
    sys.exit(main())
