"""The subcommand `load`.

Nothing is imported at the top that the extra `load` brings: without it, the command says how
to install it, and all other commands work.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from scheduler.scenario import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sdk_adapters.harness import modes

_EXTRA = ("ddsketch", "jinja2")
"""Modules of the extra."""
_DEFAULT = "run"
_BETWEEN = "--"
OUT = Path("load-out")
"""Where reports go."""
MOST_PROCESSES = 256
"""Of a generator."""

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

# -- the options ---------------------------------------------------------------------------------

_FORMS = {"json": "the report as JSON", "html": "the page", "markdown": "the Markdown",
          "junit": "the JUnit XML"}  # fmt: skip


def _hidden(*names: str, **told: Any) -> Any:  # noqa: ANN401 - typer's own
    """Returns an option whose default says nothing to people."""
    return typer.Option(*names, show_default=False, **told)


def _elsewhere(form: str) -> Any:  # noqa: ANN401 - typer's own
    return _hidden(f"--{form}", help=f"Write {_FORMS[form]} here instead.", metavar="FILE")


@dataclass(frozen=True, slots=True)
class _Asked:
    """Whose users come, to which service, and how that is shown: options of all that measures."""

    scenario: Annotated[
        str | None,
        typer.Argument(help="A preset, or the path of a YAML or JSON file.", show_default=False),
    ] = None
    target: Annotated[
        list[str] | None,
        _hidden(
            help="host:port of a gateway's gRPC; once for each gateway. Without it a service of "
            "simulated models is started for the run.",
            metavar="HOST:PORT",
        ),
    ] = None
    http: Annotated[
        list[str] | None,
        _hidden(
            help="Its HTTP, in the same order: for browsers, and for what the service measures of "
            "itself (/metrics).",
            metavar="URL",
        ),
    ] = None
    token: Annotated[
        str,
        _hidden(
            envvar="SANA_LOAD_TOKEN", help="Bearer token, where one is needed.", metavar="TOKEN"
        ),
    ] = ""
    turn: Annotated[
        str,
        _hidden(
            envvar="SANA_LOAD_TURN",
            help="turn:user:password@host:port, for networks of the scenario that go through "
            "TURN. A service that is started for the run brings its own.",
            metavar="URL",
        ),
    ] = ""
    seed: Annotated[
        int | None,
        _hidden(min=0, help="Draw other users; default: the scenario's own.", metavar="N"),
    ] = None
    processes: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_PROCESSES,
            help="Processes of the generator; 0: as the scenario says.",
            metavar="N",
        ),
    ] = 0
    slo: Annotated[
        Path | None,
        _hidden(
            help="Thresholds instead of the scenario's: a YAML file such as "
            "`start_to_first_frame: {p95: 2000}`.",
            metavar="FILE",
        ),
    ] = None
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse a run that would leave out a part of its scenario: a network without "
            "its TURN server, a browser that is not installed.",
        ),
    ] = False
    out: Annotated[Path, typer.Option(help="Folder of the reports.", metavar="DIR")] = OUT
    plain: Annotated[
        bool, typer.Option("--plain", help="One line every five seconds instead of a live view.")
    ] = False

    def read(self, usual: str | None = None, *, scale: float = 1.0) -> modes.Asked:
        """Returns it as the modes take it.

        Args:
            usual: The scenario where none is named.
            scale: Times its sessions.

        Raises:
            ConfigurationError: Something of it cannot be.
        """
        from sdk_adapters.harness import modes

        scenario = modes.scenario_of(
            _named(self.scenario or usual),
            scale=scale,
            seed=self.seed,
            slo=self.slo,
            strict=self.strict,
        )
        target = modes.target_of(self.target or (), self.http or (), self.token, self.turn)
        return modes.Asked(scenario, target, self.processes, self.out, plain=self.plain)


@dataclass(frozen=True, slots=True)
class _One:
    """How large one run is, and where its reports go."""

    scale: Annotated[
        float, typer.Option(help="Times the sessions that the scenario has.", metavar="X")
    ] = 1.0
    json_file: Annotated[Path | None, _elsewhere("json")] = None
    html: Annotated[Path | None, _elsewhere("html")] = None
    markdown: Annotated[Path | None, _elsewhere("markdown")] = None
    junit: Annotated[Path | None, _elsewhere("junit")] = None

    def places(self, folder: Path) -> dict[str, Path]:
        """Returns where each form of the report goes."""
        from sdk_adapters.harness import outputs

        named = (self.json_file, self.html, self.markdown, self.junit)
        return outputs.places(folder, dict(zip(_FORMS, named, strict=True)))


def _spread(function: Callable[..., None]) -> Callable[..., None]:
    """Makes an option of every field of the dataclasses that a command takes."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    options: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in groups:
            options[name] = parameter.replace(
                kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]
            )
            continue
        types = get_type_hints(groups[name], include_extras=True)
        for each in fields(groups[name]):
            options[each.name] = inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=types[each.name],
            )

    @wraps(function)
    def command(**given: Any) -> None:  # noqa: ANN401 - typer's own
        made = {
            name: group(**{each.name: given.pop(each.name) for each in fields(group)})
            for name, group in groups.items()
        }
        function(**made, **given)

    command.__annotations__ = {name: each.annotation for name, each in options.items()}
    command.__signature__ = inspect.Signature([*options.values()])  # type: ignore[attr-defined]
    return command


# -- the commands --------------------------------------------------------------------------------


@load.command(epilog=_RUN_EPILOG)
@_spread
def run(
    asked: _Asked,
    one: _One,
    listing: Annotated[bool, typer.Option("--list", help="Tell the presets and exit.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the scenario and exit.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of scenarios and exit.")
    ] = False,
) -> None:
    """Run a scenario (the default: `load smoke` is `load run smoke`)."""
    if listing or show or schema:
        _tell(asked.scenario, listing=listing, schema=schema)
        return
    _need_extra()
    from sdk_adapters.harness import modes

    _end(modes.run(asked.read(scale=one.scale), one.places(asked.out)))


@load.command(epilog=_CAPACITY_EPILOG)
@_spread
def capacity(
    asked: _Asked,
    window: Annotated[
        str | None,
        _hidden(
            help="How long each run measures; default: as long as the scenario.", metavar="TIME"
        ),
    ] = None,
    warm_up: Annotated[
        str | None, _hidden(help="Before that; default: as the scenario.", metavar="TIME")
    ] = None,
    guess: Annotated[
        int | None,
        _hidden(
            min=1, help="Sessions to begin with; default: what the simulator says.", metavar="N"
        ),
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, help="No more than these are tried.", metavar="N")
    ] = 4096,
    repeats: Annotated[
        int, typer.Option(min=1, help="Runs of a number that decide, by majority.", metavar="N")
    ] = 3,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget trials that were kept.")] = False,
    json_file: Annotated[Path | None, _elsewhere("json")] = None,
) -> None:
    """Find the most sessions that meet the thresholds."""
    _need_extra()
    from sdk_adapters.harness import modes

    read = asked.read()
    wanted = modes.wanted_of(
        read.scenario, window=window, warm_up=warm_up, most=most, repeats=repeats
    )
    answer = json_file or asked.out / "capacity.json"
    _end(modes.capacity(read, wanted, answer, guess=guess, fresh=fresh))


@load.command(epilog=_CHAOS_EPILOG)
@_spread
def chaos(
    asked: _Asked,
    one: _One,
    deed: Annotated[
        list[str] | None,
        _hidden(
            help="What is done, once for each, in order; default: one of each usual kind. "
            "kill-actor, hang-actor, drain-actor, kill-scheduler, kill-gateway, kill-worker.",
            metavar="DEED",
        ),
    ] = None,
    gateways: Annotated[
        int, typer.Option(min=1, max=16, help="Of a service that is started.", metavar="N")
    ] = 1,
    media_workers: Annotated[
        int, typer.Option(min=0, max=64, help="Of each such gateway.", metavar="N")
    ] = 0,
) -> None:
    """Kill and drain parts of a service under load: is a session lost?"""
    _need_extra()
    from sdk_adapters.harness import modes

    _end(
        modes.chaos(
            asked.read("chaos", scale=one.scale),
            one.places(asked.out),
            modes.deeds_of(deed or ()),
            gateways=gateways,
            media_workers=media_workers,
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
