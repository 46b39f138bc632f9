"""Load on a service while parts of it are killed and drained: nobody may lose a session.

The deeds are done at planned moments of the measured time, one after the other; the next one
waits until the pool is whole again, so that what follows a deed is its doing. What became of
whom is read off the freezes that the users saw.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sana_gateway import Client, GatewayError
from scheduler.scenario import ConfigurationError
from scheduler.scenario.load import Bounds
from scheduler.scenario.scenario import Scenario
from sdk_adapters.harness.deeds import DEEDS, Deed, DeedError, Site
from sdk_adapters.harness.generator.target import Target
from sdk_adapters.harness.plan import Plan
from sdk_adapters.harness.records import Event, Measured, Second
from sdk_adapters.harness.report.model import LoadReport, Verdict
from sdk_adapters.harness.running import Setting, Silent, View, measure
from sdk_adapters.harness.stack import Stack, StackError

USUAL: Final = (Deed.KILL_ACTOR, Deed.KILL_SCHEDULER, Deed.KILL_GATEWAY, Deed.DRAIN_ACTOR)
"""What is done to a service of one's own, in this order."""
CALM: Final = 0.08
"""Part of the measured time before the first deed."""
AFTERMATH: Final = 0.2
"""Part of it that is left after the last."""
ITS_DOING_S: Final = 3.0
"""A picture that begins to stand so soon after a deed does so because of it: what was made
before is shown first."""
EARLIER_S: Final = 0.3
"""Frames on their way are shown after what made them is dead; the freeze began before."""


@dataclass(frozen=True, slots=True)
class Step:
    """A deed, and when it is due."""

    at_s: float
    """Since the beginning of the run."""
    deed: Deed


@dataclass(slots=True)
class Done:
    """What became of a step. Times are seconds since the beginning of the run."""

    deed: Deed
    planned_s: float
    began_s: float
    ended_s: float
    what: str = ""
    failure: str = ""
    """Why it could not be done."""
    whole_s: float | None = None
    """When all actors served again; None: not before the run ended."""
    affected: int = 0
    """Sessions whose picture stood because of it."""
    longest_s: float = 0.0
    """The longest time that one of them stood."""
    recovery_s: float | None = None
    """From the deed to the next frame of the last of them; None: nobody's picture stood, or
    the deed was not done in a moment."""
    standing: int = 0
    """Sessions whose picture stood until they ended."""

    def line(self) -> str:
        """Returns it in words."""
        if self.failure:
            return f"{self.deed} at {self.began_s:.1f} s could not be done: {self.failure}"
        said = [f"{self.what} at {self.began_s:.1f} s"]
        if not self.affected:
            said.append("no picture stood")
        else:
            said.append(f"{self.affected} stood, for up to {self.longest_s:.2f} s")
        if self.recovery_s is not None:
            said.append(f"the last went on after {self.recovery_s:.2f} s")
        if self.standing:
            said.append(f"{self.standing} never went on")
        whole = None if self.whole_s is None else self.whole_s - self.began_s
        said.append(
            "the pool was not whole again" if whole is None else f"pool whole after {whole:.1f} s"
        )
        return "; ".join(said)


@dataclass(frozen=True, slots=True)
class Chaos:
    """What came of it all."""

    report: LoadReport
    done: tuple[Done, ...]

    def document(self) -> list[dict[str, Any]]:
        """Returns the deeds for JSON."""
        return [asdict(each) for each in self.done]


def steps(scenario: Scenario, deeds: Sequence[Deed]) -> tuple[Step, ...]:
    """Spreads deeds evenly over the measured time, with calm before and after.

    Args:
        scenario: Of the load.
        deeds: What is done, in order.
    """
    begin = scenario.warm_up + CALM * scenario.duration
    room = (1.0 - CALM - AFTERMATH) * scenario.duration
    apart = room / max(1, len(deeds) - 1)
    return tuple(Step(begin + number * apart, deed) for number, deed in enumerate(deeds))


def checked(deeds: Sequence[Deed], stack: Stack | None) -> tuple[Deed, ...]:
    """Returns the deeds, or refuses those that cannot be done.

    Args:
        deeds: What was asked for; none: the usual ones.
        stack: Our own; None: the service is somebody else's.

    Raises:
        ConfigurationError: Says which, and why.
    """
    if stack is not None:
        wanted = tuple(deeds) or USUAL
        if not stack.options.killable and any(DEEDS[deed].kills for deed in wanted):
            raise ConfigurationError("actors that are threads of one process cannot be killed")
        if Deed.KILL_WORKER in wanted and not stack.options.media_workers:
            raise ConfigurationError("kill-worker needs --media-workers")
        return wanted
    if not deeds:
        raise ConfigurationError(
            "what is to be done to a service that is not started for it has to be named: "
            "--deed drain-actor"
        )
    if kills := [str(deed) for deed in deeds if DEEDS[deed].kills]:
        raise ConfigurationError(
            f"{', '.join(kills)}: processes can be killed only where they were started for it. "
            "Leave out --target for a service of its own, or drain actors with an operator's token"
        )
    return tuple(deeds)


async def permitted(client: Client, target: Target) -> None:
    """Refuses a service that does not let us see its pool, which draining takes.

    Raises:
        ConfigurationError: It does not.
    """
    try:
        await client.describe_pool()
    except GatewayError as error:
        raise ConfigurationError(
            f"{target.grpc[0]} does not let us drain: {error}. It takes a token with the scope "
            "`operator` (--token)"
        ) from None


def strict(scenario: Scenario) -> Scenario:
    """Returns the scenario with the threshold that no session may be lost."""
    return scenario.model_copy(update={"slo": {"sessions_lost": Bounds(total=0), **scenario.slo}})


async def wreak(
    scenario: Scenario,
    setting: Setting,
    deeds: Sequence[Deed] = (),
    *,
    stack: Stack | None = None,
    view: View | None = None,
    until: asyncio.Event | None = None,
) -> Chaos:
    """Runs a scenario while the deeds are done, and says what came of each.

    Args:
        scenario: What is put on the service.
        setting: The service.
        deeds: What is done to it; none: the usual ones.
        stack: The service, if it is our own; else it can only be drained.
        view: Told of the run as it goes.
        until: Ends it early.

    Raises:
        ConfigurationError: A deed cannot be done to this service.
        GatewayError: The service cannot be reached.
        GeneratorError: The generator failed.
    """
    wanted = checked(deeds, stack)
    raw: list[Measured] = []
    setting = replace(setting, happenings=[], raw=raw.append)
    target = setting.target
    async with target.client() as client:
        if stack is None:
            await permitted(client, target)
        site = Site(client, stack)
        hand = Hand(site, setting.happenings)
        clock = _Clock(view or Silent())
        doing = asyncio.create_task(hand.do(steps(scenario, wanted), clock.began))
        try:
            report = await measure(strict(scenario), setting, view=clock, until=until)
        finally:
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
    done = hand.told(raw[0].epoch)
    settle(done, _freezes(raw[0]))
    undone = wanted[len(done) :]
    verdicts = [_verdict(each) for each in done] + [
        _verdict(Done(deed, 0, 0, 0, failure="the run ended before")) for deed in undone
    ]
    notes = (*report.notes, *(each.line() for each in done))
    report = report.model_copy(update={"notes": notes, "verdicts": (*report.verdicts, *verdicts)})
    return Chaos(report, tuple(done))


class Hand:
    """Does the deeds, each when it is due and the pool is whole."""

    def __init__(self, site: Site, happenings: list[Event]) -> None:
        """Has done nothing.

        Args:
            site: What it is done to.
            happenings: Takes what is done, at moments of the monotonic clock.
        """
        self._site = site
        self._happenings = happenings
        self._done: list[Done] = []

    async def do(self, planned: Sequence[Step], began: asyncio.Future[float]) -> None:
        """Does all.

        Args:
            planned: What and when.
            began: When the run began, once it has.
        """
        epoch = await began
        whole = await self._site.healthy()
        for step in planned:
            await asyncio.sleep(max(0.0, epoch + step.at_s - time.monotonic()))
            now = time.monotonic()
            done = Done(step.deed, step.at_s, began_s=now, ended_s=now)
            self._done.append(done)
            await self._one(done)
            await self._site.until_healthy(whole)
            done.whole_s = time.monotonic()

    async def _one(self, done: Done) -> None:
        event = Event(done.began_s, str(done.deed))
        self._happenings.append(event)
        try:
            done.what = event.what = await DEEDS[done.deed].do(self._site)
        except (DeedError, GatewayError, StackError, TimeoutError) as error:
            done.failure = str(error) or type(error).__name__
            event.what = f"{done.deed} could not be done"
        done.ended_s = time.monotonic()

    def told(self, epoch: float) -> list[Done]:
        """Returns what was done, in seconds since the beginning of the run.

        Args:
            epoch: When that was, on the monotonic clock.
        """
        return [
            replace(
                each,
                began_s=each.began_s - epoch,
                ended_s=each.ended_s - epoch,
                whole_s=None if each.whole_s is None else each.whole_s - epoch,
                failure=each.failure or ("" if each.what else "the run ended meanwhile"),
            )
            for each in self._done
        ]


Freeze = tuple[float, float]
"""When a picture began to stand and when it went on."""


def settle(done: Sequence[Done], freezes: Mapping[int, Sequence[Freeze]]) -> None:
    """Notes with each deed whose picture stood because of it, and for how long.

    Args:
        done: The deeds, in order.
        freezes: Of each session; one that lasted to its end went on never, `inf`.
    """
    for number, each in enumerate(done):
        later = done[number + 1].began_s if number + 1 < len(done) else math.inf
        over = each.ended_s if DEEDS[each.deed].lasts else each.began_s
        first, last = each.began_s - EARLIER_S, min(over + ITS_DOING_S, later)
        stood = [
            [(begin, end) for begin, end in those if first <= begin < last]
            for those in freezes.values()
        ]
        each.affected = sum(map(bool, stood))
        each.standing = sum(any(end == math.inf for _, end in those) for those in stood)
        ended = [(begin, end) for those in stood for begin, end in those if end != math.inf]
        each.longest_s = max((end - begin for begin, end in ended), default=0.0)
        if ended and not DEEDS[each.deed].lasts:
            each.recovery_s = max(end for _, end in ended) - each.began_s


def _freezes(measured: Measured) -> Mapping[int, Sequence[Freeze]]:
    return {record.number: list(record.freezes) for record in measured.sessions}


def _verdict(done: Done) -> Verdict:
    """Returns whether a deed was done: else nothing was proved."""
    return Verdict(
        metric=f"chaos {done.deed}",
        statistic="done",
        limit=1,
        value=None if done.failure else 1,
        met=not done.failure,
        more_is_better=True,
        why=done.failure,
    )


class _Clock:
    """A view that learns when the run began."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.began: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def begins(self, plan: Plan, levels: Callable[[], Mapping[str, float]]) -> None:
        """See `View.begins`."""
        self._view.begins(plan, levels)

    def second(self, second: Second) -> None:
        """See `View.second`: the first one tells."""
        if not self.began.done():
            self.began.set_result(time.monotonic() - second.at_s)
        self._view.second(second)
