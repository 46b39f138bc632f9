"""What all rows share: the options of a run, its files, what it found so far."""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.bench.media.clip import Clip, made
from tests.bench.media.plugin.bench_models import SMALL
from tests.bench.media.results import Figure
from tests.bench.media.systems import incumbent, naive, ours
from tests.bench.media.systems.ours import Ours
from tests.stack import ROOT

BITRATE: Final = 2_500_000
"""Bits per second that every system is pinned to."""
WARM_UP_S: Final = 1.5
"""From the start of a stream to the first measurement."""
SDK: Final = ROOT / ".venvs/reactor-native/bin/python"
SDK_CLIENT: Final = ROOT / "tests/bench/media/clients/sdk_client.py"


@dataclass
class Bench:
    """One run of the benchmark."""

    runs: int
    quick: bool
    folder: Path
    """For files of this run."""
    cache: Path
    """For what is made once and kept: the clip."""
    say: Callable[[str], None]
    """Tells people where it is."""
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    floor_ms: dict[tuple[str, bool], list[float]] = field(default_factory=dict)
    """CPU milliseconds a frame of the bare encoder, by codec and whether its frames come in
    time, one for each run."""

    @functools.cached_property
    def clip(self) -> Clip:
        """The clip; made on first use, which takes some seconds."""
        return made(self.cache)

    @property
    def window_s(self) -> float:
        """Length of a measurement."""
        return 1.5 if self.quick else 3.0

    def note(self, text: str) -> None:
        """Notes what could not be measured; once, however often it is said."""
        if text not in self.notes:
            self.notes.append(text)

    def ours(
        self, *, pace: str = "early", settings: str = "", backend: str = "in-process"
    ) -> AbstractContextManager[Ours]:
        """Serves the clip."""
        options = (f"clip={self.clip.folder}", f"pace={pace}")
        return ours.ours(
            self.folder,
            sources=self.cache,
            options=options,
            settings=settings,
            bitrate=BITRATE,
            backend=backend,
        )

    def small(self, options: Sequence[str]) -> AbstractContextManager[Ours]:
        """Serves canned video in small pictures and full-size packets."""
        return ours.ours(
            self.folder, sources=self.cache, model=SMALL, options=options, bitrate=BITRATE
        )

    def naive(self, *, packets: bool = False) -> AbstractAsyncContextManager[naive.Naive]:
        """Runs the naive server."""
        return naive.naive(self.folder, self.clip.folder, BITRATE, packets=packets)

    def incumbent(
        self, *, blocking: bool = False, stun_server: str = ""
    ) -> AbstractAsyncContextManager[incumbent.Incumbent]:
        """Runs the incumbent."""
        return incumbent.incumbent(
            self.folder, self.clip.folder, BITRATE, blocking=blocking, stun_server=stun_server
        )

    @property
    def has_incumbent(self) -> bool:
        """Whether the incumbent can be run here."""
        return incumbent.PYTHON.exists()

    @property
    def has_sdk(self) -> bool:
        """Whether the real SDK can be run here."""
        return SDK.exists()


class SdkError(Exception):
    """The client of the real SDK failed."""


async def sdk(deed: str, url: str, *, local: bool = False, **words: Any) -> dict[str, Any]:
    """Runs the real SDK in its own environment.

    Raises:
        SdkError: It failed; with its last words.
    """
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    process = await asyncio.create_subprocess_exec(
        str(SDK),
        str(SDK_CLIENT),
        *(deed, url, *(["--local"] if local else []), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(120):
            out, words_of_error = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise SdkError(words_of_error.decode(errors="replace")[-1500:])
    return dict(json.loads(out.decode().strip().splitlines()[-1]))


def told(text: str) -> None:
    """Writes a line of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
