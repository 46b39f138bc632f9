"""A new user's first hour in a minute: all that the playground offers, by mouse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.walkthrough import story
from tests.e2e.walkthrough.playground import Playground
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_new_user_edits_a_clip_then_a_camera(
    playground: Playground, service: Stack, bay: Path, tmp_path: Path
) -> None:
    story.edit_a_clip(playground, bay)
    clip = story.compare_moments(playground)
    story.change_the_prompt(playground)
    story.pause_and_resume(playground)
    story.move_the_divider(playground)
    story.look_behind(playground)
    story.fork(playground)
    story.reset(playground)
    story.be_refused_the_camera(playground)
    camera = story.film(playground, service.http_url)
    story.bring_what_is_no_clip(playground, tmp_path)
    for name, pairs in {"clip": clip, "camera": camera}.items():
        print(f"{name}: frames between source and result: {[pair.apart for pair in pairs]}")
