"""Our Python client where nothing of the server is installed: grpcio and protobuf alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.required import ROOT, require
from tests.stack import Stack

pytestmark = pytest.mark.e2e

PROGRAM = """
import asyncio, json, sys
from sana_gateway import Client

async def main(address, clip):
    async with Client(address) as client:
        async with await client.create_session("simulated") as session:
            await session.set_mode("file")
            await session.set_video(await session.upload(clip))
            await session.wait_for(lambda state: state.has_video, 40)
            await session.set_prompt("a watercolour painting")
            numbers = []
            async with session.watch("h264") as frames:
                await session.start()
                async for frame in frames:
                    numbers.append(frame.frame)
                    if len(numbers) == 40:
                        break
            try:
                session.pictures()
                missing = None
            except ModuleNotFoundError as error:
                missing = [error.name, str(error)]
            outside = {"gateway", "scheduler", "model_actor", "ray", "av", "numpy", "aiortc"}
            print(json.dumps([numbers, sorted(outside & set(sys.modules)), missing]))

asyncio.run(main(*sys.argv[1:]))
"""


def test_it_plays_a_clip_with_nothing_else_installed(simulated: Stack, clip: Path) -> None:
    python = require(".venvs/proto-client/bin/python")
    done = subprocess.run(
        [python, "-c", PROGRAM, simulated.grpc_address, str(clip)],
        env={"PYTHONPATH": str(ROOT / "sdk_adapters/python"), "PATH": ""},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    numbers, outside, missing = json.loads(done.stdout)
    assert numbers == list(range(40))
    assert outside == []
    name, hint = missing
    assert name in ("av", "numpy"), "the extra `video` is not installed here"
    assert "sana-gateway-client[video]" in hint
