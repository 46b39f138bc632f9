"""`sana-gateway certs`: certificates for the internal services of one's own pool."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from scheduler.core.errors import ConfigurationError
from scheduler.process.certificates import make

MOST_DAYS = 3650

certs = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    context_settings={"allow_interspersed_args": True},
    subcommand_metavar="",
)


@certs.callback()
def run(
    folder: Annotated[Path, typer.Argument(help="Where; an empty or new folder.")],
    days: Annotated[int, typer.Option(min=1, max=MOST_DAYS, help="Days they are valid.")] = 365,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|ADDRESS",
            help="What else the certificate is made out to; repeatable. Where clients are to be "
            "shown it (`serve --tls-cert`): what they call the gateway.",
        ),
    ] = None,
) -> None:
    """Make certificates for the processes of a service on several hosts.

    Writes a private authority, a certificate of it and its key. Copy the folder to every host and
    name it with `--tls FOLDER` to `serve head`, `serve actor` and `serve gateway`: whoever has no
    certificate of this authority is not heard. Put a newer set in its place before it ends; no
    restart is needed. In Kubernetes let cert-manager do it: the files are named as its secrets
    are. docs/roles.md has more.
    """
    try:
        make(folder, days=days, now=dt.datetime.now(dt.UTC), hosts=host or ())
    except ConfigurationError as error:
        typer.echo(f"sana-gateway: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{folder}: ca.crt, tls.crt, tls.key, valid for {days} days")
