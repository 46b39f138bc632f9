"""Owns a session and watches it over gRPC, on the service's host: `python -m ... --help`.

Prints one JSON object a line: `session` once there is one, `frames` after the clip. Starts
the clip when a line comes on standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from sana_gateway import Client
from tests.e2e.driving import Told, stage, watching

QUIET_S = 0.5
"""The last frame was shown before: completion follows it."""


async def play(address: str, clip: Path) -> None:
    """Plays a clip through a new session, and tells which frames came."""
    async with Client(address) as client, await client.create_session("simulated") as session:
        told = Told(session)
        await stage(session, clip)
        print(json.dumps({"session": session.session_id}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        async with watching(client, session) as screen:
            await session.start()
            await told.until_told("generation_complete")
            await screen.quiet(QUIET_S)
        frames = screen.numbers()
        rungs = sorted({frame.rung for frame in screen.items})
        print(json.dumps({"frames": frames, "rungs": rungs}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("clip", type=Path)
    options = parser.parse_args()
    asyncio.run(play(options.address, options.clip))
