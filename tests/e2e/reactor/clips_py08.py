"""Clips and recordings with `reactor-sdk` 0.8. Runs in its own environment."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import clip_flow
import scenario
from client_py08 import Py08Client
from reactor_sdk.utils.recording import RecordingError


class ClipClient(Py08Client):
    """See `clip_flow.ClipClient`."""

    async def clip(self, seconds: float | None, path: Path) -> dict[str, Any]:
        reactor = self._reactor
        asked = reactor.request_recording() if seconds is None else reactor.request_clip(seconds)
        clip = await asked
        # Any token will do: this service asks for none.
        await reactor.download_clip_as_file(clip, path, jwt="whatever")
        return asdict(clip)

    async def clip_error(self, seconds: float) -> str:
        try:
            await self._reactor.request_clip(seconds)
        except RecordingError as error:
            return f"{error.code}: {error.reason}"
        return ""


if __name__ == "__main__":
    sys.exit(scenario.run(ClipClient, {"clips": clip_flow.clips}))
