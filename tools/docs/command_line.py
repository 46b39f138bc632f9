"""The reference of the command line, from its typer applications."""

from __future__ import annotations

import enum
import inspect
import re
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import typer.main

from gateway.cli import build
from tools.docs.markdown import GENERATED, prose, table

PAGE: Final = "docs/reference/command-line.md"
_KINDS: Final = {int: "NUMBER", float: "NUMBER", Path: "PATH"}
Command = Any
"""A command as typer makes it: its classes are not public."""


@cache
def root() -> Command:
    """Returns the root of the command line."""
    return typer.main.get_command(build())


def commands() -> Iterator[tuple[tuple[str, ...], Command]]:
    """Yields all commands with their words, each before its subcommands."""
    waiting: list[tuple[tuple[str, ...], Command]] = [(("sana-gateway",), root())]
    while waiting:
        words, command = waiting.pop(0)
        yield words, command
        below = getattr(command, "commands", {})
        waiting[:0] = [((*words, name), below[name]) for name in sorted(below)]


def options(command: Command) -> list[Any]:
    """Returns the options of a command, as its help shows them."""
    return [each for each in command.params if each.param_type_name == "option" and not each.hidden]


def arguments(command: Command) -> list[Any]:
    """Returns the arguments of a command."""
    return [each for each in command.params if each.param_type_name == "argument"]


def pages() -> dict[str, str]:
    """Returns the page by its path."""
    lines = ["# The command line", "", GENERATED, "", "Every command has `--help`.", ""]
    shown = [(words, command) for words, command in commands() if len(words) > 1]
    rows = (
        (f"[`{' '.join(words)}`](#{'-'.join(words)})", _summary(command))
        for words, command in shown
    )
    lines += table(("Command", "What it does"), rows)
    for words, command in shown:
        lines += _section(words, command)
    return {PAGE: "\n".join(lines) + "\n"}


def _section(words: tuple[str, ...], command: Command) -> Iterator[str]:
    yield from ("", f"## {' '.join(words)}", "")
    given = " ".join(_argument(each) for each in arguments(command))
    below = ""
    if getattr(command, "commands", {}) and not arguments(command):
        below = "[COMMAND]" if command.invoke_without_command else "COMMAND"
    parts = (" ".join(words), "[OPTIONS]" if options(command) else "", given, below)
    yield from ("```text", " ".join(filter(None, parts)), "```", "", _help(command))
    rows = [(_names(each), _default(each), _told(each)) for each in options(command)]
    if rows:
        yield from ("", *table(("Option", "Default", "Meaning"), rows))
    if command.epilog and (examples := inspect.cleandoc(command.epilog)):
        yield from _epilog(examples)


def _summary(command: Command) -> str:
    text = " ".join(str(command.help or "").split("\n\n")[0].split())
    return _linked(re.split(r"(?<=\.) ", text, maxsplit=1)[0])


def _help(command: Command) -> str:
    return "\n\n".join(
        _linked(part) for part in inspect.cleandoc(str(command.help or "")).split("\n\n")
    )


def _epilog(text: str) -> Iterator[str]:
    """Yields what stands below the help; what follows a backspace is shown as it is."""
    for part in text.split("\n\n"):
        stripped = part.strip("\n")
        if stripped.startswith("\b"):
            yield from ("", "```text", inspect.cleandoc(stripped.removeprefix("\b\n")), "```")
        else:
            yield from ("", _linked(stripped))


def _argument(argument: Any) -> str:  # noqa: ANN401 - typer's own class
    name = argument.metavar or str(argument.name).upper()
    more = "..." if argument.nargs == -1 else ""
    return f"{name}{more}" if argument.required else f"[{name}{more}]"


def _names(option: Any) -> str:  # noqa: ANN401 - typer's own class
    value = "" if option.is_flag else f" {option.metavar or _kind(option)}"
    names = ", ".join(f"`{each}{value}`" for each in option.opts)
    off = ", ".join(f"`{each}`" for each in option.secondary_opts)
    return f"{names}, {off}" if off else names


def _kind(option: Any) -> str:  # noqa: ANN401 - typer's own class
    kind = option.type_descriptor.annotation
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(map(str, typing.get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "|".join(str(each.value) for each in kind)
    return _KINDS.get(kind, "TEXT")


def _default(option: Any) -> str:  # noqa: ANN401 - typer's own class
    value = option.default
    if option.required:
        return "required"
    if isinstance(value, bool):
        return ("on" if value else "off") if option.secondary_opts else ""
    if value is None or callable(value) or value in ([], (), ""):
        return ""
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    return f"`{getattr(value, 'value', value)}`"


def _told(option: Any) -> str:  # noqa: ANN401 - typer's own class
    text = _linked(str(option.help or ""))
    return f"{text} Repeatable." if option.multiple and "epeatable" not in text else text


def _linked(text: str) -> str:
    """Returns a paragraph of help, with links to the pages that it names."""
    told = prose(" ".join(text.split()))
    return re.sub(r"\bdocs/([\w-]+)\.md\b", r"[\1](../\1.md)", told)
