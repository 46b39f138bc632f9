"""`sana-gateway config`: what a service is told by its file and its environment."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.main
from pydantic import BaseModel

from gateway.settings import GatewaySettings
from scheduler.process import role_options
from scheduler.process.config import CONFIG, ROLES, describe, load_settings, read_file
from scheduler.process.role_options import HasOptions

SECRET: Final = frozenset({"auth_options", "storage_options", "ice_servers", "actor.token"})
"""Settings that may hold passwords: that they are set is shown, and not to what."""
_HIDDEN: Final = "set, and not shown: it may hold a secret"
_INTRODUCTION: Final = """\
# Settings of sana-gateway, for `--config FILE` or SANA_GATEWAY_CONFIG, the same file for all roles.
# The gateway reads what stands before the first role's table, `serve head` the table [head],
# `serve actor` the table [actor], and `serve` the gateway's and [head]. A command line goes before
# the environment, and that before this file. Unknown names are refused.
"""

config = typer.Typer(
    help="Show or check the settings of a service.", no_args_is_help=True, rich_markup_mode=None
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A setting with the value that it has."""

    key: str
    """Dotted: `limits.max_peers`, `head.actors`."""
    variable: str
    """Its environment variable."""
    help: str
    value: Any
    """None where it has none."""
    source: str
    """`default`, `file` or `environment`."""


@config.command("print")
def print_settings(
    file: Annotated[
        Path | None,
        typer.Option(
            "--config", envvar=CONFIG, exists=True, dir_okay=False, help="The settings file."
        ),
    ] = None,
    docs: Annotated[
        bool,
        typer.Option(
            "--docs",
            help="Say what each setting means. What has its default is commented out, so that "
            "the output is a file to begin with.",
        ),
    ] = False,
) -> None:
    """Print the settings as the roles would read them here, as a settings file.

    Every line says where its value is from. Refuses what a role would refuse.
    """
    shown = effective(file, os.environ)
    typer.echo((_INTRODUCTION if docs else "") + "\n".join(rendered(shown, docs=docs)))


@config.command("check")
def check(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="The settings file.", envvar=CONFIG)
    ],
) -> None:
    """Check a settings file, with the environment, for all roles. Status 2 says what is wrong."""
    told = sum(each.source != "default" for each in effective(file, os.environ))
    typer.echo(f"{file}: fine, {told} settings are not the defaults")


def effective(file: Path | None, environment: Mapping[str, str]) -> list[Shown]:
    """Returns all settings of all roles with their values, the gateway's first.

    Args:
        file: The settings file.
        environment: Environment variables; those of this process for the gateway's.

    Raises:
        ConfigurationError: A role would refuse them.
    """
    # What stands after a table's head is the table's.
    shown = sorted(_of_gateway(file), key=lambda each: "." in each.key)
    for role, command in _commands().items():
        shown += _of_role(role, command, file, environment)
    return shown


def rendered(settings: list[Shown], *, docs: bool) -> Iterator[str]:
    """Yields the lines of a settings file.

    Args:
        settings: What it holds.
        docs: Whether it explains them, and leaves defaults commented out.
    """
    table = ""
    for each in settings:
        above, _, name = each.key.rpartition(".")
        if above != table:
            yield from ("", f"[{above}]")
            table = above
        if docs:
            yield ""
            yield from (f"# {line}" for line in textwrap.wrap(each.help, 96))
            yield f"# Environment: {each.variable}"
        yield _line(name, each, docs=docs)


def _line(name: str, setting: Shown, *, docs: bool) -> str:
    if setting.source == "default":
        if setting.value is None:
            return f"# {name} ="
        line = f"{name} = {toml(setting.value)}"
        return f"# {line}" if docs else f"{line}  # default"
    if setting.key in SECRET:
        return f"# {name}: {_HIDDEN}; from the {setting.source}"
    return f"{name} = {toml(setting.value)}  # {setting.source}"


def _of_gateway(file: Path | None) -> Iterator[Shown]:
    settings = load_settings(GatewaySettings, file=file)
    said = read_file(file)
    for each in describe(GatewaySettings):
        path = each.key.split(".")
        value: Any = settings
        for part in path:
            value = getattr(value, part)
        if each.variable in _upper(os.environ):
            source = "environment"
        else:
            source = "file" if _is_said(said, path) else _elsewhere(each.variable)
        yield Shown(each.key, each.variable, each.help, _plain(value), source)


def _elsewhere(variable: str) -> str:
    """Tells whether a whole section came as one variable of the environment."""
    section = variable.partition("__")[0]
    return "environment" if section != variable and section in _upper(os.environ) else "default"


def _of_role(
    role: str, command: HasOptions, file: Path | None, environment: Mapping[str, str]
) -> Iterator[Shown]:
    options = role_options.options_of(command)
    told = role_options.told(role, options, file, environment)
    said = read_file(file).get(role, {})
    variables = _upper(environment)
    for name, option in options.items():
        variable = role_options.variable(role, name)
        default = option.default() if callable(option.default) else option.default
        value, source = _plain(default), "default"
        if name in told:
            source = "environment" if variable in variables else "file"
            value = _plain(told[name] if source == "environment" else said[name])
        elif isinstance(option.envvar, str) and option.envvar in environment:
            variable, source, value = option.envvar, "environment", environment[option.envvar]
        yield Shown(f"{role}.{name}", variable, option.help or "", value, source)


def _commands() -> dict[str, HasOptions]:
    from scheduler import commands

    made: dict[str, Callable[[], HasOptions]] = {
        "head": lambda: typer.main.get_command(commands.head),
        "actor": lambda: typer.main.get_command(commands.actor),
    }
    return {role: made[role]() for role in ROLES}


def _upper(environment: Mapping[str, str]) -> set[str]:
    return {name.upper() for name in environment}


def _is_said(said: Mapping[str, Any], path: list[str]) -> bool:
    here: Any = said
    for part in path:
        if not isinstance(here, Mapping) or part not in here:
            return False
        here = here[part]
    return True


def _plain(value: object) -> object:
    """Returns a value as TOML has it."""
    if isinstance(value, BaseModel):
        return {name: _plain(each) for name, each in value.model_dump().items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def toml(value: object) -> str:
    """Writes a value as TOML 1.0 has it, on one line."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{toml(key)} = {toml(each)}" for key, each in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(toml(each) for each in value)}]"
    # Strings, numbers and booleans of JSON are TOML, too, but for pairs of surrogates and DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
