"""Diffusion frame by frame with tiny random weights, through the whole service on the CPU."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sana_gateway import Client, Session
from sana_gateway.camera import Camera, play
from tests.e2e.driving import WAIT_S, Told, stage
from tests.required import ROOT
from tests.stack import Stack, serving

# The kit, and a session of the engine, are tested in any run: this one imports torch twice.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

MODEL = "image-to-image"
SIZE = (96, 160)
FRAMES = 40
OPTIONS = ("size=160x96", "threads=1", "device=cpu", "chunk_ms=120")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`serve --model image-to-image --weights`, with small pictures: they cost less."""
    pytest.importorskip("torch")
    weights = tmp_path_factory.mktemp("weights") / "tiny"
    command = (sys.executable, "-m", "gateway.cli", "weights", MODEL, "tiny", str(weights))
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    words = [word for each in OPTIONS for word in ("--model-option", each)]
    given = ("--model", MODEL, "--weights", str(weights), *words)
    # Random weights make noise: with bits to spare, two encodings of it are alike.
    with serving(*given, "--backend", "in-process", "--bitrate", "8000000") as running:
        yield running


async def played(session: Session, told: Told) -> list[np.ndarray[Any, Any]]:
    """Plays the staged clip; returns what was shown."""
    known = len(told.of("generation_complete"))
    shown: list[np.ndarray[Any, Any]] = []
    async with session.pictures("vp8") as pictures, asyncio.timeout(WAIT_S):
        await session.start()
        async for picture in pictures:
            assert picture.frame == len(shown)
            assert picture.rgb.shape == (*SIZE, 3)
            shown.append(picture.rgb)
            if len(shown) == FRAMES:
                break
    await told.until_told("generation_complete", known + 1)
    return shown


def apart(these: list[Any], those: list[Any]) -> float:
    """Returns the mean difference of levels between two plays."""
    return float(
        np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(these, those, strict=True)])
    )


async def test_a_clip_and_then_a_camera_are_edited_frame_by_frame(
    service: Stack, clip: Path
) -> None:
    async with (
        Client(service.grpc_address) as client,
        await client.create_session(MODEL) as session,
    ):
        told = Told(session)
        await stage(session, clip)
        first = await played(session, told)
        chunks = [each.frames_emitted for each in told.of("chunk_complete")]
        assert chunks == [4, 8, 8, 8, 8, 4], "what is under way is owed, and answered at the end"
        again = await played(session, told)
        await session.set_prompt("charcoal on rough paper")
        other = await played(session, told)
        assert apart(first, other) > 2 * apart(first, again)

        await session.reset()
        await session.set_mode("live")
        await session.set_prompt("a harbour in watercolour")
        camera = Camera()
        async with session.peer(camera=camera, codec="vp8") as peer:
            playing = asyncio.create_task(play(camera, clip, loop=True))
            try:
                await session.start()
                seen = 0
                async with asyncio.timeout(WAIT_S):
                    async for picture in peer.pictures():
                        assert picture.rgb.std() > 1
                        seen += 1
                        if seen == 16:
                            break
            finally:
                camera.close()
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
        assert not told.of("command_error")
