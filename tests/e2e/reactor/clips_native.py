"""Clips and recordings with `reactor-sdk` 1.x. Runs in its own environment."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import clip_flow
import scenario
from client_native import NativeClient
from reactor_sdk import ReactorError


class ClipClient(NativeClient):
    """See `clip_flow.ClipClient`."""

    async def clip(self, seconds: float | None, path: Path) -> dict[str, Any]:
        reactor = self._reactor
        asked = reactor.request_recording() if seconds is None else reactor.request_clip(seconds)
        clip = await asked
        await reactor.download(clip, path)
        return asdict(clip)

    async def clip_error(self, seconds: float) -> str:
        try:
            await self._reactor.request_clip(seconds)
        except ReactorError as error:
            return f"{error.code}: {error}"
        return ""


if __name__ == "__main__":
    sys.exit(scenario.run(ClipClient, {"clips": clip_flow.clips}))
