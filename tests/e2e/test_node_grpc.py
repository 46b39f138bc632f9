"""The Node program of `examples/node-grpc`: gRPC in another language, as a user runs it."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import av
import pytest

from sdk_adapters.harness.marker import read_marker
from tests.e2e.driving import WAIT_S
from tests.e2e.reactor.matrix import CLOUD, record
from tests.required import ROOT, require
from tests.stack import Stack

pytestmark = pytest.mark.e2e

CLIENT = "Node gRPC"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The example beside the packages that `npm install` would put there."""
    folder = tmp_path / "examples/node-grpc"
    shutil.copytree(ROOT / "examples/node-grpc", folder)
    (folder / "node_modules").symlink_to(require(".tools/node/node_modules"))
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    return folder


async def node(program: Path, *words: str) -> tuple[int, str, str]:
    """Runs it; returns its exit status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(require(".tools/bin/node"), "edit_clip.js", *words),
        cwd=program,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
    )
    try:
        async with asyncio.timeout(WAIT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def shown(video: Path) -> list[int]:
    """Reads the numbers of the frames of a raw H.264 file from their pixels."""
    numbers = []
    with av.open(str(video), format="h264") as container:
        for frame in container.decode(video=0):
            mark = read_marker(frame.to_ndarray(format="gray"))
            assert mark is not None
            numbers.append(mark.frame)
    return numbers


async def test_it_edits_a_clip_to_its_last_frame(
    simulated: Stack, program: Path, long_clip: Path
) -> None:
    with record(CLIENT, CLOUD, "file"):
        words = ("--address", simulated.grpc_address, "--model", "simulated", "--then", "charcoal")
        status, out, err = await node(program, str(long_clip), *words)
        assert status == 0, err
        assert "81 of 81 frames" in out
        assert 'frames, "a watercolour painting"' in out
        assert 'frames, "charcoal"' in out
        assert shown(program / "edited.h264") == list(range(81))


async def test_it_says_what_went_wrong(
    simulated: Stack, program: Path, clip: Path, tmp_path: Path
) -> None:
    with record(CLIENT, CLOUD, "errors"):
        there = ("--address", simulated.grpc_address)
        status, _, err = await node(program, str(clip), *there, "--model", "nonesuch")
        assert status == 1
        assert err.startswith("UNKNOWN_MODEL: ")
        wrong = tmp_path / "wrong.mp4"
        wrong.write_bytes(b"this is no clip" * 100)
        status, _, err = await node(program, str(wrong), *there, "--model", "simulated")
        assert status == 1
        assert err.startswith("BAD_VIDEO: ")
        status, out, _ = await node(program)
        assert status == 2
        assert out.startswith("Usage: node edit_clip.js CLIP")


async def test_nobody_there_is_said_soon(program: Path, clip: Path) -> None:
    status, _, err = await node(program, str(clip), "--address", "127.0.0.1:1")
    assert status == 1
    assert err.startswith("UNAVAILABLE: ")
