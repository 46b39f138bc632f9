"""The root of the command line. Each package brings its own subcommands.

A plugin of the group `sana_gateway.commands` is a typer application; its name says where
it goes: `plugins` is `sana-gateway plugins`, `serve.head` is `sana-gateway serve head`.
"""

from __future__ import annotations

import sys
from importlib import metadata

import typer

from scheduler.core.errors import SanaGatewayError
from scheduler.process import plugins

GROUP = "sana_gateway.commands"


def build() -> typer.Typer:
    """Returns the whole command line."""
    root = typer.Typer(
        name="sana-gateway",
        help="Many people edit live video by prompt, at once, on a shared pool of GPUs.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode=None,
    )

    @root.callback(invoke_without_command=True)
    def version(
        show: bool = typer.Option(False, "--version", help="Print the version and exit."),  # noqa: FBT003
    ) -> None:
        if show:
            typer.echo(metadata.version("sana-gateway"))
            raise typer.Exit

    groups: dict[str, typer.Typer] = {}
    for info in sorted(plugins.discover(GROUP), key=lambda info: info.name):
        parent, _, name = info.name.rpartition(".")
        application: typer.Typer = plugins.load(GROUP, info.name)
        groups[info.name] = application
        (groups[parent] if parent else root).add_typer(application, name=name)
    return root


def main() -> None:
    """Runs the command line; our own errors end it with their text and status 2."""
    try:
        build()()
    except SanaGatewayError as error:
        typer.echo(f"sana-gateway: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
