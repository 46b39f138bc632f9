"""The real model with tiny random weights, through the whole service on the CPU."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sana_gateway import Client, CommandRejected, Session
from sana_gateway.camera import Camera, play
from tests.e2e.driving import WAIT_S, Told, stage
from tests.required import ROOT
from tests.stack import Stack, serving

pytestmark = pytest.mark.e2e

SIZE = (192, 320)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`serve --model sana-streaming --weights`, with small pictures: they cost less."""
    with served(tmp_path_factory.mktemp("weights") / "tiny", "causal") as running:
        yield running


@contextmanager
def served(bundle: Path, decoder: str) -> Iterator[Stack]:
    """Makes tiny weights and serves them."""
    pytest.importorskip("torch")
    making = ("weights", "tiny", str(bundle), "--decoder", decoder)
    command = (sys.executable, "-m", "gateway.cli", *making)
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    words = ("size=320x192", "threads=1", f"decoder={decoder}")
    options = [word for each in words for word in ("--model-option", each)]
    model = ("--model", "sana-streaming", "--weights", str(bundle))
    # Random weights make noise: with bits to spare, two encodings of it are alike.
    with serving(*model, *options, "--backend", "in-process", "--bitrate", "20000000") as running:
        yield running


async def play_clip(session: Session, told: Told, frames: int) -> list[np.ndarray[Any, Any]]:
    """Plays the staged clip; returns what was shown."""
    known = len(told.of("generation_complete"))
    shown = []
    async with session.pictures("vp8") as pictures, asyncio.timeout(WAIT_S):
        await session.start()
        async for picture in pictures:
            assert picture.rgb.shape == (*SIZE, 3)
            assert picture.frame == len(shown)
            shown.append(picture.rgb)
            if len(shown) == frames:
                break
    await told.until_told("generation_complete", known + 1)
    return shown


def apart(these: list[Any], those: list[Any]) -> float:
    """Returns the mean difference of levels between two plays."""
    return float(
        np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(these, those, strict=True)])
    )


async def test_a_clip_is_edited_as_prompt_and_seed_say(service: Stack, long_clip: Path) -> None:
    async with (
        Client(service.grpc_address) as client,
        await client.create_session("sana-streaming") as session,
    ):
        told = Told(session)
        await stage(session, long_clip)
        first = await play_clip(session, told, 81)
        chunks = [each.frames_emitted for each in told.of("chunk_complete")]
        assert chunks == [9, 24, 24, 24]
        again = await play_clip(session, told, 81)
        assert apart(first, again) < 2, "the same seed, but for the codec"
        await session.set_prompt("charcoal on rough paper")
        other = await play_clip(session, told, 81)
        assert apart(first, other) > 4 * apart(first, again)


async def test_a_camera_is_edited_over_webrtc(service: Stack, clip: Path) -> None:
    camera = Camera()
    async with (
        Client(service.grpc_address) as client,
        await client.create_session("sana-streaming") as session,
        session.peer(camera=camera, codec="vp8") as peer,
    ):
        told = Told(session)
        playing = asyncio.create_task(play(camera, clip, loop=True))
        try:
            await session.set_prompt("a watercolour")
            await session.start()
            seen = 0
            async with asyncio.timeout(WAIT_S):
                async for picture in peer.pictures():
                    assert picture.rgb.std() > 1
                    seen += 1
                    if seen == 40:
                        break
            await told.until_told("chunk_complete", 2)
            with pytest.raises(CommandRejected, match="0 to 16"):
                await session.set_prompt("charcoal", transition_chunks=17)
            await session.set_prompt("charcoal", transition_chunks=3)
            await told.until(lambda: told.of("chunk_complete")[-1].active_prompt == "charcoal")
        finally:
            camera.close()
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        assert [each.command for each in told.of("command_error")] == ["set_prompt"]


@pytest.mark.slow
async def test_the_windowed_decoder_answers_every_frame_late_and_in_order(
    tmp_path: Path, long_clip: Path
) -> None:
    with served(tmp_path / "windowed", "windowed") as running:
        async with (
            Client(running.grpc_address) as client,
            await client.create_session("sana-streaming") as session,
        ):
            told = Told(session)
            await stage(session, long_clip)
            for play in (1, 2):
                await play_clip(session, told, 81)
                chunks = [each.frames_emitted for each in told.of("chunk_complete")]
                assert chunks == [17, 24, 24, 16] * play
