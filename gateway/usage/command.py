"""`sana-gateway usage`: what sessions and tenants have used, as a table, CSV or JSON."""

from __future__ import annotations

import csv
import datetime as dt
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import typer
from google.protobuf import json_format
from rich.table import Table

from gateway.calling import HERE, Address, AsJson, Ca, Tls, asking, metadata
from gateway.tables import show
from sana_gateway.v1 import usage_pb2, usage_pb2_grpc
from scheduler import option_values as values
from scheduler.core.errors import ConfigurationError

ANSWER_S: Final = 30.0
_PAGE: Final = 2000
_BY: Final = {
    "session": usage_pb2.USAGE_BY_SESSION,
    "tenant": usage_pb2.USAGE_BY_TENANT,
}
COLUMNS: Final[Mapping[str, Callable[[usage_pb2.UsageRow], object]]] = {
    "tenant": lambda row: row.tenant,
    "session": lambda row: row.session_id,
    "model": lambda row: row.model,
    "chunks": lambda row: row.chunks,
    "frames": lambda row: row.frames,
    "streamed_minutes": lambda row: f"{row.streamed_us / 60e6:.6f}",
    "gpu_ms": lambda row: f"{row.compute_us / 1e3:.3f}",
    "spent_gpu_ms": lambda row: f"{row.spent_us / 1e3:.3f}",
    "bytes_out": lambda row: row.bytes_out,
    "bytes_in": lambda row: row.bytes_in,
    "uploaded_bytes": lambda row: row.uploaded_bytes,
    "parked_hours": lambda row: f"{row.parked_us / 3600e6:.6f}",
}
"""Columns of the CSV, and what stands in each."""
_SHOWN: Final = (
    "tenant",
    "session",
    "model",
    "chunks",
    "minutes",
    "GPU s",
    "spent GPU s",
    "MB out",
)

usage = typer.Typer(
    help="What sessions and tenants have used: for bills, quotas and capacity plans.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

UserToken = Annotated[
    str,
    typer.Option(
        help="API key or token: with the scope `operator` for all tenants, else for its own; "
        "better given in the environment, as the list of processes shows options.",
        envvar="SANA_TOKEN",
        show_envvar=True,
    ),
]
When = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="From when: a time ago (24h, 30d), or a date (2026-11-01, 2026-11-01T12:00Z); rounded "
        "down to the hour. By default from the beginning.",
    ),
]
Until = Annotated[
    str, typer.Option(metavar="TIME", help="Up to when, likewise; by default up to now.")
]


@usage.callback()
def show_usage(
    by: Annotated[
        Literal["session", "tenant"], typer.Option(help="What a row is about.")
    ] = "session",
    since: When = "",
    until: Until = "",
    tenant: Annotated[str, typer.Option(help="Only of this tenant.")] = "",
    session: Annotated[str, typer.Option(help="Only of this session.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for a spreadsheet.")] = False,
    as_json: AsJson = False,
    address: Address = HERE,
    token: UserToken = "",
    tls: Tls = False,
    ca: Ca = None,
) -> None:
    """Print what was used, by session or by tenant."""
    request = usage_pb2.ReadUsageRequest(
        by=_BY[by], tenant=tenant, session_id=session, page_size=_PAGE
    )
    now = dt.datetime.now(dt.UTC)
    for name, text in (("since", since), ("until", until)):
        if text:
            getattr(request, name).FromDatetime(moment(text, f"--{name}", now))
    with asking(usage_pb2_grpc.UsageServiceStub, address, tls=tls, ca=ca) as stub:
        rows = _rows(stub, request, token)
        if as_csv:
            written = csv.writer(sys.stdout)
            written.writerow(COLUMNS)
            written.writerows([column(row) for column in COLUMNS.values()] for row in rows)
        elif as_json:
            for row in rows:
                typer.echo(json_format.MessageToJson(row, indent=None))
        else:
            show(_table(rows))


def moment(text: str, name: str, now: dt.datetime) -> dt.datetime:
    """Reads a time ago, or a date; without a zone it is UTC.

    Args:
        text: As given.
        name: The option, for the error.
        now: The present.

    Raises:
        ConfigurationError: It has another form.
    """
    try:
        read = dt.datetime.fromisoformat(text)
    except ValueError:
        return now - dt.timedelta(seconds=values.seconds(text, name))
    try:
        return read if read.tzinfo else read.replace(tzinfo=dt.UTC)
    except OverflowError:
        raise ConfigurationError(f"{name} is out of range") from None


def _rows(
    stub: Any,  # noqa: ANN401 - generated, without types
    request: usage_pb2.ReadUsageRequest,
    token: str,
) -> Iterator[usage_pb2.UsageRow]:
    while True:
        answer = stub.ReadUsage(request, metadata=metadata(token), timeout=ANSWER_S)
        yield from answer.rows
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def _table(rows: Iterator[usage_pb2.UsageRow]) -> Table:
    table = Table(
        "tenant", "session", "model", "chunks", "minutes", "GPU s", "spent GPU s", "MB out"
    )
    for row in rows:
        table.add_row(
            row.tenant,
            row.session_id,
            row.model,
            str(row.chunks),
            f"{row.streamed_us / 60e6:.1f}",
            f"{row.compute_us / 1e6:.1f}",
            f"{row.spent_us / 1e6:.1f}",
            f"{row.bytes_out / 1e6:.1f}",
        )
    return table
