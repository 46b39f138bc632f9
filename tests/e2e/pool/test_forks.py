"""One shot, several edits: copies of a running session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from sana_gateway import Client, Session
from scheduler.scenario.load import Clip
from sdk_adapters.harness.generator import source
from sdk_adapters.harness.marker import Marker, Origin, prompt_tag, read_origin
from tests.e2e.driving import WAIT_S, Told
from tests.e2e.pool.__main__ import SIZE
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


def drawn(picture: Picture) -> tuple[Marker, Origin]:
    """Returns what the model wrote into a picture, bit by bit: of which frame, session, run,
    prompt and source frame it is.
    """
    marker, origin = read_origin(picture[:HEIGHT])
    assert marker is not None
    assert origin is not None
    assert origin.source is not None
    return marker, origin


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose frames are numbered so that the model can tell them."""
    width, height = SIZE
    path = tmp_path_factory.mktemp("forks") / "marked.mp4"
    spec = Clip(seconds=90.0, width=width, height=height)
    path.write_bytes(source.clip(spec))
    return path


async def test_copies_go_on_as_the_original_until_their_prompts_differ(
    client: Client, opened: AsyncExitStack, marked: Path
) -> None:
    original = await watched(client, opened, await client.create_session("simulated"))
    clip = await original.session.upload(marked)
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
            ours, theirs = original.picture(frame), each.picture(frame)
            assert drawn(ours) == drawn(theirs), frame
            assert drawn(ours)[1].source == frame
            assert likeness(ours, theirs) > ALIKE_DB
    prompts = {drawn(each.picture(last))[1].prompt_tag for each in (original, *copies)}
    assert prompts == {prompt_tag(text) for text in ("a harbour", *PROMPTS)}
    assert len({drawn(each.picture(last))[1].source for each in (original, *copies)}) == 1
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
