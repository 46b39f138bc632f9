"""A media worker: the whole gateway on unix sockets. Started by the front door alone.

    python -m gateway.front_door.worker --announce-fd N

The first line on standard input is JSON: its index, its sockets, its settings. It ends in
order with SIGTERM or the end of standard input. On the descriptor it writes one JSON
line when it listens, one whenever its answer to "how are you" changes, and one a second in
any case: silence means that it hangs.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gateway.collecting import spare_what_is_loaded
from gateway.front_door.routing import Share
from gateway.open_files import allow_many_files
from gateway.process import GatewayProcess, Sockets
from gateway.settings import GatewaySettings
from scheduler.core.errors import SanaGatewayError
from scheduler.process.config import load_settings
from scheduler.process.logging import configure_logging
from scheduler.process.telemetry import configure_tracing, shutdown

REPORT_S: Final = 0.1
"""How often it looks whether there is something to report."""
UNCHANGED_S: Final = 1.0
"""How often it reports that nothing has changed."""


def main() -> None:
    """Runs until told to stop; our own errors end it with their text and status 2."""
    try:
        asyncio.run(_run(int(sys.argv[2]), _read_line()))
    except SanaGatewayError as error:
        sys.stderr.write(f"sana-gateway: {error}\n")
        sys.exit(2)


async def _run(descriptor: int, told: dict[str, Any]) -> None:
    settings = load_settings(GatewaySettings, overrides=told["settings"])
    share = Share(int(told["index"]), settings.media_workers)
    sockets = Sockets(**told["sockets"])
    configure_logging(settings.log_level, service=f"gateway/{share.index}")
    instance = f"gateway-{os.getpid()}"
    endpoint, ratio = settings.otlp_endpoint or None, settings.trace_ratio
    configure_tracing("sana-gateway", endpoint, instance=instance, sample_ratio=ratio)
    allow_many_files()
    process = GatewayProcess(settings, share=share, sockets=sockets)
    stopping = _told_to_stop(lambda line: _take_up(process, line))
    await process.start()
    spare_what_is_loaded()
    try:
        watched = [
            asyncio.create_task(stopping.wait(), name="stop"),
            asyncio.create_task(process.run(), name="gateway"),
            asyncio.create_task(_report(process, descriptor), name="report"),
        ]
        try:
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in watched:
                task.cancel()
            await asyncio.gather(*watched, return_exceptions=True)
    finally:
        await process.stop()
        shutdown()
        _clear(sockets)


async def _report(process: GatewayProcess, descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    clock = asyncio.get_running_loop().time
    reported: dict[str, int] = {}
    reported_at = clock()
    while True:
        report = {"serving": process.is_serving, "sessions": process.session_count}
        if report != reported or clock() - reported_at >= UNCHANGED_S:
            # A front door that does not read just now is told later.
            with suppress(BlockingIOError):
                os.write(descriptor, json.dumps(report).encode() + b"\n")
                reported, reported_at = report, clock()
        await asyncio.sleep(REPORT_S)


def _take_up(process: GatewayProcess, line: bytes) -> None:
    process.take_up(load_settings(GatewaySettings, overrides=json.loads(line)))


def _told_to_stop(heard: Callable[[bytes], None]) -> asyncio.Event:
    """Returns what SIGTERM, SIGINT and the end of standard input set from now on.

    Args:
        heard: Called on the loop with each further line of standard input.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    def drain() -> None:
        # Not through sys.stdin, whose lock this thread would hold when the interpreter ends.
        rest = b""
        while block := os.read(0, 65_536):
            *lines, rest = (rest + block).split(b"\n")
            with suppress(RuntimeError):
                for line in lines:
                    loop.call_soon_threadsafe(heard, line)
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stopping.set)

    threading.Thread(target=drain, daemon=True).start()
    return stopping


def _read_line() -> dict[str, Any]:
    line = b""
    # No byte more than the line: what follows is for the thread that listens.
    while not line.endswith(b"\n"):
        block = os.read(0, 1)
        if not block:
            # The front door is gone already.
            sys.exit(0)
        line += block
    told: dict[str, Any] = json.loads(line)
    return told


def _clear(sockets: Sockets) -> None:
    """Removes what a front door that was killed cannot."""
    for address in (sockets.http, sockets.grpc):
        path = Path(address.removeprefix("unix:"))
        with suppress(OSError):
            path.unlink()
    with suppress(OSError):
        path.parent.rmdir()


if __name__ == "__main__":
    main()
