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
from model_actor.models.sana_streaming.speed_options import ON_OFF, SPEED_OPTIONS
from model_actor.plugin import (
    FewerSteps,
    ModelInfo,
    SessionOptions,
    SnapshotParts,
    Stage,
    WindowTask,
)
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
VAES: Final = {"causal": "ltx2_causal_vae_0516", "windowed": "vae"}
"""Which of the released autoencoders a decoder needs; `vae` is LTX-2's own."""
CLIP_CACHE_MB: Final = 128
"""Three minutes of a clip at 1280x704 in bfloat16."""
_MB: Final = 1_000_000
_GB: Final = 1_000_000_000
_STATE_BYTES: Final = {"causal": round(1.95 * _GB), "windowed": round(1.44 * _GB)}
"""Of a session at 1280x704 in bfloat16."""
_STEPS: Final = (4, 2, 1)
_STEP_MS: Final = 28.0
"""One pass of the transformer."""
_WINDOWED_MS: Final = 198.0
"""Each latent is decoded four times."""
_LAG: Final = 16
"""Frames that the windowed decoder owes from window to window."""


class SanaStreamingModel:
    """NVIDIA's SANA-Streaming."""

    OPTIONS: ClassVar[dict[str, str]] = {
        "weights": "folder of the bundle",
        "device": "where it runs: cuda, cuda:1, cpu (default: the GPU where there is one)",
        "dtype": "bfloat16 or float32 (default: bfloat16 on a GPU)",
        "threads": "threads of the CPU that torch may use (default: torch's own choice)",
        "size": "WIDTHxHEIGHT of the video, multiples of 64 (default: as the bundle says)",
        "max_batch": "most sessions in one call (default: 4)",
        "decoder": "causal: every frame of a window at once; windowed: the released recipe with "
        "the original autoencoder, 16 frames late (default: as the bundle says)",
        "clip_cache": "megabytes of source latents that a session keeps of its clip, so that it is "
        "not encoded when it is played again; of a longer clip none, 0: never (default: 128)",
        **SPEED_OPTIONS,
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
        session_bytes=_STATE_BYTES["causal"] + _MB * CLIP_CACHE_MB,
        resident_slots=24,
        max_batch=4,
        prompt_transitions=True,
    )

    def __init__(self) -> None:
        self._options: dict[str, str] = {}
        self._engine: Engine | None = None
        self._clip_bytes = _MB * CLIP_CACHE_MB

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
        if wrong := [each for each in SPEED_OPTIONS if options.get(each, "off") not in ON_OFF]:
            raise PluginError(f"{wrong[0]} is on or off")
        if not options.get("weights"):
            raise PluginError(NO_WEIGHTS)
        described = bundle_files.describe(Path(options["weights"]))
        _check_decoder(options.get("decoder", ""), described.decoder)
        self._options = options
        width, height = _size(options.get("size", f"{described.width}x{described.height}"))
        batch = _number(options, "max_batch", type(self).info.max_batch)
        self._clip_bytes = _MB * _number(options, "clip_cache", CLIP_CACHE_MB)
        self.info = declared(
            replace(
                type(self).info,
                width=width,
                height=height,
                frame_rate=described.frame_rate,
                max_batch=max(1, batch),
            ),
            described.decoder,
            clip_bytes=self._clip_bytes,
            wide=options.get("dtype") == "float32",
        )

    def load(self) -> None:
        """Loads the bundle.

        Raises:
            PluginError: It is not whole, or not one of this model.
        """
        from model_actor.models.sana_streaming.engine import Engine
        from model_actor.models.sana_streaming.speed import Speed
        from model_actor.models.sana_streaming.warming import warm

        speed = Speed.of(self._options)
        threads = _number(self._options, "threads", 0)
        self._engine = Engine.load(
            Path(self._options["weights"]),
            size=(self.info.height, self.info.width),
            device=self._options.get("device", ""),
            dtype=self._options.get("dtype", ""),
            threads=threads,
            clip_bytes=self._clip_bytes,
            speed=speed,
        )
        if speed.warms:
            warm(self.stage, self.info)
        log.info("sana_streaming.loaded", device=str(self._engine.device), faster=list(speed.named))

    def open(self, options: SessionOptions) -> SanaSession:
        """Makes the state of a session: next to nothing, until its first window."""
        del options
        return self._loaded().open()

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        """Runs one stage. No session changes before all of its batch are through `commit`."""
        engine = self._loaded()
        for alike in _alike(batch):
            engine.stage(name, alike)

    def read_prompt(self, prompt: str) -> None:
        """Encodes a prompt before a window needs it: some 10 ms on an H200, once for each text."""
        self._loaded().read_prompt(prompt)

    def snapshot(self, session: object) -> bytes:
        """Serialises the state of a session: about 1.95 GB at 1280x704 in bfloat16."""
        return b"".join(map(bytes, self.snapshot_parts(session).pieces()))

    def snapshot_parts(self, session: object) -> SnapshotParts:
        """Serialises the state of a session as it is read; its first window apart."""
        return self._loaded().snapshot(session)

    def restore(self, options: SessionOptions, snapshot: bytes) -> SanaSession:
        """Makes a session from a snapshot.

        Raises:
            PluginError: The bytes are no snapshot of this version.
        """
        return self.restore_parts(options, memoryview(snapshot))

    def restore_parts(self, options: SessionOptions, snapshot: memoryview) -> SanaSession:
        """Makes a session from the bytes of the parts, one after the other.

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


def declared(
    info: ModelInfo, decoder: bundle_files.Decoder, *, clip_bytes: int, wide: bool
) -> ModelInfo:
    """Returns what is declared with a decoder, a size and a type of numbers.

    Args:
        info: What is declared but for that.
        decoder: Which.
        clip_bytes: What a session may keep of its clip.
        wide: Whether numbers take 32 bits and not 16.
    """
    if decoder == "windowed":
        decode = Stage("decode", cost_ms=_WINDOWED_MS)
        stages = tuple(decode if each.name == "decode" else each for each in info.stages)
        info = replace(info, stages=stages, geometry=replace(info.geometry, lag=_LAG))
    share = info.width * info.height / (1280 * 704) * (2 if wide else 1)
    fewer = (
        FewerSteps(steps, info.chunk_ms - _STEP_MS * (_STEPS[0] - steps)) for steps in _STEPS[1:]
    )
    return replace(
        info,
        session_bytes=round(_STATE_BYTES[decoder] * share) + clip_bytes,
        degraded_steps=tuple(fewer),
    )


def _check_decoder(asked: str, there: str) -> None:
    """Checks that a bundle decodes as it is asked to.

    Raises:
        PluginError: It does not.
    """
    if asked not in ("", *VAES):
        raise PluginError(f"decoder is one of {', '.join(VAES)}")
    if asked and asked != there:
        raise PluginError(
            f"this bundle holds the autoencoder of decoder={there}: for decoder={asked} make one "
            f"with `sana-gateway weights convert --vae {VAES[asked]}`"
        )


def _alike(batch: Sequence[WindowTask]) -> Iterable[list[WindowTask]]:
    """Splits a batch into windows of the same shape, first ones and later ones, and of the same
    number of steps.
    """
    kinds: dict[tuple[bool, int], list[WindowTask]] = {}
    for task in batch:
        kinds.setdefault((task.index == 0, task.steps), []).append(task)
    return kinds.values()


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
