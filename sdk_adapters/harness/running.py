"""One run: puts a scenario on a service, asks the service how it is meanwhile, and reports.

The shell around the pure parts: the plan, the building of the report, and its verdicts.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scheduler.scenario.scenario import Scenario
from sdk_adapters.harness import slo
from sdk_adapters.harness.generator import Target
from sdk_adapters.harness.generator.generator import run as generate
from sdk_adapters.harness.generator.generator import served_model
from sdk_adapters.harness.plan import Plan, plan
from sdk_adapters.harness.records import Event, Measured, Second
from sdk_adapters.harness.report.build import build
from sdk_adapters.harness.report.environment import facts
from sdk_adapters.harness.report.model import LoadReport, Service
from sdk_adapters.harness.server import Scraper, pause_s


class View(Protocol):
    """Shows a run while it goes."""

    def begins(self, plan: Plan, levels: Callable[[], Mapping[str, float]]) -> None:
        """Is told what will be run, and where the levels of the service stand."""

    def second(self, second: Second) -> None:
        """Is told of a second of a process of the generator."""


@dataclass(slots=True)
class Silent:
    """Shows nothing."""

    def begins(self, plan: Plan, levels: Callable[[], Mapping[str, float]]) -> None:
        """Nothing."""

    def second(self, second: Second) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Setting:
    """On what a scenario is put, and how."""

    target: Target
    service: Service = field(default_factory=Service)
    """What is known of the service; its gateways, model and version are filled in."""
    processes: int = 0
    """Processes of the generator; 0: as the scenario says."""
    happenings: list[Event] = field(default_factory=list)
    """What is done to the service meanwhile, at moments of the monotonic clock; may grow
    while the run goes."""
    notes: tuple[str, ...] = ()
    """What a reader of the report has to know of it."""
    raw: Callable[[Measured], None] | None = None
    """Is told what was measured, before the report is made of it."""


async def measure(
    scenario: Scenario,
    setting: Setting,
    *,
    view: View | None = None,
    until: asyncio.Event | None = None,
) -> LoadReport:
    """Runs a scenario and returns its report, judged by the scenario's thresholds.

    Args:
        scenario: What to run.
        setting: On what.
        view: Is told of the run as it goes.
        until: Ends it early; what was measured until then stands in the report.

    Raises:
        ConfigurationError: A file that the scenario names cannot be read.
        GatewayError: The service cannot be reached.
        GeneratorError: The generator failed.
    """
    target, view = setting.target, view or Silent()
    model = scenario.load.model or await served_model(target)
    wanted = scenario.model_copy(update={"load": scenario.load.model_copy(update={"model": model})})
    planned = await asyncio.to_thread(
        plan, wanted, processes=processes(setting.processes or scenario.load.processes)
    )
    async with Scraper(target) as scraper:
        view.begins(planned, lambda: scraper.scrapes[-1].levels if scraper.scrapes else {})
        asking = asyncio.create_task(scraper.watch(pause_s(planned.end_s)))
        try:
            measured = await generate(planned, target, observe=view.second, until=until)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        scraper.into(measured)
        version = scraper.version
    measured.events += [Event(each.at_s - measured.epoch, each.what) for each in setting.happenings]
    if setting.raw is not None:
        setting.raw(measured)
    service = setting.service.model_copy(
        update={
            "gateways": len(target.grpc),
            "model": model,
            "version": setting.service.version or version,
        }
    )
    report = await asyncio.to_thread(build, measured, scenario, facts(service))
    report = report.model_copy(update={"notes": (*setting.notes, *report.notes)})
    return slo.judged(report, scenario.slo)


def processes(wanted: int) -> int:
    """Returns over how many processes sessions are spread: as wanted; else the cores but one."""
    return wanted or max(1, len(os.sched_getaffinity(0)) - 1)
