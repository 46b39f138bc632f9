"""One process of the generator: drives its share of the visits, and tells what they see.

Begun by `generator.run`, which writes to its standard input and reads from its output.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO, Final

from sdk_adapters.harness.generator import messages
from sdk_adapters.harness.generator.cost import noting_s
from sdk_adapters.harness.generator.decoding import Decoding
from sdk_adapters.harness.generator.doors import Door, every
from sdk_adapters.harness.generator.gateways import Gateways
from sdk_adapters.harness.generator.pulse import Pulse, watch_lag
from sdk_adapters.harness.generator.visit import Place, Visit
from sdk_adapters.harness.generator.watching import Meter, Unmeasured, Watching, Window
from sdk_adapters.harness.networks import Way

SECOND_S: Final = 1.0

Tell = Callable[[object], None]


class Driver:
    """Brings the visits of one process to the service."""

    def __init__(
        self,
        job: messages.Job,
        tell: Tell,
        *,
        clock: Callable[[], float] = time.monotonic,
        doors: dict[str, Door] | None = None,
    ) -> None:
        """Prepares.

        Args:
            job: What to do.
            tell: Takes `messages.Ended` and `Second`.
            clock: Tells the time, as the event loop's timers do.
            doors: Ways to the media, by wire; by default those that there are.
        """
        self._job = job
        self._tell = tell
        self._clock = clock
        self._doors = doors if doors is not None else every.doors()
        self._pulse = Pulse(job.process, Window(0.0, 0.0))
        self._meter = Meter(time.thread_time)
        self._visits: dict[Visit, asyncio.Task[None]] = {}
        self._frames = 0

    async def prepare(self) -> None:
        """Begins what takes time, before the run."""
        wires = {visit.wire for visit in self._job.visits}
        await asyncio.gather(*(self._doors[wire].prepare() for wire in wires))

    @property
    def visits(self) -> Iterable[Visit]:
        """Those that are there."""
        return tuple(self._visits)

    async def drive(self, epoch: float, stop: asyncio.Event) -> messages.Done:
        """Drives all visits until `stop`; returns soon after it.

        Args:
            epoch: When the run begins, on the clock.
            stop: Ends those that are not over.
        """
        job = self._job
        begin_s, end_s = job.measured_s
        window = Window(epoch + begin_s, epoch + end_s)
        self._pulse = Pulse(job.process, window)
        gateways, decoding = Gateways(job.target), Decoding()
        place = Place(
            process=job.process,
            gateways=gateways,
            doors=self._doors,
            model=job.model,
            clip=job.clip,
            reels=job.camera,
            epoch=epoch,
            window=window,
            clock=self._clock,
            pulse=self._pulse,
            meter=self._meter,
            watch=Watching if job.measures else Unmeasured,
            pictures=decoding.pictures,
        )
        lag = asyncio.create_task(watch_lag(self._pulse))
        seconds = asyncio.create_task(self._tell_seconds(epoch))
        arriving = asyncio.create_task(self._arrive(place))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((arriving, stopping), return_when=asyncio.FIRST_COMPLETED)
            if arriving.done():
                await arriving
                await stopping
        finally:
            tasks = (arriving, stopping, seconds, lag)
            for task in (*self._visits.values(), *tasks):
                task.cancel()
            await asyncio.gather(*self._visits.values(), *tasks, return_exceptions=True)
            for door in self._doors.values():
                await door.close()
            await gateways.close()
            decoding.close()
        self._second(epoch)
        lags = self._pulse.lags
        return messages.Done(
            measuring_cpu_s=self._meter.spent_s + self._frames * noting_s(),
            lag_p99_ms=(lags.get_quantile_value(0.99) or 0.0) if lags.count else 0.0,
        )

    async def _arrive(self, place: Place) -> None:
        """Lets visits come, each at its time, whatever became of those before."""
        for planned in self._job.visits:
            at = place.epoch + planned.arrival_s
            if (wait := at - self._clock()) > 0:
                await asyncio.sleep(wait)
            network, way = self._job.networks.get(planned.network), None
            if network is not None:
                way = Way(network, self._job.target, planned.number)
            own = place if way is None else replace(place, way=way, gateways=way.gateways)
            visit = Visit(planned, own)
            self._visits[visit] = asyncio.create_task(self._live(visit, way))

    async def _live(self, visit: Visit, way: Way | None) -> None:
        try:
            self._tell(messages.Ended(await visit.run()))
            leaving = asyncio.create_task(visit.leave())
            try:
                await asyncio.shield(leaving)
            except asyncio.CancelledError:
                # It leaves within a bounded time: nothing of it is to stay behind.
                await leaving
                raise
        finally:
            if way is not None:
                await way.close()
            del self._visits[visit]
            self._pulse.leaves(visit.watching)
            self._frames += visit.watching.frames

    async def _tell_seconds(self, epoch: float) -> None:
        due = max(self._clock(), epoch)
        while True:
            due += SECOND_S
            await asyncio.sleep(max(0.0, due - self._clock()))
            self._second(epoch)

    def _second(self, epoch: float) -> None:
        with self._meter:
            second = self._pulse.second(self._visits, self._clock() - epoch)
        self._tell(second)


async def serve(commands: BinaryIO, results: BinaryIO) -> None:
    """Does what it is told until it is done or nobody is there to tell it.

    Args:
        commands: Where `Job`, `Go` and `Stop` come from.
        results: Where everything is told.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Any] = asyncio.Queue()

    def listen() -> None:
        with suppress(RuntimeError):
            try:
                while True:
                    loop.call_soon_threadsafe(told.put_nowait, messages.read(commands))
            except (EOFError, OSError):
                loop.call_soon_threadsafe(told.put_nowait, messages.Stop())

    threading.Thread(target=listen, daemon=True).start()
    writer = _Writer(results)
    job = await told.get()
    if not isinstance(job, messages.Job):
        return
    driver = Driver(job, writer.tell)
    await driver.prepare()
    writer.tell(messages.Ready())
    go = await told.get()
    stop = asyncio.Event()
    if isinstance(go, messages.Go):
        driving = asyncio.create_task(driver.drive(go.epoch, stop))
        listening = asyncio.create_task(told.get())
        await asyncio.wait((driving, listening), return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        writer.tell(await driving)
        listening.cancel()
    await asyncio.to_thread(writer.close)


class _Writer:
    """Writes messages in a thread, so that the event loop never waits for the reader."""

    def __init__(self, results: BinaryIO) -> None:
        self._results = results
        # Bounded by what is measured: a record for each visit, a line for each second.
        self._waiting: list[object | None] = []
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def tell(self, message: object | None) -> None:
        """Hands on a message, at once."""
        with self._more:
            self._waiting.append(message)
            self._more.notify()

    def close(self) -> None:
        """Waits until everything is written."""
        self.tell(None)
        self._thread.join()

    def _write(self) -> None:
        with suppress(BrokenPipeError):
            while True:
                with self._more:
                    self._more.wait_for(lambda: bool(self._waiting))
                    waiting, self._waiting = self._waiting, []
                for message in waiting:
                    if message is None:
                        return
                    self._results.write(messages.packed(message))
                    self._results.flush()


def main() -> None:
    """Runs the process: standard output is for messages alone, whatever libraries print."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # The generator ends its processes itself; what a whole process group is sent is for it.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    # Unbuffered: the thread that reads may wait for ever, and must hold no lock at the end.
    with os.fdopen(0, "rb", buffering=0, closefd=False) as commands:
        asyncio.run(serve(commands, results))


if __name__ == "__main__":
    main()
