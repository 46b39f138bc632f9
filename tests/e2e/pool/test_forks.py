"""One shot, several edits: copies of a running session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from sana_gateway import Client, Session
from tests.e2e.driving import WAIT_S, Told
from tests.e2e.pool.fleet import Member, viewed
from tests.media.clips import Picture
from tests.stack import Stack, serving

pytestmark = pytest.mark.e2e

HEIGHT = 88
PROMPTS = ("a red dress", "a winter coat")
ALIKE_DB = 35.0
"""PSNR of a picture that was encoded twice, from different keyframes on."""
TINT_STEP = 4.0
"""Colours of prompts that are this far apart survive the encoding."""
BELOW_MARKER = 24
"""Rows of the picture that tell the sessions apart."""


@pytest.fixture(scope="module")
def studio() -> Iterator[Stack]:
    """A service whose pictures depend on clip and prompt."""
    options = [
        word
        for pair in ("chunk_ms=50", "resident_slots=4", "size=160x88")
        for word in ("--model-option", pair)
    ]
    with serving("--model", "simulated", "--backend", "in-process", *options) as running:
        yield running


@pytest.fixture
async def client(studio: Stack) -> AsyncIterator[Client]:
    async with Client(studio.grpc_address) as connected:
        yield connected


async def watched(client: Client, opened: AsyncExitStack, session: Session) -> Member:
    await opened.enter_async_context(session)
    return await opened.enter_async_context(viewed(session, client, keep=True))


def tint(picture: Picture) -> tuple[int, int]:
    """Returns the colour that the prompt has chosen, coarsely."""
    chroma = picture[HEIGHT:].reshape(2, -1).mean(axis=1)
    return round(float(chroma[0]) / TINT_STEP), round(float(chroma[1]) / TINT_STEP)


def likeness(one: Picture, other: Picture) -> float:
    """Returns the PSNR in dB of what is not the marker."""
    difference = one[BELOW_MARKER:].astype(float) - other[BELOW_MARKER:].astype(float)
    return float(10 * np.log10(255**2 / max(np.square(difference).mean(), 1e-9)))


async def test_copies_go_on_as_the_original_until_their_prompts_differ(
    client: Client, opened: AsyncExitStack, minute: Path
) -> None:
    original = await watched(client, opened, await client.create_session("simulated"))
    clip = await original.session.upload(minute)
    await original.session.set_mode("file")
    await original.session.set_video(clip)
    await original.session.set_prompt("a harbour")
    await original.session.wait_for(lambda state: state.has_video, WAIT_S)
    await original.session.start()
    await original.frames(40)

    made = await client.fork(original.session.session_id, 2, request_id="once")
    again = await client.fork(original.session.session_id, 2, request_id="once")
    assert [each.session_id for each in again] == [each.session_id for each in made]
    copies = [await watched(client, opened, each) for each in made]
    for each, prompt in zip(copies, PROMPTS, strict=True):
        await each.session.ready(WAIT_S)
        await each.frames(30)
        await each.session.set_prompt(prompt)
    last = max(each.newest for each in copies) + 60
    for each in (original, *copies):
        await each.reached(last)
        assert each.seamless
        assert each.mismatched == 0
    assert original.shown[0][1] == 0

    for each in copies:
        first = each.shown[0][1]
        assert first > 0, "it goes on where the original was"
        for frame in range(first, first + 20):
            assert likeness(original.picture(frame), each.picture(frame)) > ALIKE_DB
    tints = {tint(each.picture(last)) for each in (original, *copies)}
    assert len(tints) == len(copies) + 1

    # The clip is the copies' own: the original may end.
    await original.session.close()
    told = [Told(each.session) for each in copies]
    for each, heard in zip(copies, told, strict=True):
        await each.frames(1)
        assert each.seamless
        await each.session.reset()
        await each.session.set_video(clip)
        await heard.until_told("video_accepted")
