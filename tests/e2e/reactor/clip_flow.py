"""Clips and recordings, as every Reactor SDK that has them asks for them.

Runs inside foreign environments, beside `scenario`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import scenario


class ClipClient(scenario.Client, Protocol):
    """An SDK that has clips."""

    async def clip(self, seconds: float | None, path: Path) -> dict[str, Any]:
        """Asks for the last seconds, or for all, and downloads it; returns what was answered."""

    async def clip_error(self, seconds: float) -> str:
        """Asks for what there is not; returns the code of the error."""


async def clips(client: ClipClient, seen: scenario.Seen, folder: Path) -> None:
    """A clip amid a run, a pause, and the recording of it all."""
    notes = seen.notes
    await seen.until_message("state", has_video=False)
    notes["early"] = await client.clip_error(2.0)
    notes["no_length"] = await client.clip_error(0.0)
    video = await client.upload(str(folder / "long.mp4"))
    await client.command("set_mode", {"mode": "file"})
    await client.command("set_video", {"video": video})
    await client.command("set_prompt", {"prompt": "a charcoal drawing"})
    await seen.until_message("state", has_video=True, has_prompt=True)
    await client.command("start", {})
    await seen.until_message("chunk_complete", chunk_index=1)
    notes["snap"] = await client.clip(1.0, folder / "snap.mp4")
    await client.command("pause", {})
    await seen.until_message("state", paused=True)
    paused = len(seen.messages)
    await client.command("resume", {})
    await seen.until_message("generation_complete", paused)
    notes["recording"] = await client.clip(None, folder / "recording.mp4")
