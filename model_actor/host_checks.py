"""What a model actor asks of its machine: a GPU, codecs, walls around decoders, models."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Final

import av

from model_actor.media.encoding import nvenc, x264
from model_actor.media.encoding.choice import probe
from model_actor.media.sandbox import sandbox_status
from scheduler import option_values as values
from scheduler.core.errors import ConfigurationError, PluginError
from scheduler.process import plugins
from scheduler.process.diagnosis import Finding, Named, Patient, Verdict, fault, fine, note

HOSTS: Final = frozenset({"head", "actor"})
"""A head has the actors of its own machine."""
NEEDS_GPU: Final = frozenset({"image-to-image", "sana-streaming"})
"""Models that are of use on a GPU alone."""
DECODERS: Final = ("h264", "hevc", "vp8", "vp9", "libdav1d", "mpeg4", "prores")
"""Codecs that clips commonly have."""
_QUERY: Final = (
    "nvidia-smi",
    "--query-gpu=name,memory.total,driver_version",
    "--format=csv,noheader,nounits",
)
_TORCH: Final = (
    "import json, torch; has = torch.cuda.is_available(); "
    "print(json.dumps([torch.__version__, has, torch.cuda.get_device_capability() if has else []]))"
)


async def gpu(patient: Patient) -> Iterable[Finding]:
    """Looks for GPUs, and whether torch can use them."""
    wanted = NEEDS_GPU & _models(patient).keys()
    said = await _said(_QUERY) if shutil.which(_QUERY[0]) else None
    if not said:
        advice = "install the NVIDIA driver; in a container, its runtime"
        if wanted and patient.option("head", "gpus_per_actor", 0.0):
            return fault("GPU", "none", advice)
        return note("GPU", "none", advice) if wanted else fine("GPU", "none, and none is needed")
    found: list[Finding] = []
    for line in said.strip().splitlines():
        name, memory, driver = (part.strip() for part in line.split(","))
        found += fine("GPU", f"{name}, {memory} MiB, driver {driver}")
    if wanted:
        found += await _torch()
    return found


async def _torch() -> Iterable[Finding]:
    said = await _said((sys.executable, "-c", _TORCH))
    if not said:
        return fault("torch", "not installed, or broken", "pip install 'sana-gateway[sana]'")
    version, has_cuda, capability = json.loads(said)
    if not has_cuda:
        advice = "install the build of torch for this driver's CUDA"
        return fault("torch", f"{version} sees no GPU", advice)
    return fine("torch", f"{version}, compute capability {'.'.join(map(str, capability))}")


async def codecs(patient: Patient) -> Iterable[Finding]:
    """Tries the encoders, and looks for the decoders."""
    found: list[Finding] = []
    lacks = await asyncio.to_thread(probe, x264.X264)
    found += fault("H.264", lacks, "install PyAV's own wheel") if lacks else fine("H.264", "works")
    lacks = await asyncio.to_thread(probe, nvenc.NVENC)
    if lacks and patient.option("head", "encoder", "auto") == "nvenc":
        found += fault("NVENC", lacks, "--encoder auto or software")
    else:
        found += fine("NVENC", f"the CPU encodes: {lacks}" if lacks else "works")
    missing = [name for name in DECODERS if name not in av.codecs_available]
    advice = "clips of these are refused; PyAV's own wheel has them all"
    found += (
        note("decoders", f"without {', '.join(missing)}", advice)
        if missing
        else fine("decoders", ", ".join(DECODERS))
    )
    return found


async def walls(patient: Patient) -> Iterable[Finding]:  # noqa: ARG001 - one for all
    """Looks what keeps decoders of foreign video in."""
    try:
        status = await asyncio.to_thread(sandbox_status)
    except OSError as error:
        return note("decoders' walls", f"could not be tried ({error.strerror})", "see the log")
    if status.missing:
        told = "; ".join(f"{name}: {why}" for name, why in sorted(status.missing.items()))
        advice = "limits of memory and time hold; SECURITY.md says what these add"
        return note("decoders' walls", told, advice)
    return fine("decoders' walls", "no system calls, no network, no files of this machine")


async def models(patient: Patient) -> Iterable[Finding]:
    """Looks whether the models that are to be served can be loaded."""
    installed = {each.plugin.name: each for each in plugins.report("sana_gateway.models")}
    found: list[Finding] = []
    for name in _models(patient):
        status = installed.get(name)
        if status is None:
            found += fault("model", f"{name} is not installed", "`sana-gateway plugins` lists them")
        elif status.error:
            found += fault("model", f"{name}: {status.error}", "install what it needs")
        else:
            found.append(Finding("model", Verdict.FINE, f"{name} can be loaded"))
    return found


def _models(patient: Patient) -> dict[str, int]:
    """Returns the models that actors here are to serve; none for a machine that only joins."""
    if "head" not in patient.roles:
        return {}
    try:
        return values.counts(list(patient.option("head", "model", ["painter"])), "--model")
    except (ConfigurationError, PluginError):
        return {}


async def _said(command: Sequence[str]) -> str:
    """Returns what a program printed; empty if it failed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        out, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    return out.decode(errors="replace") if process.returncode == 0 else ""


CHECKS: Final = (
    Named("GPU", HOSTS, gpu),
    Named("codecs", HOSTS, codecs),
    Named("decoders' walls", HOSTS, walls),
    Named("models", HOSTS, models),
)
