"""What is measured: each row stands alone, and takes seconds to minutes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch

from model_actor.models.sana_streaming import fp8, sampler
from model_actor.models.sana_streaming.engine import Engine
from model_actor.models.sana_streaming.session import SanaSession
from model_actor.models.sana_streaming.speed import Speed
from model_actor.models.sana_streaming.streaming_vae import ConvState
from model_actor.snapshots.host_tier import HostTier
from model_actor.snapshots.kept import KeptState, Point
from scheduler.kept_names import key_of
from tests.bench.sana import flops
from tests.bench.sana.models import random_parts
from tests.bench.sana.stages import STAGES, Bench, Runner, Times, measured, repeated, timed
from tests.bench.sana.upstream import Upstream

Row = Callable[[Bench], dict[str, Any]]
BEST: Final = Speed(compile=True, graphs=True, tf32=True, channels_last=True)
"""All that is there in bf16."""
WAYS: Final = {
    "eager": Speed(),
    "tf32": Speed(tf32=True),
    "channels_last": Speed(channels_last=True),
    "compile": Speed(compile=True),
    "graphs": Speed(graphs=True),
    "fp8 alone": Speed(fp8=True),
    "bf16": BEST,
    "fp8": Speed(compile=True, graphs=True, tf32=True, channels_last=True, fp8=True),
}
"""Of one session."""
_MATRIX: Final = 8192


def machine(bench: Bench) -> dict[str, Any]:
    """The device: its name, and what it can do at most."""
    size = _MATRIX if bench.on_gpu else 256
    random = torch.Generator(bench.device).manual_seed(1)
    a = torch.randn(size, size, generator=random, device=bench.device).to(bench.dtype)
    done = 2 * size**3

    def rate(work: Callable[[], object]) -> float:
        return done / (timed(bench, work).figures()["p50_ms"] / 1e3) / 1e12

    made = {"name": "CPU", "torch": torch.__version__, "matrix_tflops": rate(lambda: a @ a)}
    if bench.on_gpu:
        properties = torch.cuda.get_device_properties(bench.device)
        rows, scale = fp8.quantised(a)
        made |= {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
        if fp8.supported(bench.device):
            layer = fp8.Fp8Linear(a)
            made["fp8_tflops"] = rate(
                lambda: torch._scaled_mm(
                    rows,
                    layer.weight.t(),
                    scale_a=scale,
                    scale_b=layer.scale,
                    out_dtype=bench.dtype,
                    use_fast_accum=True,
                )
            )
    return made


def baseline(bench: Bench) -> dict[str, Any]:
    """The upstream arithmetic in plain torch, eager."""
    parts = random_parts(bench.size, bench.device, bench.dtype)
    upstream = Upstream(parts.transformer, bench.size.grid)
    prompt = parts.text.encode("")
    random = torch.Generator(bench.device).manual_seed(2)
    past, after, index = ConvState(), ConvState(), 0
    times = {name: Times() for name in STAGES}
    whole = Times()

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, device=bench.device)

    @torch.inference_mode()
    def window() -> None:
        nonlocal past, after, index
        frames, pictures = (3, 24) if index else (5, 33)
        pixels = some(1, 3, pictures, bench.size.height, bench.size.width).clamp(-1, 1)
        noise = some(1, parts.transformer.config.latent_channels, frames, *bench.size.grid)
        made: dict[str, Any] = {}

        def encode() -> None:
            made["source"], made["past"] = parts.vae.encode(pixels, past)

        def generate() -> None:
            made["latents"] = upstream.edit(noise, made["source"], *prompt)

        def decode() -> None:
            made["pixels"], made["after"] = parts.vae.decode(made["latents"], after)

        def commit() -> None:
            upstream.commit(made["latents"], made["source"], *prompt)

        total = 0.0
        for name, work in zip(STAGES, (encode, generate, decode, commit), strict=True):
            bench.settle()
            began = time.perf_counter()
            work()
            bench.settle()
            took = time.perf_counter() - began
            total += took
            times[name].seen.append(took)
        past, after, index = made["past"], made["after"], index + 1
        whole.seen.append(total)

    for _ in range(4):
        window()
    for each in (*times.values(), whole):
        each.seen.clear()
    repeated(window, bench.seconds)
    return {
        "chunk": whole.figures(),
        "sessions": 1,
        "stages": {name: each.figures() for name, each in times.items()},
        "peak_bytes": bench.peak_bytes(),
    }


def closeness(bench: Bench) -> dict[str, Any]:
    """How far each way is from the plain one: of the latents of a third window."""
    expected = _latents(bench, Speed())
    ways = {"fp8": Speed(fp8=True)}
    if bench.on_gpu:
        ways |= {"tf32": Speed(tf32=True), "graphs": Speed(graphs=True), "bf16": BEST}
    made = {}
    for name, speed in ways.items():
        latents = _latents(bench, speed)
        made[name] = float((latents - expected).norm() / expected.norm())
    torch.set_float32_matmul_precision("highest")
    return {"deviation": made}


@torch.inference_mode()
def _latents(bench: Bench, speed: Speed) -> torch.Tensor:
    bench.clean()
    torch.set_float32_matmul_precision("highest")
    parts = random_parts(bench.size, bench.device, bench.dtype)
    speed.apply(parts.transformer, parts.vae)
    prompt, grid = parts.text.encode(""), bench.size.grid
    random = torch.Generator(bench.device).manual_seed(3)
    state = parts.transformer.begin(1, grid)
    latents = torch.empty(0)
    for frames in (5, 3, 3):
        shape = (1, parts.transformer.config.latent_channels, frames, *grid)
        noise, source = (
            torch.randn(shape, generator=random, device=bench.device) for _ in range(2)
        )
        context = parts.transformer.context(state, *prompt, frames, grid)
        latents = sampler.denoise(parts.transformer, noise, source, context)
        state = sampler.commit(parts.transformer, latents, source, context, state)
    return latents.float().cpu()


def parking(bench: Bench) -> dict[str, Any]:
    """A session to the memory of the host and back."""
    engine = bench.engine(Speed())
    runner = Runner(bench, engine, 1)
    runner.steady()
    session = runner.sessions[0]
    taken, written, restored = Times(), Times(), Times()
    shared = Path("/dev/shm")  # noqa: S108 - the folder below is ours alone
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        tier = HostTier(Path(folder) / "host", 0)
        size, windows = 0, 0

        def there_and_back() -> None:
            nonlocal size, windows
            windows += 1
            point = Point(key_of("bench"), 1, 1, windows)
            bench.settle()
            began = time.perf_counter()
            parts = engine.snapshot(session)
            taken.seen.append(time.perf_counter() - began)
            began = time.perf_counter()
            if not tier.write(point, KeptState(b"", parts, 1, windows)):
                raise RuntimeError("no room in the host's memory")
            written.seen.append(time.perf_counter() - began)
            size = parts.size
            tier.drop([each for each in tier.points(point.key) if each < point], reuse=True)
            began = time.perf_counter()
            _restore(engine, tier, point)
            bench.settle()
            restored.seen.append(time.perf_counter() - began)

        repeated(there_and_back, bench.seconds)
        tier.close()
    return {
        "session_bytes": size,
        "compute_thread": taken.figures(),
        "park": written.figures(),
        "restore": restored.figures(),
    }


def _restore(engine: Engine, tier: HostTier, point: Point) -> SanaSession:
    state = tier.read(point)
    if state is None or not isinstance(state.model, memoryview):
        raise RuntimeError("what was kept is not there")
    return engine.restore(state.model)


def operations(bench: Bench) -> dict[str, Any]:
    """Floating-point operations of a steady window, by stage."""
    return {"flops": flops.counted(bench.size)}


def _way(speed: Speed) -> Row:
    def row(bench: Bench) -> dict[str, Any]:
        speed.check(bench.device)
        return measured(bench, bench.engine(speed))

    return row


def _together(sessions: int, *, overlap: bool) -> Row:
    speed = Speed(**dict.fromkeys((*BEST.named, *(("overlap",) if overlap else ())), True))

    def row(bench: Bench) -> dict[str, Any]:
        # A CPU has nothing of all this, and the batches are of interest all the same.
        chosen = speed if bench.on_gpu or overlap else Speed()
        chosen.check(bench.device)
        engine = bench.engine(chosen, batch=sessions)
        return measured(bench, engine, sessions=sessions, apart=not overlap)

    return row


ROWS: Final[dict[str, Row]] = {
    "machine": machine,
    "operations": operations,
    "baseline": baseline,
    **{name: _way(speed) for name, speed in WAYS.items()},
    "batch of 2": _together(2, overlap=False),
    "batch of 4": _together(4, overlap=False),
    "overlap of 2": _together(2, overlap=True),
    "overlap of 4": _together(4, overlap=True),
    "parking": parking,
    "closeness": closeness,
}
"""In the order in which they are measured."""
