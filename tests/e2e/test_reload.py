"""Settings change while a service runs: SIGHUP, through the front door to its workers."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from sana_gateway import Client, GatewayError
from tests.stack import Stack, serving

pytestmark = pytest.mark.e2e

OPTIONS = ("--backend", "in-process", "--model", "simulated", "--media-workers", "1")


async def said(stack: Stack, words: str, times: int = 1) -> None:
    """Returns once the log says so."""
    async with asyncio.timeout(30):
        while stack.log.read_text().count(words) < times:  # noqa: ASYNC110 - another process writes
            await asyncio.sleep(0.05)


async def test_limits_change_without_a_restart_and_a_wrong_file_changes_nothing(
    tmp_path: Path,
) -> None:
    file, clip = tmp_path / "sana.toml", tmp_path / "clip"
    clip.write_bytes(bytes(100))
    file.write_text('log_level = "info"\n')
    with serving(*OPTIONS, "--config", str(file)) as stack:
        async with (
            Client(stack.grpc_address) as client,
            await client.create_session("simulated") as session,
        ):
            await session.upload(clip)
            file.write_text("[limits]\nmax_upload_bytes = 50\n")
            stack.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(30):
                while True:
                    try:
                        await session.upload(clip)
                    except GatewayError:
                        break
            file.write_text("nonsense = 1\n")
            stack.process.send_signal(signal.SIGHUP)
            await said(stack, "settings.kept")
            with pytest.raises(GatewayError):
                await session.upload(clip)
            file.write_text("http_port = 1\n")
            stack.process.send_signal(signal.SIGHUP)
            await said(stack, "settings.reloaded", 2)
            async with asyncio.timeout(30):
                while True:
                    try:
                        await session.upload(clip)
                        break
                    except GatewayError:
                        await asyncio.sleep(0.05)
