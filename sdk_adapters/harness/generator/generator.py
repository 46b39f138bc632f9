"""The generator: spreads the visits over processes, and puts together what they saw.

Python has one core a process, so that the sessions of a large test need several. All share
the monotonic clock of the machine. They begin together, once each has drawn its cameras and
made its imports, and are ended by their ids.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Container
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from sana_gateway import RetryPolicy, UnknownModelError
from scheduler.scenario import ConfigurationError
from scheduler.scenario.load import LoadSpec
from sdk_adapters.harness import networks
from sdk_adapters.harness.generator import messages, source
from sdk_adapters.harness.generator.doors.every import missing_doors
from sdk_adapters.harness.generator.target import Target
from sdk_adapters.harness.plan import Plan, PlannedVisit
from sdk_adapters.harness.records import Event, Measured, Second

READY_S: Final = 120.0
"""How long a process may take to begin; many that start at once share the cores."""
REACH_S: Final = 5.0
"""How long a service is tried to be reached; an address that is wrong should be told soon."""
LEAD_S: Final = 0.3
"""From the word to begin to the beginning."""
END_S: Final = 30.0
"""How long a process may take to end its sessions; then it is killed."""
_READ: Final = 1 << 20
_NO_MODEL: Final = "-"
"""No model bears this name: the refusal says which there are."""

Observe = Callable[[Second], None]


class GeneratorError(Exception):
    """The generator itself failed."""


async def run(
    plan: Plan,
    target: Target,
    *,
    observe: Observe,
    until: asyncio.Event | None = None,
    measures: bool = True,
) -> Measured:
    """Drives a plan against a service.

    Args:
        plan: Who comes when.
        target: The service.
        observe: Called with every second of every process, as it ends.
        until: Ends the run early.
        measures: Whether frames are measured; not to do so shows what measuring costs.

    Returns:
        What was measured. `invalid` says where the generator was its own limit.

    Raises:
        ConfigurationError: The plan is strict, and not all of it can be done.
        GeneratorError: A process could not begin.
        GatewayError: The service cannot be reached.
        OSError: The clip that the plan names cannot be read.
    """
    missing = left_out(plan.load, target)
    if missing and plan.load.strict:
        said = "; ".join(f"{what}: {why}" for what, why in missing.items())
        raise ConfigurationError(f"the scenario is strict, and would be run without {said}")
    model = plan.load.model or await served_model(target)
    clip, camera = await asyncio.to_thread(_sources, plan)
    children = [
        _Child(
            messages.Job(
                process=number,
                target=target,
                visits=visits,
                model=model,
                measured_s=plan.measured_s,
                clip=clip,
                camera=camera,
                networks=networks.applied(plan.load, target),
                measures=measures,
            )
        )
        for number, visits in enumerate(_shares(plan, missing_doors()))
    ]
    measured = Measured(began_at="", measured_s=plan.measured_s)
    measured.not_measured.update(missing)
    collecting: list[asyncio.Task[None]] = []
    try:
        async with asyncio.timeout(READY_S):
            await asyncio.gather(*(child.begin() for child in children))
        epoch = time.monotonic() + LEAD_S
        measured.epoch = epoch
        measured.began_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        collecting = [
            asyncio.create_task(child.collect(epoch, measured, observe)) for child in children
        ]
        await _wait(collecting, epoch + plan.end_s, until)
        ended_s = max(0.0, time.monotonic() - epoch)
        if ended_s < plan.end_s:
            begin_s, _ = plan.measured_s
            measured.measured_s = min(begin_s, ended_s), ended_s
        for child in children:
            child.tell(messages.Stop())
        if collecting:
            await asyncio.wait(collecting, timeout=END_S)
        for child, task in zip(children, collecting, strict=True):
            if not task.done():
                measured.events.append(
                    Event(time.monotonic() - epoch, f"generator process {child.number} was killed")
                )
            await child.end()
            await task
    except TimeoutError:
        raise GeneratorError(f"a process did not begin within {READY_S:.0f} s") from None
    finally:
        for task in collecting:
            task.cancel()
        await asyncio.gather(*collecting, return_exceptions=True)
        for child in children:
            await child.end()
    measured.sessions.sort(key=lambda record: record.number)
    measured.seconds.sort(key=lambda second: (second.at_s, second.process))
    limits = plan.load.limits
    measured.invalid += verdict(
        measured, most_cpu=limits.generator_cpu, most_lag_ms=limits.generator_lag_ms
    )
    return measured


def left_out(load: LoadSpec, target: Target) -> dict[str, str]:
    """Returns why parts of a scenario cannot be done here, by part: `wire chromium`, for example.

    Sessions of such a wire do not come; those of such a network come as if there were none.

    Args:
        load: Of the scenario.
        target: The service, with the TURN server if there is one.
    """
    doors, ways = missing_doors(), networks.unapplied(load, target)
    return {
        **{
            f"wire {wire}": doors[wire]
            for wire, weight in load.wires.items()
            if weight and wire in doors
        },
        **{f"network {name}": why for name, why in ways.items()},
    }


async def served_model(target: Target) -> str:
    """Returns the first model that a service serves.

    Raises:
        GatewayError: It cannot be reached.
        GeneratorError: It does not say.
    """
    policy = RetryPolicy(window=REACH_S)
    async with target.client(policy=policy) as client:
        try:
            session = await client.create_session(_NO_MODEL, wait=False)
        except UnknownModelError as error:
            if error.served_models:
                return error.served_models[0]
            raise GeneratorError("the service serves no model") from error
        await session.close()
    raise GeneratorError("the service takes any model: name one (load.model)")


def verdict(measured: Measured, *, most_cpu: float, most_lag_ms: float) -> list[str]:
    """Returns why a run says nothing: the generator was its own limit. Empty: it was not.

    Args:
        measured: The run; the seconds that count are looked at.
        most_cpu: Most of one core that a process may take, on average over ten seconds.
        most_lag_ms: How late the event loops may run, 99 of 100 times.
    """
    begin, end = measured.measured_s
    reasons = [each.what for each in measured.events if each.what.startswith("generator process")]
    by_process: dict[int, list[Second]] = {}
    for second in measured.seconds:
        if begin < second.at_s <= end + 1.0:
            by_process.setdefault(second.process, []).append(second)
    for number, lag_ms in sorted(measured.lag_p99_ms.items()):
        if lag_ms > most_lag_ms:
            reasons.append(f"the event loop of generator process {number} ran {lag_ms:.0f} ms late")
    for number, seconds in sorted(by_process.items()):
        cpu = max(
            sum(each.cpu for each in seconds[at : at + 10]) / len(seconds[at : at + 10])
            for at in range(max(1, len(seconds) - 9))
        )
        if cpu > most_cpu:
            reasons.append(f"generator process {number} took {cpu:.2f} of a core")
    return reasons


def _sources(plan: Plan) -> tuple[bytes, dict[str, source.Reel]]:
    """Draws what the plan needs."""
    live = {visit.codec for visit in plan.visits if visit.live}
    camera = {codec: source.reel(codec, plan.load.camera) for codec in sorted(live)}
    files = any(not visit.live for visit in plan.visits)
    return source.clip(plan.load.clip) if files else b"", camera


def _shares(plan: Plan, left_out: Container[str]) -> list[list[PlannedVisit]]:
    """Returns the visits of each process."""
    shares: dict[int, list[PlannedVisit]] = {}
    for visit in plan.visits:
        if visit.wire not in left_out:
            shares.setdefault(visit.process, []).append(visit)
    return [visits for _, visits in sorted(shares.items())]


async def _wait(
    collecting: list[asyncio.Task[None]], end: float, until: asyncio.Event | None
) -> None:
    """Waits for the end of the plan, for the word to end, or until all processes have."""
    if not collecting:
        return
    working = asyncio.create_task(_all(collecting))
    asked = asyncio.create_task((until or asyncio.Event()).wait())
    try:
        await asyncio.wait(
            (working, asked),
            timeout=max(0.0, end - time.monotonic()),
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        for task in (working, asked):
            task.cancel()
        await asyncio.gather(working, asked, return_exceptions=True)


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


class _Child:
    """One process."""

    def __init__(self, job: messages.Job) -> None:
        self.number = job.process
        self._job = job
        self._process: asyncio.subprocess.Process | None = None

    async def begin(self) -> None:
        """Starts it, and waits until it can begin.

        Raises:
            GeneratorError: It ended instead.
        """
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sdk_adapters.harness.generator.process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_READ,
        )
        self.tell(self._job)
        if not isinstance(await self._read(), messages.Ready):
            raise GeneratorError(f"generator process {self.number} could not begin")

    def tell(self, message: object) -> None:
        """Sends a message; one to a process that is gone is lost."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(messages.packed(message))

    async def collect(self, epoch: float, measured: Measured, observe: Observe) -> None:
        """Lets it begin, and takes what it tells until it is done."""
        self.tell(messages.Go(epoch))
        while True:
            match await self._read():
                case Second() as second:
                    measured.seconds.append(second)
                    observe(second)
                case messages.Ended(record):
                    measured.sessions.append(record)
                case messages.Done(measuring_cpu_s, lag_p99_ms):
                    measured.measuring_cpu_s += measuring_cpu_s
                    measured.lag_p99_ms[self.number] = lag_p99_ms
                    return
                case _:
                    what = f"generator process {self.number} ended early"
                    measured.events.append(Event(time.monotonic() - epoch, what))
                    return

    async def end(self) -> None:
        """Ends the process, if it still runs. Repeating it is no error."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(1.0):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _read(self) -> Any:  # noqa: ANN401 - a message, or None at the end
        stdout = None if self._process is None else self._process.stdout
        if stdout is None:
            return None
        try:
            (length,) = messages.LENGTH.unpack(await stdout.readexactly(messages.LENGTH.size))
            return messages.unpacked(await stdout.readexactly(length))
        except asyncio.IncompleteReadError:
            return None
