"""The programs that the playground copies are real: they run as they are, but for the address."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.walkthrough import story
from tests.e2e.walkthrough.playground import Playground
from tests.required import ROOT, require
from tests.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PICTURES = 3
"""Lines that a program prints, one for each picture, after which it is believed."""


def copied(page: Playground, language: str, service: Stack) -> str:
    """Copies what was done; with the address of gRPC, which a page cannot know."""
    program = page.copied(language)
    assert story.OWN_PROMPT in program
    return re.sub(r'"127\.0\.0\.1:\d+"', f'"{service.grpc_address}"', program, count=1)


def edited(page: Playground, clip: Path) -> None:
    """Edits a clip with two prompts."""
    page.choose_clip(clip)
    page.prompt(story.OWN_PROMPT)
    page.start()
    page.moves()


def pictures(command: list[str], folder: Path) -> list[str]:
    """Runs a program until it has printed some pictures; returns these lines."""
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        seen: list[str] = []
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if re.match(r"\d+ \d+ ", line):
                seen.append(line)
            if len(seen) == PICTURES:
                break
        process.kill()
    assert len(seen) == PICTURES, "".join(said)
    return seen


def test_the_copied_programs_run(
    playground: Playground, service: Stack, bay: Path, tmp_path: Path
) -> None:
    edited(playground, bay)
    python, node = (copied(playground, each, service) for each in ("Python", "Node gRPC"))
    script = playground.copied("JavaScript")
    assert f'apiUrl: "{service.http_url}"' in script
    playground.leave()

    shutil.copy(bay, tmp_path / "clip.mp4")
    (tmp_path / "copied.py").write_text(python)
    lines = pictures([sys.executable, "copied.py"], tmp_path)
    assert lines[0].endswith("(352, 640, 3)\n")

    folder = tmp_path / "examples/node-grpc"
    shutil.copytree(ROOT / "examples/node-grpc", folder)
    (folder / "node_modules").symlink_to(require(".tools/node/node_modules"))
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    shutil.copy(bay, folder / "clip.mp4")
    (folder / "copied.mjs").write_text(node)
    assert pictures([str(require(".tools/bin/node")), "copied.mjs"], folder)
