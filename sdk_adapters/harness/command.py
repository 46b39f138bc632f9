"""The subcommand `load`.

Nothing is imported at the top that the extra `load` brings: without it, the command says how
to install it, and all other commands work.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from scheduler.scenario import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXTRA = ("ddsketch", "jinja2")
"""Modules of the extra."""
_DEFAULT = "run"
_BETWEEN = "--"
OUT = Path("load-out")
"""Where reports go."""

_GROUP_EPILOG = """Examples:

\b
  sana-gateway load smoke
      start a service of simulated models here, put eight sessions on it, end it
  sana-gateway load steady --target gw.example:50051 --http http://gw.example:8080
      the same questions to a service that runs
  sana-gateway load steady --scale 5 --slo slo.yaml --junit junit.xml
      five times the sessions, thresholds of your own, a result for CI
  sana-gateway load capacity steady --target gw.example:50051
      the most sessions that meet the thresholds
  sana-gateway load compare before.json -- after.json
      did it become better or worse?
  sana-gateway load chaos
      kill parts of a service and see whether a session is lost

`sana-gateway load run --help` tells the options of a run; `--list` the scenarios that are
shipped, `--show` prints one to begin from (docs/scenarios.md). A run leaves load-out/report.html,
.json, .md and junit.xml. Exit status: 0 all thresholds met, 1 one missed, 2 the run is invalid,
was ended early, or could not be made. What every metric means: docs/load.md.
"""

_RUN_EPILOG = """Examples:

\b
  sana-gateway load smoke
  sana-gateway load steady --target gw.example:50051 --http http://gw.example:8080
  sana-gateway load mine.yaml --target a:50051 --target b:50051 --token "$TOKEN"
  sana-gateway load smoke --show > mine.yaml

Ctrl-C ends a run early: what was measured until then is kept, the report says so, and the exit
status is 2 (or 1, where a threshold was missed). How to read the report: docs/load.md.
"""

_CAPACITY_EPILOG = """Examples:

\b
  sana-gateway load capacity steady --window 1m
      how many sessions does a service of the scenario's GPUs carry on this machine?
  sana-gateway load capacity steady --target gw.example:50051 --slo slo.yaml

At each number exactly so many are connected and do what the scenario says. A number holds where
the thresholds are met in 2 of 3 runs. A search that was ended goes on where it was (--fresh
forgets). The exit status is 0 when the answer is confirmed, else 2.
"""

_CHAOS_EPILOG = """Examples:

\b
  sana-gateway load chaos
  sana-gateway load chaos --deed kill-gateway --deed kill-gateway --gateways 2
  sana-gateway load chaos mine.yaml --target gw.example:50051 --token "$OPERATOR" \\
      --deed drain-actor

A service that is started for it can be killed in parts; one that runs can only be drained. The
exit status is 1 when a session was lost or another threshold missed.
"""

_COMPARE_EPILOG = """Examples:

\b
  sana-gateway load compare before.json after.json
  sana-gateway load compare main-1.json main-2.json main-3.json -- mine-1.json mine-2.json

With several reports on a side the spread between runs is known, and differences below it do not
count. The exit status is 1 when a metric became worse, 2 when a report cannot be read.
"""


class _Group(TyperGroup):
    """`load smoke` is `load run smoke`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - theirs
        known = {*self.commands, "--help"}
        words = args if not args or args[0] in known else [_DEFAULT, *args]
        return super().parse_args(ctx, words)


class _TwoSides(TyperCommand):
    """Keeps the `--` between two lists, which else would only end the options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - theirs
        if _BETWEEN in args:
            args.insert(args.index(_BETWEEN), _BETWEEN)
        return super().parse_args(ctx, args)


load = typer.Typer(
    cls=_Group,
    help="Put real sessions on a service, and measure what their users get.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=_GROUP_EPILOG,
)

Named = Annotated[
    str | None,
    typer.Argument(help="A preset, or the path of a YAML or JSON file.", show_default=False),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        help="host:port of a gateway's gRPC; once for each gateway. Without it a service of "
        "simulated models is started for the run.",
        metavar="HOST:PORT",
        show_default=False,
    ),
]
Http = Annotated[
    list[str] | None,
    typer.Option(
        "--http",
        help="Its HTTP, in the same order: for browsers, and for what the service measures of "
        "itself (/metrics).",
        metavar="URL",
        show_default=False,
    ),
]
Token = Annotated[
    str,
    typer.Option(
        envvar="SANA_LOAD_TOKEN",
        help="Bearer token, where one is needed.",
        metavar="TOKEN",
        show_default=False,
    ),
]
Turn = Annotated[
    str,
    typer.Option(
        envvar="SANA_LOAD_TURN",
        help="turn:user:password@host:port, for networks of the scenario that go through TURN.",
        metavar="URL",
        show_default=False,
    ),
]
Scale = Annotated[
    float, typer.Option(help="Times the sessions that the scenario has.", metavar="X")
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Draw other users; default: the scenario's own.",
        metavar="N",
        show_default=False,
    ),
]
Processes = Annotated[
    int,
    typer.Option(min=0, help="Processes of the generator; 0: as the scenario says.", metavar="N"),
]
SloFile = Annotated[
    Path | None,
    typer.Option(
        "--slo",
        help="Thresholds instead of the scenario's: a YAML file such as "
        "`start_to_first_frame: {p95: 2000}`.",
        metavar="FILE",
        show_default=False,
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        help="How long each run measures; default: as long as the scenario.",
        metavar="TIME",
        show_default=False,
    ),
]
WarmUp = Annotated[
    str | None,
    typer.Option(help="Before that; default: as the scenario.", metavar="TIME", show_default=False),
]
Out = Annotated[Path, typer.Option(help="Folder of the reports.", metavar="DIR")]
Plain = Annotated[
    bool, typer.Option("--plain", help="One line every five seconds instead of a live view.")
]

JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json", help="Write the report as JSON here instead.", metavar="FILE", show_default=False
    ),
]
HtmlFile = Annotated[
    Path | None,
    typer.Option("--html", help="Write the page here instead.", metavar="FILE", show_default=False),
]
MarkdownFile = Annotated[
    Path | None,
    typer.Option(
        "--markdown", help="Write the Markdown here instead.", metavar="FILE", show_default=False
    ),
]
JunitFile = Annotated[
    Path | None,
    typer.Option(
        "--junit", help="Write the JUnit XML here instead.", metavar="FILE", show_default=False
    ),
]


@load.command(epilog=_RUN_EPILOG)
def run(
    scenario: Named = None,
    target: Targets = None,
    http: Http = None,
    token: Token = "",
    turn: Turn = "",
    scale: Scale = 1.0,
    seed: Seed = None,
    processes: Processes = 0,
    slo: SloFile = None,
    out: Out = OUT,
    json_file: JsonFile = None,
    html: HtmlFile = None,
    markdown: MarkdownFile = None,
    junit: JunitFile = None,
    plain: Plain = False,
    listing: Annotated[bool, typer.Option("--list", help="Tell the presets and exit.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the scenario and exit.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of scenarios and exit.")
    ] = False,
) -> None:
    """Run a scenario (the default: `load smoke` is `load run smoke`)."""
    if listing or show or schema:
        _tell(scenario, listing=listing, schema=schema)
        return
    _need_extra()
    from sdk_adapters.harness import modes, outputs

    forms = {"json": json_file, "html": html, "markdown": markdown, "junit": junit}
    _end(
        modes.run(
            modes.scenario_of(_named(scenario), scale=scale, seed=seed, slo=slo),
            modes.target_of(target or (), http or (), token, turn),
            processes=processes,
            plain=plain,
            out=out,
            where=outputs.places(out, forms),
        )
    )


@load.command(epilog=_CAPACITY_EPILOG)
def capacity(
    scenario: Named = None,
    target: Targets = None,
    http: Http = None,
    token: Token = "",
    turn: Turn = "",
    seed: Seed = None,
    processes: Processes = 0,
    slo: SloFile = None,
    window: Window = None,
    warm_up: WarmUp = None,
    guess: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Sessions to begin with; default: what the simulator says.",
            metavar="N",
            show_default=False,
        ),
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, help="No more than these are tried.", metavar="N")
    ] = 4096,
    repeats: Annotated[
        int, typer.Option(min=1, help="Runs of a number that decide, by majority.", metavar="N")
    ] = 3,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget trials that were kept.")] = False,
    out: Out = OUT,
    json_file: JsonFile = None,
    plain: Plain = False,
) -> None:
    """Find the most sessions that meet the thresholds."""
    _need_extra()
    from sdk_adapters.harness import modes

    _end(
        modes.capacity(
            modes.wanted_of(
                modes.scenario_of(_named(scenario), scale=1.0, seed=seed, slo=slo),
                window=window,
                warm_up=warm_up,
                most=most,
                repeats=repeats,
            ),
            modes.target_of(target or (), http or (), token, turn),
            processes=processes,
            plain=plain,
            out=out,
            json_file=json_file or out / "capacity.json",
            guess=guess,
            fresh=fresh,
        )
    )


@load.command(epilog=_CHAOS_EPILOG)
def chaos(
    scenario: Named = "chaos",
    target: Targets = None,
    http: Http = None,
    token: Token = "",
    turn: Turn = "",
    deed: Annotated[
        list[str] | None,
        typer.Option(
            help="What is done, once for each, in order; default: one of each usual kind. "
            "kill-actor, hang-actor, drain-actor, kill-scheduler, kill-gateway, kill-worker.",
            metavar="DEED",
            show_default=False,
        ),
    ] = None,
    gateways: Annotated[
        int, typer.Option(min=1, help="Of a service that is started.", metavar="N")
    ] = 1,
    media_workers: Annotated[
        int, typer.Option(min=0, help="Of each such gateway.", metavar="N")
    ] = 0,
    scale: Scale = 1.0,
    seed: Seed = None,
    processes: Processes = 0,
    slo: SloFile = None,
    out: Out = OUT,
    json_file: JsonFile = None,
    html: HtmlFile = None,
    markdown: MarkdownFile = None,
    junit: JunitFile = None,
    plain: Plain = False,
) -> None:
    """Kill and drain parts of a service under load: is a session lost?"""
    _need_extra()
    from sdk_adapters.harness import modes, outputs

    forms = {"json": json_file, "html": html, "markdown": markdown, "junit": junit}
    _end(
        modes.chaos(
            modes.scenario_of(_named(scenario), scale=scale, seed=seed, slo=slo),
            modes.target_of(target or (), http or (), token, turn),
            modes.deeds_of(deed or ()),
            gateways=gateways,
            media_workers=media_workers,
            processes=processes,
            plain=plain,
            out=out,
            where=outputs.places(out, forms),
        )
    )


@load.command(cls=_TwoSides, epilog=_COMPARE_EPILOG)
def compare(
    reports: Annotated[
        list[str],
        typer.Argument(
            help="Reports as JSON: one of before and one of now, or several with `--` between.",
            metavar="BASE... -- CURRENT...",
            show_default=False,
        ),
    ],
    markdown: Annotated[
        Path | None, typer.Option(help="Write the comparison here, as Markdown.")
    ] = None,
) -> None:
    """Tell what became better or worse since stored reports."""
    _need_extra()
    from sdk_adapters.harness import modes

    base, current = _sides(reports)
    _end(modes.compare(base, current, markdown))


def _sides(reports: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the reports of before and of now.

    Raises:
        ConfigurationError: One cannot tell which is which.
    """
    if _BETWEEN in reports:
        at = list(reports).index(_BETWEEN)
        base, current = reports[:at], reports[at + 1 :]
    else:
        base, current = reports[:1], reports[1:]
    if not base or not current or (_BETWEEN not in reports and len(reports) > 2):
        raise ConfigurationError(
            "name a report of before and one of now, or several with -- between: "
            "sana-gateway load compare before-1.json before-2.json -- now-1.json now-2.json"
        )
    return base, current


def _named(scenario: str | None) -> str:
    """Returns the scenario's name.

    Raises:
        ConfigurationError: There is none.
    """
    if scenario is None:
        from scheduler.scenario import library

        raise ConfigurationError(f"name a preset ({', '.join(library.names())}) or a file")
    return scenario


def _tell(scenario: str | None, *, listing: bool, schema: bool) -> None:
    """Prints the presets, the language, or a scenario."""
    from rich.console import Console
    from rich.table import Table

    from scheduler.scenario import library
    from scheduler.scenario.scenario import schema as schema_text

    if schema:
        typer.echo(schema_text(), nl=False)
    elif listing:
        table = Table("preset", "what it is", box=None, header_style="bold")
        for name in (each for each in library.names() if each != "default"):
            table.add_row(name, library.load(name)[0].summary)
        Console().print(table)
    else:
        typer.echo(library.text(_named(scenario)), nl=False)


def _need_extra() -> None:
    """Ends the command where the extra is not installed, and says how to."""
    if any(importlib.util.find_spec(name) is None for name in _EXTRA):
        raise ConfigurationError("load tests need an extra: pip install 'sana-gateway[load]'")


def _end(status: int) -> None:
    raise typer.Exit(status)
