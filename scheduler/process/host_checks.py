"""What every role asks of its machine: a true clock, certificates, shared memory, Ray."""

from __future__ import annotations

import asyncio
import ctypes
import datetime as dt
import os
import resource
import shutil
from collections.abc import Iterable
from importlib import metadata, util
from pathlib import Path
from typing import Final

from scheduler.core.errors import ConfigurationError
from scheduler.process.diagnosis import Finding, Named, Patient, Verdict, fault, fine, note
from scheduler.process.tls import CERTIFICATE, Identity, is_private

ALL: Final = frozenset({"gateway", "head", "actor"})
SOON: Final = dt.timedelta(days=21)
"""A certificate that ends sooner is worth a word."""
FEW_FILES: Final = 16_384
"""Open files below which many sessions may meet the limit."""
LITTLE_SHARED: Final = 1 << 30
"""Bytes of /dev/shm below which kept states of several sessions may not fit."""
SHARED: Final = Path("/dev/shm")  # noqa: S108 - the memory that all processes of a machine share
_REACH_S: Final = 3.0
_TIME_ERROR: Final = 5
"""What adjtimex(2) answers while nothing keeps the clock true."""
_WORST_CLOCK_US: Final = 1_000_000
_TIMEX_BYTES: Final = 208


async def clock(patient: Patient) -> Iterable[Finding]:  # noqa: ARG001 - one for all
    """Looks whether something keeps the clock true: tokens and certificates have times."""
    advice = "run chrony or systemd-timesyncd; tokens and certificates carry times"
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        # struct timex: modes, then longs: offset, freq, maxerror, esterror. Modes 0 only reads.
        buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
        state = libc.adjtimex(buffer)
    except (OSError, AttributeError):
        return note("clock", "this system does not tell whether it is kept true", advice)
    if state < 0:
        return note("clock", "this system does not tell whether it is kept true", advice)
    off_us = int.from_bytes(buffer.raw[24:32], "little", signed=True)
    if state == _TIME_ERROR:
        return note("clock", "nothing keeps it true", advice)
    if off_us > _WORST_CLOCK_US:
        return note("clock", f"it may be off by {off_us / 1e6:.1f} s", advice)
    return fine("clock", f"kept true to within {max(off_us, 1) / 1000:.0f} ms")


async def open_files(patient: Patient) -> Iterable[Finding]:  # noqa: ARG001 - one for all
    """Looks how many files a process may have open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        advice = f"raise the hard limit to {FEW_FILES} or more (ulimit -Hn, LimitNOFILE)"
        return note("open files", f"at most {hard} a process", advice)
    return fine("open files", "as many as are needed" if hard < 0 else f"at most {hard} a process")


async def certificates(patient: Patient) -> Iterable[Finding]:
    """Looks at the certificates of the internal links."""
    found: list[Finding] = []
    for folder in patient.tls_folders:
        try:
            own = Identity.read(folder)
        except ConfigurationError as error:
            found += fault("internal TLS", str(error), "make a set for all roles")
            continue
        named = f"internal TLS, {CERTIFICATE}"
        found += expiry(named, own.certificate, dt.datetime.now(dt.UTC))
    reached = patient.option("head", "placement_host", "127.0.0.1")
    if not patient.tls_folders and not is_private(f"{reached}:0"):
        advice = "`sana-gateway certs`, and --tls FOLDER for every role"
        found += fault("internal TLS", "the scheduler listens to other hosts in the clear", advice)
    return found


def expiry(about: str, pem: bytes, now: dt.datetime) -> list[Finding]:
    """Looks for how long a certificate is good.

    Args:
        about: What it is for.
        pem: The certificate, or a chain that begins with it.
        now: The time, with its zone.
    """
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(pem)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    left = ends - now
    if left <= dt.timedelta():
        return fault(about, f"ended {-left.days} days ago", "renew it")
    if begins > now:
        return fault(about, f"begins in {(begins - now).days} days", "look at the clock")
    if left < SOON:
        return note(about, f"ends in {left.days} days", "renew it; running roles read it again")
    return fine(about, f"good for {left.days} days")


async def shared_memory(patient: Patient) -> Iterable[Finding]:  # noqa: ARG001 - one for all
    """Looks how much memory there is for what is kept of sessions."""
    if not SHARED.is_dir():
        return note("shared memory", "no /dev/shm", "kept states then lie in the temporary folder")
    free = shutil.disk_usage(SHARED).free
    if free < LITTLE_SHARED:
        advice = "give /dev/shm more (docker --shm-size, an emptyDir of medium Memory)"
        return note("shared memory", f"{free / 2**20:.0f} MiB free", advice)
    return fine("shared memory", f"{free / 2**30:.1f} GiB free")


async def priorities(patient: Patient) -> Iterable[Finding]:  # noqa: ARG001 - one for all
    """Looks whether actors may go before a starting scheduler."""
    if os.geteuid() == 0 or _may_raise_itself():
        return fine("priorities", "actors may go before other processes")
    return [
        Finding(
            "priorities",
            Verdict.FINE,
            "actors have that of Ray's other processes (no CAP_SYS_NICE); with cores to spare "
            "this makes no difference",
        )
    ]


def _may_raise_itself() -> bool:
    soft, _ = (
        resource.getrlimit(resource.RLIMIT_NICE) if hasattr(resource, "RLIMIT_NICE") else (0, 0)
    )
    return soft >= 20


async def ray(patient: Patient) -> Iterable[Finding]:
    """Looks for Ray, its secret and its head."""
    if patient.option("head", "backend", "ray") != "ray":
        return fine("Ray", "not needed with --backend in-process")
    if util.find_spec("ray") is None:
        return fault("Ray", "not installed", "pip install 'sana-gateway[ray]'")
    found = fine("Ray", f"version {metadata.version('ray')}")
    join = str(patient.option("actor", "join"))
    secret = patient.environment.get("RAY_AUTH_TOKEN") or patient.option("actor", "token")
    apart = join or patient.option("head", "ray_address") or patient.option("head", "ray_port")
    if apart and not secret:
        advice = "set RAY_AUTH_TOKEN to the same secret for all roles"
        found += fault("Ray's secret", "none: anybody who reaches Ray's ports runs code", advice)
    for about, address in (
        ("Ray's head", join),
        ("Redis", patient.environment.get("RAY_REDIS_ADDRESS", "")),
    ):
        if address:
            found += await reach(about, address)
    return found


async def reach(about: str, address: str) -> list[Finding]:
    """Tries to connect to `host:port`, or to `unix:/path`."""
    connecting = (
        asyncio.open_unix_connection(address.removeprefix("unix:"))
        if address.startswith("unix:")
        else asyncio.open_connection(
            address.rpartition(":")[0].strip("[]"), int(address.rpartition(":")[2])
        )
    )
    try:
        async with asyncio.timeout(_REACH_S):
            _, writer = await connecting
    except (OSError, ValueError) as error:
        said = f"{address} does not answer ({type(error).__name__})"
        return fault(about, said, "is it started, and does a firewall stand between?")
    writer.close()
    return fine(about, f"{address} takes connections")


CHECKS: Final = (
    Named("clock", ALL, clock),
    Named("open files", ALL, open_files),
    Named("internal TLS", ALL, certificates),
    Named("shared memory", frozenset({"actor"}), shared_memory),
    Named("priorities", frozenset({"actor"}), priorities),
    Named("Ray", frozenset({"head", "actor"}), ray),
)
