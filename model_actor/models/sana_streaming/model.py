"""`sana-streaming` as a model plugin: four stages over windows of many sessions.

torch and diffusers are imported by `load`, never before. A batch is split where windows cannot
share one call: first windows are longer than later ones.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import structlog

from model_actor.models.sana_streaming import bundle_files
from model_actor.plugin import ModelInfo, SessionOptions, Stage, WindowTask
from scheduler.core.errors import InvariantError, PluginError

if TYPE_CHECKING:
    from model_actor.models.sana_streaming.engine import Engine
    from model_actor.models.sana_streaming.session import SanaSession

log = structlog.get_logger(__name__)

NO_TORCH: Final = (
    "the model sana-streaming needs torch, diffusers and transformers: "
    "pip install 'sana-gateway[sana]'"
)
NO_WEIGHTS: Final = (
    "the model sana-streaming needs its weights: --weights DIR, a bundle that `sana-gateway "
    "weights convert` makes of the released files, or `sana-gateway weights tiny` for a try"
)
_GB: Final = 1_000_000_000


class SanaStreamingModel:
    """NVIDIA's SANA-Streaming."""

    OPTIONS: ClassVar[dict[str, str]] = {
        "weights": "folder of the bundle",
        "device": "where it runs: cuda, cuda:1, cpu (default: the GPU where there is one)",
        "dtype": "bfloat16 or float32 (default: bfloat16 on a GPU)",
        "threads": "threads of the CPU that torch may use (default: torch's own choice)",
        "size": "WIDTHxHEIGHT of the video, multiples of 64 (default: as the bundle says)",
        "max_batch": "most sessions in one call (default: 4)",
    }
    """Names and explanations of what `configure` takes."""

    info: ModelInfo = ModelInfo(
        name="sana-streaming",
        summary="SANA-Streaming: streaming diffusion that edits video as the prompt says.",
        stages=(
            Stage("encode", cost_ms=130.0),
            Stage("generate", cost_ms=112.0),
            Stage("decode", cost_ms=60.0),
            Stage("commit", cost_ms=28.0, off_latency_path=True),
        ),
        weights_bytes=round(12.1 * _GB),
        session_bytes=round(1.95 * _GB),
        resident_slots=24,
        max_batch=4,
    )

    def __init__(self) -> None:
        self._options: dict[str, str] = {}
        self._engine: Engine | None = None

    def configure(self, options: dict[str, str]) -> None:
        """Takes the options in `OPTIONS`, and looks for torch without importing it.

        Raises:
            PluginError: An option is unknown or makes no sense, or something is missing.
        """
        if unknown := sorted(options.keys() - self.OPTIONS.keys()):
            raise PluginError(
                f"sana-streaming has no option {unknown[0]!r}; it has {', '.join(self.OPTIONS)}"
            )
        if any(
            importlib.util.find_spec(each) is None
            for each in ("torch", "diffusers", "transformers", "safetensors")
        ):
            raise PluginError(NO_TORCH)
        if not options.get("weights"):
            raise PluginError(NO_WEIGHTS)
        described = bundle_files.describe(Path(options["weights"]))
        if described.decoder != "causal":
            raise PluginError(
                "this bundle decodes with look-ahead, two latents late, which is not served: "
                "convert with the causal autoencoder (--vae ltx2_causal_vae_0516)"
            )
        self._options = options
        width, height = _size(options.get("size", f"{described.width}x{described.height}"))
        batch = _number(options, "max_batch", type(self).info.max_batch)
        self.info = replace(
            type(self).info,
            width=width,
            height=height,
            frame_rate=described.frame_rate,
            max_batch=max(1, batch),
        )

    def load(self) -> None:
        """Loads the bundle.

        Raises:
            PluginError: It is not whole, or not one of this model.
        """
        from model_actor.models.sana_streaming.engine import Engine

        threads = _number(self._options, "threads", 0)
        self._engine = Engine.load(
            Path(self._options["weights"]),
            size=(self.info.height, self.info.width),
            device=self._options.get("device", ""),
            dtype=self._options.get("dtype", ""),
            threads=threads,
        )
        log.info("sana_streaming.loaded", device=str(self._engine.device))

    def open(self, options: SessionOptions) -> SanaSession:
        """Makes the state of a session: next to nothing, until its first window."""
        del options
        return self._loaded().open()

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        """Runs one stage. No session changes before all of its batch are through `commit`."""
        stages = {
            "encode": self._loaded().encode,
            "generate": self._loaded().generate,
            "decode": self._loaded().decode,
            "commit": self._loaded().commit,
        }
        if name not in stages:
            raise InvariantError(f"sana-streaming has no stage {name!r}")
        for alike in _alike(batch):
            stages[name](alike)

    def snapshot(self, session: object) -> bytes:
        """Serialises the state of a session: about 1.95 GB at 1280x704 in bfloat16."""
        return self._loaded().snapshot(session)

    def restore(self, options: SessionOptions, snapshot: bytes) -> SanaSession:
        """Makes a session from a snapshot.

        Raises:
            PluginError: The bytes are no snapshot of this version.
        """
        del options
        return self._loaded().restore(snapshot)

    def close(self, session: object) -> None:
        """Releases the state of a session."""
        self._loaded().close(session)

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise InvariantError("sana-streaming is not loaded")
        return self._engine


def _alike(batch: Sequence[WindowTask]) -> Iterable[list[WindowTask]]:
    """Splits a batch into windows of the same shape: first ones, and later ones."""
    first = [task for task in batch if task.index == 0]
    later = [task for task in batch if task.index]
    return [each for each in (first, later) if each]


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise PluginError("size is WIDTHxHEIGHT, such as 1280x704")
    if int(width) % 64 or int(height) % 64 or not int(width) or not int(height):
        raise PluginError("size: width and height are multiples of 64")
    return int(width), int(height)


def _number(options: dict[str, str], name: str, default: int) -> int:
    text = options.get(name, str(default))
    if not text.isdecimal():
        raise PluginError(f"{name} is a whole number")
    return int(text)
