"""Runs of a clip: pause, reset, replay, a new prompt, several sessions at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from sana_gateway import Client, Phase, Session, VideoFrame
from tests.e2e.driving import H264, PROMPT, VP8, WAIT_S, Screen, Told, stage, watching
from tests.media.clips import Recipe, make
from tests.stack import Stack

pytestmark = pytest.mark.e2e

WINDOW_ENDS = (33, 57)
"""Frames of the long clip after which a window ends, but for the last."""
SAME_DB = 45.0
"""Peak signal-to-noise ratio from which two pictures are the same to a viewer."""


@pytest.fixture
async def session(client: Client) -> AsyncIterator[Session]:
    async with await client.create_session("simulated") as made:
        yield made


async def test_a_pause_holds_the_picture_and_resume_goes_on_with_the_next_frame(
    client: Client, session: Session, long_clip: Path
) -> None:
    told = Told(session)
    await stage(session, long_clip)
    async with watching(client, session) as screen:
        await session.start()
        await screen.until(lambda: 20 in screen.numbers())
        await session.pause()
        assert session.state is not None
        assert session.state.paused
        halted = await session.wait_for(lambda state: not state.running, WAIT_S)
        assert halted.started
        assert halted.phase == Phase.Value("PHASE_PAUSED")
        # What was made already plays out; then nothing comes, at a rate of one each 42 ms.
        await told.until(lambda: _shown(told) == len(screen.items) in WINDOW_ENDS)
        await screen.quiet(0.5)
        assert screen.numbers() == list(range(_shown(told)))
        assert _shown(told) in WINDOW_ENDS
        await session.resume()
        await told.until_told("generation_complete")
        await screen.until(lambda: 80 in screen.numbers())
        assert screen.numbers() == list(range(81))
    stamps = [frame.timestamp_us for frame in screen.items]
    assert all(earlier < later for earlier, later in pairwise(stamps))
    assert [each.chunk_index for each in told.of("chunk_complete")] == list(range(4))


def _shown(told: Told) -> int:
    """Returns how many frames the chunks that were told had."""
    return sum(each.frames_emitted for each in told.of("chunk_complete"))


async def test_nothing_of_a_run_arrives_after_its_reset(
    client: Client, session: Session, clip: Path, long_clip: Path
) -> None:
    told = Told(session)
    await stage(session, long_clip)
    await session.set_seed(7)
    async with watching(client, session) as screen:
        await session.start()
        await screen.until(lambda: 40 in screen.numbers())
        old = screen.run
        await session.reset()
        await told.until_told("generation_reset")
        # An answer behind it on the same connection: what was sent before has come.
        await session.describe()
        seen, said = len(screen.of(old)), len(told.items)
        state = session.state
        assert state is not None
        assert not any((state.started, state.running, state.has_video, state.has_prompt))
        assert (state.current_chunk, state.seed) == (0, 7)
        await stage(session, clip)
        await session.start()
        await told.until_told("generation_complete")
        await screen.until(lambda: 39 in screen.numbers())
        assert screen.run > old
        assert screen.numbers() == list(range(40))
        assert len(screen.of(old)) == seen
    later = [each.chunk_complete for each in told.items[said:] if each.HasField("chunk_complete")]
    assert [each.chunk_index for each in later] == [0, 1, 2]


async def test_a_new_prompt_lands_within_two_chunks(
    client: Client, session: Session, long_clip: Path
) -> None:
    told = Told(session)
    await stage(session, long_clip)
    async with watching(client, session) as screen:
        await session.start()
        await screen.until(lambda: 12 in screen.numbers())
        await session.set_prompt("an engraving")
        known = len(told.of("chunk_complete"))
        assert session.state is not None
        assert session.state.current_prompt == "an engraving"
        await told.until(lambda: told.of("chunk_complete")[-1].active_prompt == "an engraving")
    prompts = [each.active_prompt for each in told.of("chunk_complete")]
    landed = prompts.index("an engraving")
    assert prompts == [PROMPT] * landed + ["an engraving"] * (len(prompts) - landed)
    assert landed - known <= 2


async def test_three_sessions_stream_at_the_same_time(client: Client, clip: Path) -> None:
    everybody_streams = asyncio.Barrier(3)

    async def play(codec: int) -> list[int]:
        async with await client.create_session("simulated") as session:
            told = Told(session)
            await stage(session, clip)
            async with watching(client, session, codec) as screen:  # type: ignore[arg-type]
                await session.start()
                await told.until_told("generation_started")
                await everybody_streams.wait()
                await told.until_told("generation_complete")
                await screen.until(lambda: 39 in screen.numbers())
                return screen.numbers()

    async with asyncio.timeout(WAIT_S):
        for seen in await asyncio.gather(play(H264), play(VP8), play(H264)):
            assert seen == list(range(40))


def decoded(frames: Sequence[VideoFrame]) -> dict[int, npt.NDArray[np.uint8]]:
    """Decodes the frames of one stream; returns the pictures by their number."""
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    pictures = {}
    for frame in frames:
        (picture,) = decoder.decode(av.Packet(frame.data))
        if not frame.held:
            pictures[frame.frame] = picture.to_ndarray()
    return pictures


def psnr(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    error = float(np.mean((one.astype(np.int16) - other) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def _runs(screen: Screen) -> int:
    return len({frame.run for frame in screen.items})


def _is_whole(screen: Screen) -> bool:
    return screen.numbers() == list(range(33))


async def test_a_replay_begins_at_frame_0_and_shows_the_same_for_the_same_seed(
    stack: Stack, tmp_path: Path
) -> None:
    # Of the models that need no GPU `painter` alone depends on the seed.
    clip = make(tmp_path / "clip.mp4", Recipe(frames=33))
    async with (
        Client(stack.grpc_address) as client,
        await client.create_session("painter") as session,
    ):
        told = Told(session)
        await stage(session, clip)

        async with watching(client, session) as screen:
            for turn, seed in enumerate((5, 5, 6), 1):
                await session.set_seed(seed)
                await session.start()
                assert session.state is not None
                assert session.state.current_chunk == 0
                await told.until_told("generation_complete", turn)
                await screen.until(lambda turn=turn: _runs(screen) >= turn and _is_whole(screen))
        runs = sorted({frame.run for frame in screen.items})
        streams = [[frame for frame in screen.stream if frame.run == run] for run in runs]
        first, again, other = map(decoded, streams)
        assert min(psnr(first[number], again[number]) for number in range(33)) >= SAME_DB
        assert min(psnr(first[number], other[number]) for number in range(33)) < SAME_DB
        assert [each.total_chunks for each in told.of("generation_complete")] == [2] * 3
        assert session.state is not None
        assert session.state.has_video
        assert session.state.has_prompt
