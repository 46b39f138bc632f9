"""What the subcommands of `load` do: they run, show, write, and return an exit status."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from rich.console import Console

from sana_gateway import GatewayError
from scheduler.scenario import ConfigurationError, durations
from scheduler.scenario.pool import PoolSpec
from scheduler.scenario.scenario import Scenario
from sdk_adapters.harness import outputs, scenarios, terminal
from sdk_adapters.harness.capacity import Capacity, Trial, Wanted, told
from sdk_adapters.harness.capacity_run import KEPT, find
from sdk_adapters.harness.chaos import wreak
from sdk_adapters.harness.compare import Comparison
from sdk_adapters.harness.compare import compare as compared
from sdk_adapters.harness.deeds import Deed
from sdk_adapters.harness.generator import Target
from sdk_adapters.harness.generator.generator import GeneratorError
from sdk_adapters.harness.networks.turn import TurnServer
from sdk_adapters.harness.report import comparing, words
from sdk_adapters.harness.report.model import LoadReport, ReportError, parse
from sdk_adapters.harness.running import Setting, measure
from sdk_adapters.harness.search import Rules
from sdk_adapters.harness.slo import Exit, exit_status
from sdk_adapters.harness.stack import Stack, StackError, StackOptions, own_stack

_ENDING: Final = "Ending the run early; Ctrl-C again gives up what was measured."
_STARTING: Final = "No --target: starting a service of simulated models here ..."
_UNWRITTEN: Final = "the report cannot be written: {}"

Result = TypeVar("Result")


class ModeError(Exception):
    """Something could not be done, in words for people."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of every mode that measures."""

    scenario: Scenario
    """What to run."""
    target: Target
    """On what; without an address: on a service that is started for it."""
    processes: int
    """Of the generator; 0: as the scenario says."""
    out: Path
    """Folder of what is left: reports, the log of a service that is started."""
    plain: bool = False
    """Without a live view."""


def scenario_of(
    name: str, *, scale: float, seed: int | None, slo: Path | None, strict: bool = False
) -> Scenario:
    """Returns what is to be run.

    Args:
        name: A preset, or the path of a file.
        scale: Times its sessions.
        seed: None: the scenario's own.
        slo: A file with thresholds; None: the scenario's own.
        strict: Whether all of it has to be done; False: as the scenario says.

    Raises:
        ConfigurationError: One of the files cannot be read.
    """
    scenario = scenarios.read(name, scale=scale, seed=seed)
    changes: dict[str, object] = {}
    if slo is not None:
        changes["slo"] = scenarios.read_slo(slo)
    if strict:
        changes["load"] = scenario.load.model_copy(update={"strict": True})
    return scenario.model_copy(update=changes)


def target_of(grpc: Sequence[str], http: Sequence[str], token: str, turn: str = "") -> Target:
    """Returns the service that the user names; one without an address where none is named.

    Args:
        grpc: `host:port` of each gateway's gRPC.
        http: The same of their HTTP; may be missing.
        token: Bearer token; may be empty.
        turn: TURN server; may be empty.

    Raises:
        ConfigurationError: Something is missing.
    """
    for address in grpc:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigurationError(f"--target {address}: give host:port of the gateway's gRPC")
    if not grpc and (http or token):
        raise ConfigurationError("--http and --token go with --target host:port")
    if http and len(http) != len(grpc):
        raise ConfigurationError(
            f"{len(grpc)} --target and {len(http)} --http: give the HTTP of each gateway"
        )
    if turn:
        TurnServer.parse(turn)
    return Target(tuple(grpc), tuple(each.removeprefix("http://") for each in http), token, turn)


def wanted_of(
    scenario: Scenario, *, window: str | None, warm_up: str | None, most: int, repeats: int
) -> Wanted:
    """Returns what to search for.

    Args:
        scenario: Whose users come.
        window: How long each run measures; None: as long as the scenario.
        warm_up: Before that; None: as the scenario.
        most: No more sessions are tried.
        repeats: Runs of a number that decide.

    Raises:
        ConfigurationError: A time is none.
    """
    rules = Rules(most=most, repeats=repeats, needed=repeats // 2 + 1)
    return Wanted.of(
        scenario,
        window_s=_seconds("--window", window),
        warm_up_s=_seconds("--warm-up", warm_up),
        rules=rules,
    )


def deeds_of(names: Sequence[str]) -> tuple[Deed, ...]:
    """Returns what is to be done to the service.

    Raises:
        ConfigurationError: Something else is named.
    """
    known = [str(deed) for deed in Deed]
    if wrong := next((name for name in names if name not in known), None):
        raise ConfigurationError(f"--deed {wrong}: there are {', '.join(known)}")
    return tuple(map(Deed, names))


def _seconds(flag: str, time: str | None) -> float | None:
    try:
        return None if time is None else float(time) if time.isdigit() else durations.seconds(time)
    except ValueError as error:
        raise ConfigurationError(f"{flag} {time}: {error}") from None


def run(asked: Asked, where: Mapping[str, Path]) -> int:
    """Runs a scenario, leaves its reports, and returns the exit status.

    Args:
        asked: What to run, on what.
        where: Where each form of the report goes.
    """

    async def work(stop: asyncio.Event, screen: terminal.Screen) -> LoadReport:
        async with _service(asked, StackOptions, screen) as (setting, stack):
            until = _going(stop)
            report = await measure(asked.scenario, setting, view=screen, until=until)
            return _noted(report, stack)

    return _done(asked, where, work)


def capacity(
    asked: Asked, wanted: Wanted, answer: Path, *, guess: int | None = None, fresh: bool = False
) -> int:
    """Searches for the most sessions that hold; returns 0 where there is a confirmed answer.

    Args:
        asked: Whose users come, to what. Trials are kept in its folder.
        wanted: What to search for.
        answer: Where the answer goes.
        guess: Where to begin; None: where the simulator says.
        fresh: Whether to forget the trials that were kept.
    """
    console = Console(stderr=True)

    async def work(stop: asyncio.Event, screen: terminal.Screen) -> Capacity:
        def tell(trial: Trial) -> None:
            why = "; ".join(trial.invalid) or ", ".join(map(told, trial.missed))
            verdict = "holds" if trial.held else "says nothing" if trial.invalid else "does not"
            line = f"{words.sessions(trial.sessions)}, seed {trial.seed}: {verdict}"
            screen.log(f"{line} ({why})" if why else line)

        async with _service(asked, StackOptions, screen) as (setting, _):
            return await find(
                wanted,
                setting,
                asked.out,
                observe=tell,
                guess=guess,
                fresh=fresh,
                view=screen,
                until=_going(stop),
            )

    try:
        outputs.prepare((answer, asked.out / KEPT))
        found = showing(console, work, plain=asked.plain)
        outputs.write_json(found.document(), answer)
    except ModeError as error:
        return refused(console, str(error))
    except OSError as error:
        return refused(console, _UNWRITTEN.format(error))
    terminal.answer(Console(), tuple(found.lines()))
    _left(console, {"json": answer})
    return Exit.PASSED if found.found.confirmed else Exit.INVALID


def chaos(
    asked: Asked,
    where: Mapping[str, Path],
    deeds: Sequence[Deed],
    *,
    gateways: int,
    media_workers: int,
) -> int:
    """Runs a scenario while parts of the service are killed; returns the exit status.

    Args:
        asked: What to run, on what.
        where: Where each form of the report goes.
        deeds: What is done to it; none: the usual ones.
        gateways: Of the service that is started.
        media_workers: Of each of them.
    """

    def options(pool: PoolSpec) -> StackOptions:
        return StackOptions(pool, gateways=gateways, media_workers=media_workers, killable=True)

    async def work(stop: asyncio.Event, screen: terminal.Screen) -> LoadReport:
        async with _service(asked, options, screen) as (setting, stack):
            until = _going(stop)
            came = await wreak(
                asked.scenario, setting, deeds, stack=stack, view=screen, until=until
            )
            return _noted(came.report, stack)

    return _done(asked, where, work)


def compare(base: Sequence[str], current: Sequence[str], markdown: Path | None) -> int:
    """Prints what became of each metric; returns 1 where one became worse."""
    console = Console(stderr=True)
    try:
        before, after = ([read(path) for path in side] for side in (base, current))
        comparison: Comparison = compared(before, after)
        if markdown is not None:
            markdown.write_text(comparing.markdown(comparison), "utf-8")
    except (ReportError, OSError) as error:
        return refused(console, str(error))
    comparing.show(Console(), comparison)
    return Exit.FAILED if comparison.worse else Exit.PASSED


# -- what the modes share ------------------------------------------------------------------


def _done(
    asked: Asked,
    where: Mapping[str, Path],
    work: Callable[[asyncio.Event, terminal.Screen], Awaitable[LoadReport]],
) -> int:
    """Does something that has a report, leaves that, and returns the exit status."""
    console = Console(stderr=True)
    try:
        outputs.prepare(where.values())
        return _told(console, showing(console, work, plain=asked.plain), where)
    except ModeError as error:
        return refused(console, str(error))
    except OSError as error:
        return refused(console, _UNWRITTEN.format(error))


def _noted(report: LoadReport, stack: Stack | None) -> LoadReport:
    """Returns a report that says what became of a service that was started for it."""
    fallen = () if stack is None else stack.fallen()
    return report.model_copy(update={"notes": (*report.notes, *fallen)})


@asynccontextmanager
async def _service(
    asked: Asked, options: Callable[[PoolSpec], StackOptions], screen: terminal.Screen
) -> AsyncIterator[tuple[Setting, Stack | None]]:
    """Gives the service that was named, or one that is started for the time.

    Args:
        asked: Which; else the scenario's pool is started, with what its networks need.
        options: Says what is started for a pool.
        screen: Is told of it.

    Raises:
        ConfigurationError: A service cannot be started for this scenario.
        StackError: It did not start.
    """
    target, load = asked.target, asked.scenario.load
    if target.grpc:
        screen.say(f"Asking {target.grpc[0]} what it serves ...")
        yield Setting(target, processes=asked.processes), None
        return
    screen.say(_STARTING)
    turn = any(network.turn_only for network in load.networks) and not target.turn
    chosen = replace(options(asked.scenario.spec), video=load.video, turn=turn)
    async with own_stack(chosen, asked.out) as stack:
        at = replace(stack.target, turn=target.turn or stack.target.turn)
        yield Setting(at, stack.service, asked.processes, notes=stack.notes), stack


def _going(stop: asyncio.Event) -> asyncio.Event:
    """Returns the event that ends a run early.

    Raises:
        ModeError: It is set before there is a run.
    """
    if stop.is_set():
        raise ModeError("ended before anything was measured")
    return stop


def showing(
    console: Console,
    work: Callable[[asyncio.Event, terminal.Screen], Awaitable[Result]],
    *,
    plain: bool,
) -> Result:
    """Does something with a live view, and with Ctrl-C to end it early.

    Args:
        console: Where to.
        work: Does it; is to end soon after the event is set.
        plain: Without a live view.

    Raises:
        ModeError: It could not be done.
        ConfigurationError: It was asked for in a way that cannot be.
    """

    async def main(screen: terminal.Screen) -> Result:
        stop = asyncio.Event()
        doing = asyncio.ensure_future(work(stop, screen))

        def interrupt() -> None:
            if stop.is_set():
                doing.cancel()
            stop.set()
            screen.say(_ENDING)

        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, interrupt)
        return await doing

    with terminal.Screen(console, plain=plain) as screen:
        try:
            return asyncio.run(main(screen))
        except asyncio.CancelledError:
            raise ModeError("given up: nothing of the run was kept") from None
        except (GatewayError, GeneratorError, StackError, OSError) as error:
            raise ModeError(_plain(error)) from error


def _told(console: Console, report: LoadReport, where: Mapping[str, Path]) -> int:
    """Leaves and prints a report; returns the exit status.

    Raises:
        OSError: It cannot be written.
    """
    terminal.summary(Console(), report)
    outputs.write(report, where)
    _left(console, where)
    return status_of(report)


def _left(console: Console, where: Mapping[str, Path]) -> None:
    for form, path in where.items():
        console.print(f"{form:9}{path}", markup=False, highlight=False, soft_wrap=True)


def status_of(report: LoadReport) -> int:
    """Returns the exit status of a run; one that was ended early has not passed."""
    status = exit_status(report)
    if status is Exit.PASSED and words.cut_short(report):
        return Exit.INVALID
    return status


def read(path: str) -> LoadReport:
    """Returns a stored report.

    Raises:
        ReportError: It is none.
        OSError: There is no such file.
    """
    return parse(Path(path).read_bytes(), path)


def refused(console: Console, why: str) -> int:
    """Says why something could not be done; returns the exit status."""
    text = f"sana-gateway load: {why}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return Exit.INVALID


def _plain(error: Exception) -> str:
    match error:
        case GatewayError():
            return (
                f"the service cannot be used: {error}. Is it up, and is --target the host:port "
                "of its gRPC?"
            )
        case StackError():
            return f"{error}\nGive --target host:port to put the load on a service that runs."
        case _:
            return str(error) or type(error).__name__
