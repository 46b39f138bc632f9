"""A live session moves while its model takes half a second for a second of pictures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import pairwise

import pytest

from sana_gateway import CameraFrame, Client
from tests.e2e.driving import RATE, Camera, publishing
from tests.e2e.pool.__main__ import SIZE, options_of
from tests.e2e.pool.fleet import Member, viewed
from tests.e2e.pool.victims import busiest, healthy, pool_with
from tests.stack import Stack, serving

ACTORS = 2
MOVES = 2
CHUNK_S = 1.0
SLACK_S = 1.0
"""For a machine that runs other tests beside this one."""
STRAYS = 4
"""Frames that may be missed in a row: the camera's clock is not quite the model's, and a machine
that is busy shows some late. A decoder that begins when its actor takes over misses twelve."""

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


class Filming(Camera):
    """A camera that notes what it sends."""

    def __init__(self) -> None:
        super().__init__("h264", *SIZE)
        self.sent_us: list[int] = []

    async def frames(self) -> AsyncIterator[CameraFrame]:
        async for frame in super().frames():
            self.sent_us.append(frame.timestamp_us)
            yield frame

    def unanswered(self, member: Member) -> int:
        """Returns how many frames were missed, at the model's rate, where most in a row were.

        A camera that was held up sends what it is late with at once: that is one frame then.
        """

        def place(since_us: int) -> int:
            return round(since_us * RATE / 1e6)

        return max(
            len(
                {place(sent - before) for sent in self.sent_us if before < sent < after}
                - {0, place(after - before)}
            )
            for before, after in pairwise(member.sources_us)
        )


@pytest.fixture(scope="module")
def pool() -> Iterator[Stack]:
    with serving(*options_of(ACTORS, 2), "--model-option", "chunk_ms=500") as stack:
        yield stack


async def test_a_camera_that_sends_no_keyframes_unasked_is_answered_while_its_session_moves(
    pool: Stack,
) -> None:
    camera = Filming()
    async with Client(pool.grpc_address) as client:
        await pool_with(client, healthy(ACTORS))
        session = await client.create_session("simulated")
        async with viewed(session, client) as member, publishing(session, camera, "h264"):
            await session.set_prompt("a harbour")
            await session.start()
            await member.frames(4 * 24)
            member.watch_gaps()
            for _ in range(MOVES):
                chosen = await busiest(client)
                async for progress in client.drain_actor(chosen.actor_id):
                    if progress.remaining == 0:
                        break
                await member.frames(3 * 24)
                await pool_with(client, healthy(ACTORS))
            longest_s, asked = member.longest_gap_s, camera.asked
        await session.close()
    assert member.moves == ["EXACT"] * MOVES
    assert camera.unanswered(member) <= STRAYS
    assert longest_s < CHUNK_S + SLACK_S
    assert asked >= MOVES, "each decoder begins at a keyframe"
