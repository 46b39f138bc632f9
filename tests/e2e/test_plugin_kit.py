"""A scaffolded model, installed in an environment of its own, edits a clip."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from model_actor.conformance import RULES
from model_actor.plugin_kit.command import plugin
from sana_gateway import Client, Session
from tests.e2e.driving import WAIT_S, Told, stage
from tests.required import ROOT, require
from tests.stack import Stack, role

pytestmark = pytest.mark.e2e

NAME = "night-look"
FRAMES = 40
SITE = Path(sysconfig.get_paths()["purelib"])


def run(*words: Path | str) -> str:
    """Runs a command; it has to end well."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment in which a scaffolded package is installed, beside all that is here."""
    folder = tmp_path_factory.mktemp("plugin")
    result = CliRunner().invoke(plugin, ["new", NAME, "--into", str(folder)])
    assert f"pip install -e {folder / NAME}\n" in result.output
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    (site / "beside.pth").write_text(f"import site; site.addsitedir({str(SITE)!r})\n")
    python = folder / "venv/bin/python"
    # What it depends on is beside it, and so is what builds it.
    alone = ("--offline", "--no-deps", "--no-build-isolation")
    uv = require(".tools/uv/bin/uv")
    run(uv, "pip", "install", *alone, "--python", python, "-e", folder / NAME)
    return python


@pytest.fixture(scope="module")
def service(python: Path) -> Iterator[Stack]:
    """`serve --model` with it."""
    ports = ("--http-port", "0", "--grpc-port", "0")
    with role(
        *("serve", "--model", NAME, "--backend", "in-process", *ports), python=python
    ) as running:
        yield running


async def redder(session: Session, told: Told) -> float:
    """Plays the staged clip; returns how much more red than blue there was in it."""
    known = len(told.of("generation_complete"))
    levels = []
    async with session.pictures("vp8") as pictures, asyncio.timeout(WAIT_S):
        await session.start()
        async for picture in pictures:
            assert picture.frame == len(levels)
            assert picture.rgb.shape == (360, 640, 3)
            levels.append(picture.rgb[..., 0].mean() - picture.rgb[..., 2].mean())
            if len(levels) == FRAMES:
                break
    await told.until_told("generation_complete", known + 1)
    return float(np.mean(levels))


async def test_it_is_served_and_edits_a_clip_as_the_prompt_says(service: Stack, clip: Path) -> None:
    async with (
        Client(service.grpc_address) as client,
        await client.create_session(NAME) as session,
    ):
        told = Told(session)
        await stage(session, clip, "all of it red")
        assert await redder(session, told) > 20
        assert [each.frames_emitted for each in told.of("chunk_complete")] == [8] * 5
        await session.set_prompt("all of it blue")
        assert await redder(session, told) < -20


@pytest.mark.slow
def test_it_keeps_to_every_rule_where_it_is_installed(python: Path) -> None:
    # All but what depends on how busy this machine is.
    rules = [word for rule in RULES if rule.name != "time" for word in ("--only", rule.name)]
    told = run(python, "-m", "gateway.cli", "plugin", "check", NAME, "--json", *rules)
    verdicts = {each["rule"]: each["verdict"] for each in json.loads(told)["rules"]}
    assert set(verdicts.values()) == {"passed"}, verdicts
