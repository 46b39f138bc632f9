"""`sana-gateway doctor`: whether this machine can serve, and what to do where it cannot."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.main
from rich.console import Console
from rich.table import Table

from gateway.settings import GatewaySettings
from scheduler.core.errors import ConfigurationError
from scheduler.process import plugins, role_options
from scheduler.process.config import CONFIG, load_settings
from scheduler.process.diagnosis import GROUP, Finding, Named, Patient, Verdict, examine

ROLES: Final = {
    "serve": frozenset({"gateway", "head", "actor"}),
    "gateway": frozenset({"gateway"}),
    "head": frozenset({"head"}),
    "actor": frozenset({"actor"}),
}
"""What runs here, by what is started."""
FAULTY: Final = 1
"""Exit status when something keeps it from serving."""
_STYLES: Final = {Verdict.FINE: "green", Verdict.NOTE: "yellow", Verdict.FAULT: "bold red"}

doctor = typer.Typer(
    help="Check this machine: GPU, codecs, ports, STUN and TURN, clock, Ray, storage, "
    "certificates.",
    invoke_without_command=True,
    rich_markup_mode=None,
    epilog="Ends with 0 when nothing keeps the service from serving, else with 1.",
)


@doctor.callback()
def check_up(
    role: Annotated[
        str,
        typer.Option(
            metavar="serve|gateway|head|actor", help="What is to run here; `serve` is all of it."
        ),
    ] = "serve",
    config: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            envvar=CONFIG,
            help="The settings file that it will be started with. The environment counts, too.",
        ),
    ] = None,
    storage_root: Annotated[
        Path | None, typer.Option(help="As it will be given to `serve gateway`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Check this machine, as a role with these settings would use it. Starts nothing."""
    if role not in ROLES:
        raise ConfigurationError(f"--role is one of {', '.join(ROLES)}")
    patient = admitted(ROLES[role], config, storage_root, os.environ)
    found = asyncio.run(examine(checks(), patient))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(each) for each in found]))
    else:
        _print(found)
    if any(each.verdict is Verdict.FAULT for each in found):
        raise typer.Exit(FAULTY)


def admitted(
    roles: frozenset[str],
    config: Path | None,
    storage_root: Path | None,
    environment: Mapping[str, str],
) -> Patient:
    """Returns this machine as its roles would be started.

    Args:
        roles: What is to run here.
        config: The settings file.
        storage_root: Folder for uploads, where an option of the gateway would say it.
        environment: Environment variables; those of this process for the gateway's.

    Raises:
        ConfigurationError: A role would refuse its settings.
    """
    from scheduler import commands

    told: dict[str, dict[str, Any]] = {}
    for role, command in (("head", commands.head), ("actor", commands.actor)):
        options = role_options.options_of(typer.main.get_command(command))
        told[role] = role_options.told(role, options, config, environment)
    overrides = None if storage_root is None else {"storage_options": {"root": str(storage_root)}}
    settings = load_settings(GatewaySettings, file=config, overrides=overrides)
    return Patient(roles, settings, told, environment)


def checks() -> list[Named]:
    """Returns the checks of all packages that can be loaded here: those of the model actors need
    what only they need.
    """
    loaded: list[Named] = []
    for info in plugins.discover(GROUP):
        loaded += plugins.load(GROUP, info.name)
    return loaded


def _print(found: Iterable[Finding]) -> None:
    table = Table(box=None, pad_edge=False)
    for head in ("", "about", "found", "what to do"):
        table.add_column(head, overflow="fold")
    for each in found:
        style = _STYLES[each.verdict]
        table.add_row(f"[{style}]{each.verdict}[/]", each.about, each.found, each.advice)
    Console().print(table)
    faults = sum(each.verdict is Verdict.FAULT for each in found)
    typer.echo(f"\n{faults} faults" if faults else "\nnothing keeps it from serving")
