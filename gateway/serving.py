"""Runs a gateway, and beside it the head, until told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from gateway.audit import AuditLog
from gateway.collecting import spare_what_is_loaded
from gateway.head_process import HeadOptions, HeadProcess
from gateway.reloading import Reloading
from gateway.settings import GatewaySettings
from scheduler.process.logging import configure_logging
from scheduler.process.telemetry import configure_tracing, shutdown


class Serving(Protocol):
    """A gateway, in one process or in many."""

    @property
    def http_url(self) -> str:
        """Where HTTP listens."""

    @property
    def grpc_address(self) -> str:
        """Where gRPC listens; empty without that wire."""

    async def start(self, placement_address: str = "") -> None:
        """Serves; what was started has ended again when this fails."""

    async def wait_serving(self) -> None:
        """Returns once there is a model to ask for."""

    async def run(self) -> None:
        """Returns never, unless something breaks; then raises what broke it."""

    async def stop(self) -> None:
        """Drains and ends everything it started."""

    def take_up(self, settings: GatewaySettings) -> None:
        """Goes on with settings that were reloaded."""


async def serve_all(
    read: Callable[[], GatewaySettings],
    options: Callable[[GatewaySettings], HeadOptions],
    ready_file: Path | None,
) -> None:
    """Serves all roles on this machine until told to stop.

    Args:
        read: Reads the settings; again at SIGHUP.
        options: Makes the options of the head of them.
        ready_file: Where to say that it serves.
    """
    settings = read()
    head_options = options(settings)
    stopping = _told_to_stop()
    # Its plugins are found, or missed, before anything is started.
    process = _gateway(settings)
    with Console(stderr=True).status("starting scheduler and model actors"):
        head = await _unless(stopping, HeadProcess.start(head_options))
    if head is None:
        return
    try:
        await _serve_gateway(
            process, ready_file, stopping, _reloading(settings, read, process), head
        )
    finally:
        await head.stop()


async def serve_role(read: Callable[[], GatewaySettings], ready_file: Path | None) -> None:
    """Serves the gateway until told to stop; see `serve_all`."""
    settings = read()
    stopping = _told_to_stop()
    process = _gateway(settings)
    await _serve_gateway(process, ready_file, stopping, _reloading(settings, read, process))


def _reloading(
    settings: GatewaySettings, read: Callable[[], GatewaySettings], process: Serving
) -> Reloading:
    return Reloading(settings, read, process, AuditLog(settings.audit_log))


def _told_to_stop() -> asyncio.Event:
    """Returns what SIGTERM and Ctrl-C set from now on."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


async def _unless(
    stopping: asyncio.Event, starting: Coroutine[Any, Any, HeadProcess]
) -> HeadProcess | None:
    """Returns what was started, or None when it was given up because of a signal."""
    task, stop = asyncio.create_task(starting), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, stop):
            each.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


def _gateway(settings: GatewaySettings) -> Serving:
    configure_logging(settings.log_level, service="gateway")
    # Other roles share this command line and must not pay for WebRTC; nor must a front door,
    # which leaves calls and their traces to its workers.
    if settings.media_workers:
        from gateway.front_door.process import FrontDoor

        return FrontDoor(settings)
    from gateway.process import GatewayProcess

    endpoint, ratio = settings.otlp_endpoint or None, settings.trace_ratio
    instance = f"gateway-{os.getpid()}"
    configure_tracing("sana-gateway", endpoint, instance=instance, sample_ratio=ratio)
    return GatewayProcess(settings)


async def _serve_gateway(
    process: Serving,
    ready_file: Path | None,
    stopping: asyncio.Event,
    reloading: Reloading,
    head: HeadProcess | None = None,
) -> None:
    await process.start("" if head is None else head.placement_address)
    spare_what_is_loaded()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloading.ask)
    try:
        watched: list[asyncio.Task[Any]] = [
            asyncio.create_task(stopping.wait(), name="stop"),
            asyncio.create_task(process.run(), name="hub"),
            asyncio.create_task(reloading.run(), name="reloading"),
            asyncio.create_task(_announce(process, ready_file), name="announce"),
        ]
        if head is not None:
            watched.append(asyncio.create_task(head.wait(), name="head"))
        try:
            await _first_to_end(watched)
        finally:
            for task in watched:
                task.cancel()
            await asyncio.gather(*watched, return_exceptions=True)
    finally:
        await process.stop()
        shutdown()


async def _first_to_end(tasks: list[asyncio.Task[Any]]) -> None:
    """Returns when one of the standing tasks ends; raises what it raised."""
    while True:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
            if task.get_name() != "announce":
                return
            tasks.remove(task)


async def _announce(process: Serving, ready_file: Path | None) -> None:
    """Says where to reach the service, once a model is served."""
    console = Console(stderr=True)
    with console.status("waiting for a model"):
        await process.wait_serving()
    console.print(
        f"[bold green]serving[/]  HTTP {process.http_url}   gRPC {process.grpc_address}   "
        "(Ctrl-C ends it)"
    )
    if ready_file is not None:
        addresses = {"http": process.http_url, "grpc": process.grpc_address, "pid": os.getpid()}
        await asyncio.to_thread(ready_file.write_text, json.dumps(addresses) + "\n")
