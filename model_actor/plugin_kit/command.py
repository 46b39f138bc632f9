"""`sana-gateway plugin`: begin a model package, and hold one to what the service relies on."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from model_actor.plugin_kit import scaffold
from scheduler.core.errors import PluginError
from scheduler.option_values import with_weights
from scheduler.options import pairs
from scheduler.process import plugins
from scheduler.process.logging import configure_logging

if TYPE_CHECKING:
    from model_actor.conformance import Outcome, Rule
    from model_actor.plugin import Model

GROUP: Final = "sana_gateway.models"
FAILED: Final = 1
"""Exit status when a rule is broken."""
_STYLES: Final = {"passed": "green", "failed": "bold red", "skipped": "yellow"}

_EXAMPLES: Final = """Examples:

\b
  sana-gateway plugin new my-look
      a package with a small model that works, to be changed into yours
  sana-gateway plugin check my-look
  sana-gateway plugin check image-to-image --weights ./turbo --only memory --only time

`docs/plugins.md` explains the interface and every rule.
"""

plugin = typer.Typer(
    help="Write a model of your own: begin a package, check it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=_EXAMPLES,
)


@plugin.command(epilog=_EXAMPLES)
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What clients will call it: my-look.")
    ],
    into: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where its folder goes.", file_okay=False),
    ] = Path(),
) -> None:
    """Begin a model package: a small effect that works, its commands, tests, packaging."""
    names = scaffold.Names.of(name, {each.name for each in plugins.discover(GROUP)})
    written = scaffold.create(names, into)
    folder = into / name
    typer.echo(f"{folder}{os.sep}: {len(written)} files; begin with README.md\n\nNext:\n")
    for command in (
        f"pip install -e {_shell(folder)}",
        f"sana-gateway plugin check {name}",
        f"sana-gateway serve --model {name}",
    ):
        typer.echo(f"  {command}")


@plugin.command(epilog=_EXAMPLES)
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed model.")],
    model_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the model; repeatable."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Short for --model-option weights=FOLDER.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="Only this rule; repeatable. By default all."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Hold an installed model to every rule that the service relies on.

    Ends with 0 when it keeps to them, 1 when it breaks one, 2 when it cannot be examined. Memory
    and time are measured here: run it where the model is to be served, and nothing else beside it.
    """
    from model_actor.conformance import Subject, Verdict, chosen, examine

    rules = chosen(only or ())
    configure_logging("warning", service="plugin check")
    make = maker(name, pairs(with_weights(model_option, weights), "--model-option"))
    found: list[Outcome] = []
    with Console(stderr=True).status("loading the model") as status:
        model = loaded(make)
        for outcome in examine(Subject(model, make), (_named(name), *rules)):
            status.update(f"{outcome.rule.name}: {outcome.verdict.value}")
            found.append(outcome)
    if as_json:
        typer.echo(json.dumps(as_dict(name, found)))
    else:
        _print(name, found)
    if any(each.verdict is Verdict.FAILED for each in found):
        raise typer.Exit(FAILED)


def maker(name: str, options: Mapping[str, str]) -> Callable[[], Model]:
    """Returns what makes configured copies of a plugin's model.

    Raises:
        PluginError: It is not installed, or no model.
    """
    from model_actor.plugin import Model
    from model_actor.settings import ActorSettings

    kind = plugins.load(GROUP, name)
    methods = [each for each, value in vars(Model).items() if callable(value) and each[0] != "_"]
    if missing := [each for each in methods if not callable(getattr(kind, each, None))]:
        raise PluginError(f"{name} is no model: it has no {', '.join(sorted(missing))}")
    needed = {"actor_id": "check", "placement_address": "", "lease_secret": "", "listen": ""}
    spec = {**needed, "model": name, "model_options": dict(options)}
    return ActorSettings.from_spec(spec).configured_model


def loaded(make: Callable[[], Model]) -> Model:
    """Makes a model and loads it.

    Raises:
        PluginError: It cannot be configured or loaded.
    """
    model = make()
    try:
        model.load()
    except PluginError:
        raise
    except Exception as error:  # a model may raise anything
        raise PluginError(f"it cannot be loaded: {type(error).__name__}: {error}") from error
    return model


def as_dict(name: str, found: Iterable[Outcome]) -> dict[str, Any]:
    """Returns outcomes for programs."""
    info = next((each for each in plugins.discover(GROUP) if each.name == name), None)
    rules = [
        {
            "rule": each.rule.name,
            "verdict": each.verdict.value,
            "told": each.told,
            "seconds": round(each.seconds, 3),
        }
        for each in found
    ]
    return {
        "model": name,
        "distribution": info.distribution if info else "",
        "version": info.version if info else "",
        "passed": not any(each["verdict"] == "failed" for each in rules),
        "rules": rules,
    }


def _named(name: str) -> Rule:
    from model_actor.conformance import ConformanceError, Rule

    def check_name(model: Model) -> None:
        if model.info.name != name:
            raise ConformanceError(
                f"expected: its info says the name of its entry point, {name!r}, and not "
                f"{model.info.name!r}: clients ask for the one, operators for the other"
            )

    return Rule("name", "clients and operators call it the same", (check_name,))


def _print(name: str, found: Iterable[Outcome]) -> None:
    table = Table(title=name, box=None, pad_edge=False, title_justify="left")
    for head in ("rule", "", "what it says", "what was found"):
        table.add_column(head, overflow="fold")
    for each in found:
        style = _STYLES[each.verdict.value]
        table.add_row(
            each.rule.name,
            f"[{style}]{each.verdict.value}[/{style}]",
            each.rule.promise,
            each.told.replace("[", "\\["),
        )
    Console().print(table)


def _shell(folder: Path) -> str:
    """Returns a folder as a word for a shell, so that pip takes it for no name of a package."""
    text = str(folder)
    return shlex.quote(text if os.sep in text else f".{os.sep}{text}")
