"""Options of a role's command, from the settings file and the environment.

`serve head` and `serve actor` are told what to do by options. The settings file has a table of
the same name for each (`[head]`, `[actor]`), and the environment a variable for every option
(`SANA_GATEWAY_HEAD__PARK_AFTER`). Both become the option's default, so that a command line goes
before the environment, and that before the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import typer
from typer.core import TyperOption

from scheduler.core.errors import ConfigurationError
from scheduler.process.config import CONFIG, NESTED, PREFIX, Setting, nearest, read_file

OF_THE_START: Final = frozenset({"config", "ready_file", "help"})
"""Options of a single start, which no file may hold."""


class HasOptions(Protocol):
    """A command, as far as it is looked at here."""

    @property
    def params(self) -> Sequence[object]:
        """Its options and arguments."""


def config_option(
    role: str = "",
    command: Callable[[], HasOptions] | None = None,
    left_out: Collection[str] = (),
) -> Any:  # noqa: ANN401 - as typer types its options
    """Returns the option `--config` of a command.

    Args:
        role: The table of the file that holds its options; empty: none does.
        command: Makes the role's own command, where the option is another's that shares some
            of its options.
        left_out: Shared options that are not the role's there.
    """
    return typer.Option(
        help="TOML file of settings; `sana-gateway config print --docs` writes one.",
        dir_okay=False,
        exists=True,
        is_eager=True,
        envvar=CONFIG,
        show_envvar=True,
        callback=_taking_defaults(role, command, left_out) if role else None,
    )


def options_of(command: HasOptions) -> dict[str, TyperOption]:
    """Returns the options of a command that a file may hold, by name."""
    return {
        str(option.name): option
        for option in command.params
        if isinstance(option, TyperOption) and not option.hidden and option.name not in OF_THE_START
    }


def described(role: str, options: Mapping[str, TyperOption]) -> Iterator[Setting]:
    """Describes options for people, as the file and the environment name them."""
    for name, option in options.items():
        default = option.default() if callable(option.default) else option.default
        yield Setting(f"{role}.{name}", variable(role, name), _shown(default), option.help or "")


def variable(role: str, name: str) -> str:
    """Returns the environment variable of an option."""
    return f"{PREFIX}{role}{NESTED}{name}".upper()


def told(
    role: str,
    options: Mapping[str, TyperOption],
    file: Path | None,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Returns what the environment, and below it the file, say of a role's options.

    Args:
        role: The role.
        options: Its options.
        file: The settings file.
        environment: Environment variables.

    Raises:
        ConfigurationError: The file cannot be read, an option is unknown, or a value cannot be
            one of it. The text never repeats a value.
    """
    table = read_file(file).get(role, {})
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{role}: a table was expected")
    for name in table:
        if name not in options:
            raise ConfigurationError(f"unknown setting {role}.{name}{nearest(name, options)}")
    variables = {variable(role, name): name for name in options}
    values = {name: _value(f"{role}.{name}", options[name], table[name]) for name in table}
    start = variable(role, "")
    for name in sorted(environment):
        if not name.upper().startswith(start):
            continue
        if (option := variables.get(name.upper())) is None:
            hint = nearest(name.upper(), variables)
            raise ConfigurationError(f"unknown environment variable {name}{hint}")
        values[option] = _from_text(name, options[option], environment[name])
    return values


def _taking_defaults(
    role: str, command: Callable[[], HasOptions] | None, left_out: Collection[str]
) -> Callable[[typer.Context, Path | None], Path | None]:
    def take(context: typer.Context, file: Path | None) -> Path | None:
        if not context.resilient_parsing:
            own = options_of(context.command)
            values = told(role, options_of(command()) if command else own, file, os.environ)
            taken = {name: values[name] for name in values.keys() & own.keys() - {*left_out}}
            context.default_map = {**(context.default_map or {}), **taken}
        return file

    return take


def _value(key: str, option: TyperOption, value: object) -> object:
    """Passes a value of the file on, where an option could have it."""
    if option.multiple:
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return value
        raise ConfigurationError(f"{key}: a list of texts was expected")
    if option.is_flag:
        if isinstance(value, bool):
            return value
        raise ConfigurationError(f"{key}: true or false was expected")
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise ConfigurationError(f"{key}: a text or a number was expected")


def _from_text(name: str, option: TyperOption, text: str) -> object:
    """Reads a value of the environment: JSON for lists, else the text of the option."""
    if not option.multiple:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    raise ConfigurationError(f"{name}: a JSON list of texts was expected")


def _shown(default: object) -> str:
    if default is None or default == ():
        return ""
    return json.dumps(default) if isinstance(default, (list, tuple)) else str(default)
