"""What this machine is and which software runs on it: for the record."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

from sdk_adapters.harness.report.build import Facts
from sdk_adapters.harness.report.model import Hardware, Service

_PACKAGES: Final = (
    "sana-gateway",
    "sana-gateway-client",
    "grpcio",
    "protobuf",
    "aiortc",
    "aioice",
    "av",
    "numpy",
    "uvloop",
)
"""Those whose version may change what is measured."""
_GIT_S: Final = 5.0
_GB: Final = 1e9


def facts(service: Service) -> Facts:
    """Returns what a report says of who took part.

    Args:
        service: What is known of the service.
    """
    return Facts(service=service, generator=hardware(), versions=versions(), commit=commit())


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> Hardware:
    """Returns what this machine is, as far as it says."""
    return Hardware(
        cpu=_after("model name", Path("/proc/cpuinfo")) or platform.processor(),
        cores=_cores(),
        memory_gb=round(_memory_bytes() / _GB, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        gpus=tuple(_gpus(Path("/proc/driver/nvidia/gpus"))),
    )


def commit() -> str:
    """Returns the commit that the harness was checked out at, with `-dirty` where it was
    changed since; empty where it is no checkout.
    """
    here, git = Path(__file__).parent, shutil.which("git")
    if git is None:
        return ""
    words = ("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            (git, "-C", str(here), *words),
            capture_output=True,
            text=True,
            timeout=_GIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cores() -> int:
    """Returns the cores that this process may use."""
    mine = getattr(os, "sched_getaffinity", None)
    return len(mine(0)) if mine is not None else os.cpu_count() or 0


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _gpus(folder: Path) -> list[str]:
    """Returns the names of the GPUs whose driver tells them."""
    names = (_after("Model", each / "information") for each in sorted(folder.glob("*")))
    return [name for name in names if name]


def _after(key: str, path: Path) -> str:
    """Returns what stands behind the first `key:` of a file; empty where it does not."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    parts = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in parts if name.strip() == key), "")
