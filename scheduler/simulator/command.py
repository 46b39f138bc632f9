"""The subcommand `simulate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scheduler.core.errors import ConfigurationError
from scheduler.scenario import durations

if TYPE_CHECKING:
    from scheduler.scenario.scenario import Scenario
    from scheduler.simulator.report import Report, Spread

_EXAMPLES = """Examples:

\b
  sana-gateway simulate h200
  sana-gateway simulate default --json day.json --plot day.svg
  sana-gateway simulate flash-crowd --seed 7
  sana-gateway simulate mine.yaml --exact
  sana-gateway simulate steady --capacity

A scenario names who comes (arrivals, session lengths, pauses), what there is to serve them
(GPUs, the model's chunk time, boot time, failures) and what must hold. `--list` tells the
presets, `--show` prints one to begin from, `--schema` the whole language
(docs/scenarios.md); `sana-gateway load` puts the same on a service. The exit status is 1
when a target of a scenario is missed. How to read the report: docs/simulator.md.
"""

simulate = typer.Typer(
    help="Try the scheduler on a day of users and GPUs that do not exist, in under a minute.",
    invoke_without_command=True,
    rich_markup_mode=None,
    epilog=_EXAMPLES,
    # A group takes options only before its arguments, and tells of commands below it.
    context_settings={"allow_interspersed_args": True},
    subcommand_metavar="",
)


@simulate.callback()
def run(
    scenario: Annotated[
        str | None,
        typer.Argument(help="A preset, or the path of a YAML or JSON file.", show_default=False),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write figures, verdicts and curves here, as JSON."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw sessions, GPUs, waits and late chunks here, as SVG.")
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Play every chunk of every GPU: slow, and hardly different."),
    ] = False,
    capacity: Annotated[
        bool,
        typer.Option(
            "--capacity",
            help="Predict the most sessions that the scenario's GPUs serve as its targets ask, "
            "instead of a run.",
        ),
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draw other users; default: the scenario's own.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Tell the presets and exit.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the scenario and exit.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of scenarios and exit.")
    ] = False,
) -> None:
    """Try the scheduler on a day of users and GPUs that do not exist."""
    from scheduler.scenario import library
    from scheduler.scenario.scenario import schema as schema_text

    if schema:
        typer.echo(schema_text(), nl=False)
        return
    if listing:
        _list()
        return
    if scenario is None:
        raise ConfigurationError(f"name a preset ({', '.join(library.names())}) or a file")
    if plot is not None and plot.suffix != ".svg":
        raise ConfigurationError("plots are drawn as SVG: give a path that ends in .svg")
    if show:
        typer.echo(library.text(scenario), nl=False)
        return
    scenarios = library.load(scenario)
    if seed is not None:
        scenarios = tuple(each.model_copy(update={"seed": seed}) for each in scenarios)
    if capacity:
        _write_json(json_file, {"capacities": [_predict(each) for each in scenarios]})
        return
    reports = [_simulate(each, exact=exact) for each in scenarios]
    _write(reports, json_file, plot)
    if not all(report.met for report in reports):
        raise typer.Exit(1)


def _simulate(scenario: Scenario, *, exact: bool) -> Report:
    """Runs one, with a bar, and prints what came of it."""
    from scheduler.simulator.baselines import Rivals
    from scheduler.simulator.report import report
    from scheduler.simulator.world import World

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.1f} of {task.total:g} h"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(scenario.name, total=scenario.duration / 3600.0)
        world = World(
            scenario, exact=exact, progress=lambda now: bar.update(task, completed=now / 3600.0)
        )
        done = world.run()
        bar.update(task, description=f"{scenario.name}, others")
        result = report(scenario, done, Rivals(scenario).run(), exact=exact)
    _print(result)
    return result


def _write(reports: Sequence[Report], json_file: Path | None, plot: Path | None) -> None:
    from scheduler.simulator.chart import svg

    _write_json(json_file, {"runs": [report.document() for report in reports]})
    if plot is not None:
        plot.write_text(svg(reports), "utf-8")


def _write_json(path: Path | None, document: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _predict(scenario: Scenario) -> dict[str, Any]:
    """Searches for the capacity of one, prints what came of it, and returns it for JSON."""
    from scheduler.simulator.capacity import Trial, capacity

    table = Table("sessions", "seed", "in time", "wait p95", "left out", "", box=None)
    with Console(stderr=True).status(f"{scenario.name}: how many?") as status:

        def tell(trial: Trial) -> None:
            status.update(f"{scenario.name}: {trial.sessions:,} sessions tried")
            table.add_row(
                f"{trial.sessions:,}",
                f"{trial.seed}",
                f"{trial.in_time:.2%}",
                f"{trial.wait_p95_s:.2f} s",
                f"{trial.left_out:.1%}",
                "[green]holds[/green]" if trial.holds else "[red]does not[/red]",
            )

        found = capacity(scenario, tell)
    console = Console()
    console.print(f"\n[bold]{scenario.name}[/bold]  {scenario.summary}")
    console.print(table)
    console.print(
        f"[bold]{found.sessions:,} sessions[/bold] on {found.gpus:,} GPUs, "
        f"{found.sessions / found.gpus:.2f} each"
    )
    return found.document()


def _list() -> None:
    from scheduler.scenario import library

    table = Table("preset", "what it is", box=None, header_style="bold")
    for name in library.names():
        summary = (
            f"{', '.join(library.DEFAULT)}, one after the other."
            if name == "default"
            else library.load(name)[0].summary
        )
        table.add_row(name, summary)
    Console().print(table)


def _print(report: Report) -> None:
    console = Console()
    scenario, spec = report.scenario, report.scenario.spec
    console.print(f"\n[bold]{scenario.name}[/bold]  {scenario.summary}")
    console.print(
        f"{durations.text(scenario.duration)}, seed {scenario.seed}; "
        f"chunks of {spec.model.chunk_ms:g} ms per {spec.model.period_ms:g} ms, "
        f"{spec.compute_slots} session(s) a GPU computing, {spec.resident_slots} resident; "
        f"{report.arrivals:,} arrivals, {report.idle:.0%} of their time idle; "
        f"{'every chunk played' if report.exact else 'chunks extrapolated'}",
        style="dim",
    )
    console.print(_targets(report))
    console.print(_figures(report))
    console.print(_rivals(report))


def _targets(report: Report) -> Table:
    table = Table("target", "measured", "asked", "", box=None, header_style="bold")
    for check in report.checks:
        sign = ">=" if check.at_least else "<="
        verdict = "[green]met[/green]" if check.met else "[red]missed[/red]"
        table.add_row(check.name, f"{check.value:.4g}", f"{sign} {check.limit:g}", verdict)
    return table


def _figures(report: Report) -> Table:
    table = Table("figure", "value", box=None, header_style="bold")
    rows = (
        ("chunks", f"{report.chunks:,.0f}, of them {report.skipped:,} never made"),
        ("starts and resumes", f"{report.wait.count:,}"),
        ("... their wait", _seconds(report.wait)),
        ("... to the first chunk", _seconds(report.first_chunk)),
        ("starts told to come back", f"{report.refused_starts:,}"),
        ("gap after a GPU died", _seconds(report.gap)),
        ("GPU-hours", f"{report.gpu_hours:,.0f}; bound {report.bound_hours:,.0f}"),
        ("GPUs booted, died", f"{report.boots:,}, {report.deaths:,}"),
        (
            "moves, parks, restores",
            f"{report.moves:,}, {report.parks:,}, {report.restores:,}",
        ),
        ("sessions lost", f"{report.lost:,}"),
        ("events, processor time", f"{report.events:,} in {report.wall_s:.1f} s"),
    )
    for name, value in rows:
        table.add_row(name, value)
    return table


def _seconds(spread: Spread) -> str:
    if not spread.count:
        return "none"
    return (
        f"p50 {spread.p50:.2f}, p95 {spread.p95:.2f}, p99 {spread.p99:.2f}, "
        f"longest {spread.longest:.1f} s"
    )


def _rivals(report: Report) -> Table:
    table = Table("placed by", "GPU-hours", "in time", "turned away", box=None, header_style="bold")
    ours = ("this scheduler", report.gpu_hours, report.in_time, report.rejected)
    others = ((b.name, b.gpu_hours, b.in_time, b.rejected) for b in report.baselines)
    for name, hours, in_time, rejected in (ours, *others):
        told = "-" if in_time is None else f"{in_time:.2%}"
        table.add_row(name, f"{hours:,.0f}", told, f"{rejected:.2%}")
    return table
