"""The examples of `examples/python`, as their readers run them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import av
import pytest

from tests.e2e.reactor.reactor_sdks import LIMIT_S, SDKS, run
from tests.media.clips import Recipe, make
from tests.required import ROOT
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

EXAMPLES = {"native": "edit_clip.py", "py08": "edit_clip_08.py"}
FRAMES = 57


@pytest.fixture(scope="module")
def edited(simulated: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the examples printed and wrote; they run side by side."""
    folder = tmp_path_factory.mktemp("examples")
    clip = make(folder / "clip.mp4", Recipe(frames=FRAMES))

    async def edit(name: str) -> tuple[str, str, Path]:
        out = folder / f"{name}.mp4"
        words = (str(clip), "a watercolour", "--out", str(out), "--url", simulated.http_url)
        script = str(ROOT / "examples/python" / EXAMPLES[name])
        return (*await run(SDKS[name].python, script, *words, limit_s=LIMIT_S), out)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*map(edit, EXAMPLES), return_exceptions=True)

    return dict(zip(EXAMPLES, asyncio.run(all_of_them()), strict=True))


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_example_writes_the_edited_clip(edited: dict[str, Any], name: str) -> None:
    ran = edited[name]
    if isinstance(ran, BaseException):
        raise ran
    said, complaints, out = ran
    assert "generation_complete" in said, complaints
    told = int(said.splitlines()[-1].split()[-2])
    with av.open(str(out)) as container:
        (video,) = container.streams.video
        frames = sum(1 for _ in container.decode(video))
        assert (video.width, video.height) == (320, 192)
    assert frames == told
    # What is lost on the way may be missing, and the last picture waits for one that follows.
    assert 0.9 * FRAMES <= frames <= FRAMES
