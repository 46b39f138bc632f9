"""A viewer that measures: `python -m sdk_adapters.harness.viewer --help`.

It watches main_video of a session over gRPC or WebRTC and reports missing, repeated and
late frames, and how long pictures take: glass to glass and prompt to pixels. It watches
a session that exists (`--session`), or creates one and plays a clip through it
(`--model`, `--clip`, `--prompt`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sana_gateway import Client, GatewayError, Session, State
from sdk_adapters.harness.delays import DelayReport, Delays
from sdk_adapters.harness.ledger import FrameLedger, Report
from sdk_adapters.harness.sources import MarkerReader, watch_grpc, watch_webrtc

TAIL_S = 1.0
"""Seconds for the last frames of a run to arrive after its end was told."""


@dataclass(frozen=True, slots=True)
class ViewReport(Report):
    """What was seen, and how long it took."""

    delays: DelayReport
    """The delays, and the service's shares of them."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    Args:
        arguments: Its words; by default those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, prog="sdk_adapters.harness.viewer")
    add = parser.add_argument
    add("--address", default="127.0.0.1:50051", help="host:port of the gateway's gRPC")
    add("--token", help="bearer token")
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--session", help="watch this session")
    whose.add_argument("--model", help="create a session of this model and play --clip")
    add("--clip", type=Path, help="with --model: the clip to play")
    add("--prompt", default="a watercolour painting", help="with --model: the prompt")
    add("--transport", choices=("grpc", "webrtc"), default="grpc")
    add("--codec", choices=("h264", "vp8"), help="default: the service chooses")
    add("--decode", action="store_true", help="over gRPC: decode, and go by the markers")
    add("--modulo", type=int, help="for canned pictures: where their numbers start again")
    add("--seconds", type=float, default=10.0, help="watch for at most so long")
    add(
        "--shared-clock",
        action="store_true",
        help="the camera's times are of this machine's monotonic clock: tells glass to glass",
    )
    add("--late-ms", type=float, default=100.0, help="from here on a frame is late")
    add("--json", type=Path, help="write the report there too")
    options = parser.parse_args(arguments)
    if options.model and not options.clip:
        parser.error("--model needs --clip")
    return options


async def view(options: argparse.Namespace) -> ViewReport:
    """Watches as the command line says, and returns what was seen.

    Raises:
        GatewayError: The gateway refused something or cannot be reached.
    """
    decodes = options.decode or options.transport == "webrtc"
    ledger = FrameLedger(late_s=options.late_ms / 1e3, modulo=options.modulo if decodes else None)
    delays = Delays(shared_clock=options.shared_clock)
    async with (
        Client(options.address, token=options.token) as client,
        await _session(client, options) as session,
    ):
        reader = MarkerReader(ledger, session.session_id, options.modulo) if decodes else None
        async with _watching(session, options, ledger, delays, reader) as watching:
            done = asyncio.Event()
            session.on("generation_complete", lambda _: done.set())
            with suppress(TimeoutError):
                async with asyncio.timeout(options.seconds):
                    if options.model:
                        await _play(session, options, delays)
                    await _first(watching, asyncio.create_task(done.wait()))
            if done.is_set():
                await asyncio.wait((watching,), timeout=TAIL_S)
                _expect(ledger, session)
    return ViewReport(**_fields(ledger.report()), delays=delays.report())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the viewer; returns the exit status: 0 when it could watch, whatever it saw."""
    options = parse(arguments)
    try:
        report = asyncio.run(view(options))
    except (GatewayError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    text = json.dumps(asdict(report), indent=2) + "\n"
    sys.stdout.write(text)
    if options.json is not None:
        options.json.write_text(text)
    return 0


async def _session(client: Client, options: argparse.Namespace) -> Session:
    if options.session:
        return await client.attach(options.session)
    return await client.create_session(options.model)


async def _play(session: Session, options: argparse.Namespace, delays: Delays) -> None:
    await session.set_mode("file")
    await session.set_video(await session.upload(options.clip))
    await session.set_prompt(options.prompt)
    delays.command(time.monotonic())
    await session.start()


@asynccontextmanager
async def _watching(
    session: Session,
    options: argparse.Namespace,
    ledger: FrameLedger,
    delays: Delays,
    reader: MarkerReader | None,
) -> AsyncIterator[asyncio.Task[None]]:
    paused = False

    def state(now: State) -> None:
        nonlocal paused
        if paused and not now.paused:
            ledger.reanchor()
        paused = now.paused

    forget = session.on("state", state)
    if options.transport == "webrtc" and reader is not None:
        watch = watch_webrtc(session, options.codec, reader, delays=delays)
    else:
        watch = watch_grpc(session, ledger, options.codec, reader, delays=delays)
    task = asyncio.create_task(watch)
    try:
        yield task
    finally:
        forget()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _first(watching: asyncio.Task[None], done: asyncio.Task[bool]) -> None:
    """Waits for the end of either; an error of the watching is raised."""
    try:
        await asyncio.wait((watching, done), return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            await watching
    finally:
        done.cancel()


def _expect(ledger: FrameLedger, session: Session) -> None:
    """After a clip was played through, every one of its frames should have been seen."""
    runs = ledger.report().runs
    if runs and session.state is not None:
        ledger.expect(runs[-1].run, session.state.num_source_frames)


def _fields(report: Report) -> dict[str, Any]:
    return {field.name: getattr(report, field.name) for field in fields(report)}


if __name__ == "__main__":
    sys.exit(main())
