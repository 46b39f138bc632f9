"""A recording goes on though the session's actor is killed, twice, and nobody watches H.264."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path

import av
import pytest

from gateway.recording.index import HEADER, Index
from sana_gateway import Client
from sdk_adapters.harness.deeds import actor_process
from sdk_adapters.harness.marker import read_marker
from tests.e2e.driving import VP8, WAIT_S, Told, polled, stage, watching
from tests.e2e.pool.victims import busiest, healthy, pool_with
from tests.media.clips import Recipe, make
from tests.stack import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

FRAMES = 33 + 24 * 10
MODEL = ("chunk_ms=60", "size=320x192", "resident_slots=4")
KILLS = 2


async def test_a_recording_has_every_frame_once_though_actors_are_killed(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", Recipe(frames=FRAMES, width=320, height=192))
    words = [word for option in MODEL for word in ("--model-option", option)]
    recording = ("--recording", "--recordings-dir", str(tmp_path / "kept"))
    with serving("--model", "simulated", "--actors", "2", *words, *recording) as stack:
        async with Client(stack.grpc_address) as client:
            await pool_with(client, healthy(2))
            async with await client.create_session("simulated") as session:
                session_id, told = session.session_id, Told(session)
                await stage(session, clip)
                async with watching(client, session, VP8) as screen:
                    await session.start()
                    for kill in range(1, KILLS + 1):
                        await told.until_told("chunk_complete", 3 * kill)
                        await pool_with(client, healthy(2))
                        actor = await busiest(client)
                        os.kill(
                            actor_process([each.pid for each in stack.members()], actor.address),
                            signal.SIGKILL,
                        )
                        await told.until_told("session_moved", kill)
                    await told.until_told("generation_complete")
                    watched = screen.numbers()
        index = await _ended(tmp_path / "kept" / "recordings" / session_id)
    assert watched == list(range(FRAMES))
    assert await asyncio.to_thread(
        _frames, tmp_path / "kept" / "recordings" / session_id, index
    ) == (list(range(FRAMES)))


async def _ended(folder: Path) -> Index:
    """Waits until a recording says that its session has ended."""

    async def look() -> Index | None:
        index = Index.decoded((folder / "index.json").read_bytes())
        return index if index is not None and index.ended_at is not None else None

    index = await polled(look, WAIT_S)
    assert index is not None
    return index


def _frames(folder: Path, index: Index) -> list[int]:
    names = [HEADER, *(each.name for each in index.segments)]
    data = b"".join((folder / name).read_bytes() for name in names)
    with av.open(io.BytesIO(data)) as container:
        pictures = [frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]
    found = [read_marker(picture) for picture in pictures]
    return [-1 if each is None else each.frame for each in found]
