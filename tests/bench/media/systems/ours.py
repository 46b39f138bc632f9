"""Our service, as users start it: `sana-gateway serve`, everything on this machine."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import av
import numpy as np
import psutil

from tests.bench.media import clip as clips
from tests.bench.media.clients.driver import NullClients
from tests.bench.media.plugin import bench_models
from tests.bench.media.results import OURS
from tests.bench.media.systems.service import Ready, ReadyLog
from tests.stack import ROOT, Stack, serving

GATEWAY, ACTOR, DECODE, RAY = "gateway", "actor", "decode", "ray"
SOURCE_S: Final = 300
"""Length of the source clip: a session in file mode ends with it."""
_DECODE_WORDS: Final = ("decode_worker",)


class Ours:
    """A running service and what the rows need of it."""

    name = OURS

    def __init__(self, stack: Stack, model: str, source: Path, log: ReadyLog) -> None:
        self.stack = stack
        self.model = model
        self.source = source
        """The clip that its sessions are given."""
        self._log = log

    @property
    def url(self) -> str:
        """Of HTTP."""
        return self.stack.http_url

    def matrix(self, codec: str) -> str:
        """VP8 is BT.601 by definition; what we encode as H.264 is BT.709."""
        return "bt601" if codec == "vp8" else "bt709"

    @property
    def roles(self) -> dict[str, list[psutil.Process]]:
        """Its processes: the gateway's, the actor's (scheduler included), decode workers."""
        found: dict[str, list[psutil.Process]] = {GATEWAY: [], ACTOR: [], DECODE: []}
        # Decode workers get no environment: they are found as children alone.
        top = psutil.Process(self.stack.process.pid)
        children = {each.pid: each for each in top.children(recursive=True)}
        members = {each.pid: each for each in self.stack.members()}
        for process in (children | members).values():
            with contextlib.suppress(psutil.Error):
                found.setdefault(role_of(process.cmdline(), self._parents(process)), []).append(
                    process
                )
        return found

    async def join(
        self, clients: NullClients, codec: str, count: int = 1, *, camera_bitrate: int = 0
    ) -> None:
        """Joins sessions and stages a clip, or a camera where it has a bitrate."""
        await clients.join(
            self.url,
            codec,
            count,
            model=self.model,
            clip=None if camera_bitrate else self.source,
            camera_bitrate=camera_bitrate,
            stage=True,
        )

    async def leave(self, clients: NullClients) -> None:
        """Ends all sessions."""
        await clients.leave()

    def ready(self) -> list[Ready]:
        """Returns the windows that the model gave since the last call."""
        return self._log.read()

    def _parents(self, process: psutil.Process) -> list[list[str]]:
        return [parent.cmdline() for parent in process.parents()]


def role_of(command: Sequence[str], parents: Sequence[Sequence[str]]) -> str:
    """Tells what a process of `serve` does, by its command line and its ancestors'."""
    line = " ".join(command)
    if any(word in line for word in _DECODE_WORDS):
        return DECODE
    if "raylet" in line or "gcs_server" in line or "/ray/" in line:
        return RAY
    heads = [" ".join(each) for each in (command, *parents)]
    if "ray::" in line or any("serve head" in each for each in heads):
        return ACTOR
    return GATEWAY


@contextlib.contextmanager
def ours(
    folder: Path,
    *,
    sources: Path,
    model: str = bench_models.NAME,
    options: Sequence[str] = (),
    settings: str = "",
    bitrate: int,
    backend: str = "in-process",
) -> Iterator[Ours]:
    """Serves a model.

    Args:
        folder: For files of this run.
        sources: Where the clips lie that sessions are given; made there on first use.
        model: Its plugin name.
        options: `name=value` for the model; those of the clip model are set up here.
        settings: Lines of TOML for the gateway.
        bitrate: Bits per second of each output.
        backend: `in-process`, the quietest, or `ray`.
    """
    log = ReadyLog(folder / "ready.log")
    log.path.unlink(missing_ok=True)
    config = folder / "gateway.toml"
    config.write_text(settings + "\n[limits]\nmax_peers = 128\n")
    small = model != bench_models.NAME
    words = ["--model", model, "--backend", backend, "--bitrate", str(bitrate)]
    words += ["--log-level", "warning", "--config", str(config)]
    for option in (*options, *(() if small else (f"log={log.path}",))):
        words += ["--model-option", option]
    path = os.pathsep.join([str(_metadata(folder)), str(ROOT), os.environ.get("PYTHONPATH", "")])
    with serving(*words, env={"PYTHONPATH": path.rstrip(os.pathsep)}) as stack:
        yield Ours(stack, model, source(sources, small=small), log)


def source(folder: Path, *, small: bool) -> Path:
    """Makes a clip that is cheap to decode: a still one, at the model's own size."""
    width, height = bench_models.SMALL_SIZE if small else (clips.WIDTH, clips.HEIGHT)
    path = folder / f"source-{width}x{height}-{SOURCE_S}s.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        made = Path(name) / "source.mp4"
        with av.open(str(made), "w") as container:
            video = container.add_stream("libx264", rate=clips.RATE)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            video.options = {"preset": "ultrafast", "x264-params": "keyint=240"}
            for _ in range(SOURCE_S * clips.RATE):
                frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        # Whole or not at all, also when two runs make it at once.
        made.rename(path)
    return path


def _metadata(folder: Path) -> Path:
    """Describes the benchmark's models as an installed distribution would."""
    info = folder / "plugins" / "sana_gateway_bench-0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sana-gateway-bench\nVersion: 0\n")
    module = bench_models.__name__
    (info / "entry_points.txt").write_text(
        "[sana_gateway.models]\n"
        f"{bench_models.NAME} = {module}:ClipModel\n"
        f"{bench_models.SMALL} = {module}:SmallModel\n"
    )
    return info.parent
