"""`image-to-image` as a plugin: three stages over windows of many sessions.

torch and diffusers are imported by `load`, never before.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import structlog

from model_actor.models.image_to_image import folder
from model_actor.models.image_to_image.framing import MOST_STEPS, WINDOW, geometry
from model_actor.plugin import ModelInfo, SessionOptions, Stage, WindowTask
from scheduler.core.errors import InvariantError, PluginError

if TYPE_CHECKING:
    from model_actor.models.image_to_image.engine import Engine
    from model_actor.models.image_to_image.stream import StreamSession

log = structlog.get_logger(__name__)

NAME: Final = "image-to-image"
NO_WEIGHTS: Final = (
    f"the model {NAME} needs its weights: --weights DIR, a folder of diffusers such as that of "
    f"sd-turbo, or `sana-gateway weights {NAME} tiny` for a try"
)
_USUAL_SIZE: Final = (768, 448)
_USUAL_STEPS: Final = 2
_CODING_MS: Final[Mapping[str, tuple[float, float]]] = {
    "AutoencoderKL": (75.0, 175.0),
    "AutoencoderTiny": (8.0, 10.0),
}
"""Budgets of encoding and decoding a window at the usual size, by autoencoder."""
_STEP_MS: Final = 34.0
"""Budget of one step of the frames of a window."""
_DTYPES: Final = {"float16": 2, "bfloat16": 2, "float32": 4}
"""Bytes of a number."""
_GPU: Final = Path("/proc/driver/nvidia/version")
_STATE_BYTES: Final = 4 * 4
"""Of one latent pixel of one frame under way: four channels in fp32."""


class ImageToImageModel:
    """Stable Diffusion and what was distilled from it, frame by frame, as a stream."""

    OPTIONS: ClassVar[dict[str, str]] = {
        "weights": "folder of the weights, as diffusers writes it",
        "vae": "folder of another autoencoder, such as a tiny one: most of the time is its",
        "device": "where it runs: cuda, cuda:1, cpu (default: the GPU where there is one)",
        "dtype": "float16, bfloat16 or float32 (default: float16 on a GPU, else float32)",
        "threads": "threads of the CPU that torch may use (default: torch's own choice)",
        "size": f"WIDTHxHEIGHT of the video (default: {_USUAL_SIZE[0]}x{_USUAL_SIZE[1]})",
        "steps": f"steps that every frame takes, 1 to {MOST_STEPS} (default: {_USUAL_STEPS}); "
        "each after the first holds the picture back by four frames",
        "strength": "how much of the source may change, 0.05 to 1 (default: 0.5)",
        "max_batch": "most sessions in one call (default: 4)",
        "chunk_ms": f"declared time of a window of {WINDOW} frames, measured on your GPU "
        "(default: a budget)",
    }
    """Names and explanations of what `configure` takes."""

    info: ModelInfo = ModelInfo(
        name=NAME,
        summary="Few-step image-to-image diffusion on every frame, with one noise for all.",
        stages=(
            Stage("encode", cost_ms=_CODING_MS["AutoencoderKL"][0]),
            Stage("generate", cost_ms=_STEP_MS * _USUAL_STEPS),
            Stage("decode", cost_ms=_CODING_MS["AutoencoderKL"][1]),
        ),
        width=_USUAL_SIZE[0],
        height=_USUAL_SIZE[1],
        geometry=geometry(_USUAL_STEPS),
        resident_slots=16,
        degraded_rates=(2 / 3, 1 / 2),
        max_batch=4,
        prompt_transitions=True,
    )

    def __init__(self) -> None:
        self._options: dict[str, str] = {}
        self._described: folder.Description | None = None
        self._engine: Engine | None = None

    def configure(self, options: dict[str, str]) -> None:
        """Takes the options in `OPTIONS`, and looks for torch without importing it.

        Raises:
            PluginError: An option is unknown or makes no sense, or something is missing.
        """
        if unknown := sorted(options.keys() - self.OPTIONS.keys()):
            raise PluginError(
                f"{NAME} has no option {unknown[0]!r}; it has {', '.join(self.OPTIONS)}"
            )
        if any(importlib.util.find_spec(each) is None for each in folder.NEEDED):
            raise PluginError(folder.NO_TORCH)
        if not options.get("weights"):
            raise PluginError(NO_WEIGHTS)
        if options.get("dtype", "float16") not in _DTYPES:
            raise PluginError(f"dtype is one of {', '.join(_DTYPES)}")
        vae = Path(options["vae"]) if options.get("vae") else None
        described = folder.describe(Path(options["weights"]), vae)
        size = _size(options.get("size", "x".join(map(str, _USUAL_SIZE))), described.unit)
        steps = _number(options, "steps", str(_USUAL_STEPS), int, 1, MOST_STEPS)
        _number(options, "strength", "0.5", float, 0.05, 1)
        _number(options, "threads", "0", int, 0, 1024)
        self._options, self._described = options, described
        batch = _number(options, "max_batch", str(type(self).info.max_batch), int, 1, 64)
        self.info = declared(
            replace(
                type(self).info,
                width=size[0],
                height=size[1],
                geometry=geometry(int(steps)),
                max_batch=int(batch),
            ),
            described,
            steps=int(steps),
            number_bytes=_number_bytes(options),
            chunk_ms=_number(options, "chunk_ms", "0", float, 0, 1e6),
        )

    def load(self) -> None:
        """Loads the weights.

        Raises:
            PluginError: They are damaged, or do not fit the models that they are said to be of.
        """
        from model_actor.models.image_to_image.engine import Engine

        if self._described is None:
            raise PluginError(NO_WEIGHTS)
        options = self._options
        self._engine = Engine.load(
            self._described,
            size=(self.info.height, self.info.width),
            device=options.get("device", ""),
            dtype=options.get("dtype", ""),
            threads=int(options.get("threads", "0")),
            steps=int(options.get("steps", _USUAL_STEPS)),
            strength=float(options.get("strength", "0.5")),
        )
        log.info("image_to_image.loaded", device=str(self._engine.device))

    def open(self, options: SessionOptions) -> StreamSession:
        """Makes the state of a session."""
        from model_actor.models.image_to_image.stream import StreamSession

        del options
        return StreamSession()

    def stage(self, name: str, batch: Sequence[WindowTask]) -> None:
        """Runs one stage. No session changes before all of its batch are through `decode`."""
        self._loaded().stage(name, batch)

    def read_prompt(self, prompt: str) -> None:
        """Reads a prompt before a window needs it: once for each text."""
        self._loaded().prompts.read(prompt)

    def snapshot(self, session: object) -> bytes:
        """Serialises the state of a session: the latents under way, some 100 kB."""
        from model_actor.models.image_to_image import stream

        return stream.snapshot(stream.checked(session))

    def restore(self, options: SessionOptions, snapshot: bytes) -> StreamSession:
        """Makes a session from a snapshot.

        Raises:
            PluginError: The bytes are no snapshot of this model as it is configured.
        """
        del options
        return self._loaded().restore(snapshot)

    def close(self, session: object) -> None:
        """Releases the state of a session."""
        from model_actor.models.image_to_image import stream

        stream.checked(session).clear()

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise InvariantError(f"{NAME} is not loaded")
        return self._engine


def declared(
    info: ModelInfo,
    described: folder.Description,
    *,
    steps: int,
    number_bytes: int,
    chunk_ms: float,
) -> ModelInfo:
    """Returns what is declared with some weights.

    Args:
        info: What is declared but for that.
        described: The weights.
        steps: That every frame takes.
        number_bytes: Of a parameter.
        chunk_ms: Time of a window; 0: the budget, by pixels and steps.
    """
    pixels = info.width * info.height
    share = pixels / (_USUAL_SIZE[0] * _USUAL_SIZE[1])
    encode_ms, decode_ms = _CODING_MS[described.vae_kind]
    budget = {"encode": encode_ms, "generate": _STEP_MS * steps, "decode": decode_ms}
    scale = chunk_ms / sum(budget.values()) if chunk_ms else share
    # What is under way, its like while a window is made, and the noise.
    frames = 2 * info.geometry.lag + 1
    return replace(
        info,
        stages=tuple(Stage(name, cost * scale) for name, cost in budget.items()),
        weights_bytes=described.parameters * number_bytes,
        session_bytes=frames * _STATE_BYTES * pixels // described.cell**2 + 64_000,
    )


def _number_bytes(options: Mapping[str, str]) -> int:
    usual = "float16" if options.get("device", "") != "cpu" and _GPU.exists() else "float32"
    return _DTYPES[options.get("dtype", usual)]


def _size(text: str, unit: int) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise PluginError("size is WIDTHxHEIGHT, such as 768x448")
    if int(width) % unit or int(height) % unit or not int(width) or not int(height):
        raise PluginError(f"size: with these weights, width and height are multiples of {unit}")
    return int(width), int(height)


def _number(
    options: Mapping[str, str],
    name: str,
    default: str,
    kind: Callable[[str], float],
    least: float,
    most: float,
) -> float:
    try:
        number = kind(options.get(name, default))
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        what = "a whole number" if kind is int else "a number"
        raise PluginError(f"{name} is {what} from {least:g} to {most:g}")
    return number
