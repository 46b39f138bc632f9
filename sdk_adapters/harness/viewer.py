"""A viewer that measures: `python -m sdk_adapters.harness.viewer --help`.

It watches main_video of one session and tells of it what a load test tells of its own: which
frames came, when, and what the pictures show. It watches a session that exists (`--session`),
or creates one and plays a clip through it (`--model`, `--clip`, `--prompt`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sana_gateway import Client, GatewayError, Session, State
from sdk_adapters.harness.generator.decoding import Decoding
from sdk_adapters.harness.generator.doors import Line, Seat, every
from sdk_adapters.harness.generator.watching import Watching, Window
from sdk_adapters.harness.records import SessionRecord
from sdk_adapters.harness.report.values import spread

TAIL_S: Final = 1.0
"""Seconds for the last frames of a run to arrive after its end was told."""
LOOK_S: Final = 0.5
"""Time between two looks at what came."""
WIRES: Final = ("grpc", "webrtc")


@dataclass(frozen=True, slots=True)
class ViewReport:
    """What was seen."""

    session_id: str
    counts: dict[str, float]
    """By metric; also `playing_s`, `frozen_s` and `bytes`, and of decoded pictures those that
    were `pictures_read`, `pictures_wrong`, `pictures_unreadable` and `pictures_skipped`."""
    values: dict[str, dict[str, float]]
    """Distributions by metric, in its unit: count, mean, min, p50, p90, p95, p99, max."""

    def document(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return {"session_id": self.session_id, "counts": self.counts, "values": self.values}


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
    add("--wire", choices=WIRES, default="grpc")
    add("--codec", choices=("h264", "vp8"), default="h264")
    add("--decode", action="store_true", help="decode, and read which frame each picture is")
    add("--seconds", type=float, default=10.0, help="watch for at most so long")
    add(
        "--shared-clock",
        action="store_true",
        help="over gRPC: the camera's times are of this machine's monotonic clock, so that glass "
        "to glass can be told",
    )
    add("--json", type=Path, help="write the report there too")
    options = parser.parse_args(arguments)
    if options.model and not options.clip:
        parser.error("--model needs --clip")
    return options


async def view(options: argparse.Namespace) -> ViewReport:
    """Watches as the command line says, and returns what was seen.

    Raises:
        GatewayError: The gateway refused something or cannot be reached.
        TimeoutError: The media did not connect.
        OSError: The clip cannot be read.
    """
    record = _record(options)
    watching = Watching(
        record,
        Window(-math.inf, math.inf),
        lambda metric, value, _: record.add(metric, value),
        lambda late_ms: record.add("frame_lateness", late_ms),
    )
    async with (
        Client(options.address, token=options.token) as client,
        await _session(client, options) as session,
        _watched(client, session, watching, record, options) as line,
    ):
        record.session_id = session.session_id
        over = asyncio.Event()
        for ending in ("generation_complete", "ended"):
            session.on(ending, lambda _: over.set())
        with suppress(TimeoutError):
            async with asyncio.timeout(options.seconds):
                if options.model:
                    await _play(session, options, watching)
                await _look(watching, line, over)
    watching.close(time.monotonic())
    return ViewReport(
        session_id=record.session_id,
        counts=dict(record.counts),
        values={name: spread(each).model_dump() for name, each in record.values.items()},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the viewer; returns the exit status: 0 when it could watch, whatever it saw."""
    options = parse(arguments)
    try:
        report = asyncio.run(view(options))
    except (GatewayError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    text = json.dumps(report.document(), indent=2) + "\n"
    sys.stdout.write(text)
    if options.json is not None:
        options.json.write_text(text)
    return 0


def _record(options: argparse.Namespace) -> SessionRecord:
    return SessionRecord(
        number=0,
        process=0,
        wire=options.wire,
        codec=options.codec,
        network="",
        live=False,
        decoded=options.decode,
        planned_s=0.0,
    )


async def _session(client: Client, options: argparse.Namespace) -> Session:
    if options.session:
        return await client.attach(options.session)
    return await client.create_session(options.model)


async def _play(session: Session, options: argparse.Namespace, watching: Watching) -> None:
    await session.set_mode("file")
    await session.set_video(await session.upload(options.clip))
    await session.set_prompt(options.prompt)
    watching.starts(time.monotonic())
    await session.start()


@asynccontextmanager
async def _watched(
    client: Client,
    session: Session,
    watching: Watching,
    record: SessionRecord,
    options: argparse.Namespace,
) -> AsyncIterator[Line]:
    """Connects to a session's media, and follows what is done to it; ends that."""
    paused = False

    def told(state: State) -> None:
        nonlocal paused
        watching.frame_rate = state.degraded_frame_rate or 24.0
        if state.paused:
            watching.stops()
        elif paused:
            watching.joins()
        paused = state.paused

    def complete(_: object) -> None:
        watching.completed(session.state.num_source_frames if session.state else 0)

    decoding = Decoding()
    if options.session:
        watching.joins()
    forget = session.on("state", told), session.on("generation_complete", complete)
    pictures = decoding.pictures(watching, session, None, options.codec) if options.decode else None
    seat = Seat(
        client=client,
        session=session,
        codec=options.codec,
        watching=watching,
        camera=None,
        pictures=pictures,
        clock=time.monotonic,
        add=lambda metric, value, _: record.add(metric, value),
        shared_clock=options.shared_clock,
    )
    line = await every.doors()[options.wire].connect(seat)
    try:
        yield line
    finally:
        for each in forget:
            each()
        await line.close()
        # What waits there is decoded first.
        await asyncio.to_thread(decoding.close)


async def _look(watching: Watching, line: Line, over: asyncio.Event) -> None:
    """Looks at what comes until the run or the session is over, or the line is lost."""
    lost, ending = asyncio.create_task(line.lost()), asyncio.create_task(over.wait())
    try:
        while not (lost.done() or ending.done()):
            await asyncio.wait((lost, ending), timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            watching.settle()
        # The last frames may be on their way.
        await asyncio.wait((lost,), timeout=TAIL_S)
        if lost.done():
            await lost
    finally:
        for task in (lost, ending):
            task.cancel()
        await asyncio.gather(lost, ending, return_exceptions=True)


if __name__ == "__main__":
    sys.exit(main())
