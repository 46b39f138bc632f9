"""`sana-gateway serve health`: answers for the parts of a machine whose processes others start."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import structlog
import typer

from scheduler.health_listener import LOOPBACK, HealthListener
from scheduler.process.logging import configure_logging
from scheduler.process.vital_signs import FOLDER

log = structlog.get_logger(__name__)

_EXAMPLES = f"""Examples:

\b
  export {FOLDER}=/run/sana      # in the environment of Ray's node, too
  sana-gateway serve health --host 0.0.0.0 --port 9400
  curl http://127.0.0.1:9400/readyz
"""

health = typer.Typer(
    help="Answer probes and scrapers for the scheduler and the model actors of this machine.",
    invoke_without_command=True,
    rich_markup_mode=None,
    epilog=_EXAMPLES,
)


@health.callback()
def serve_health(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0: a free one.")] = 9400,
    needs: Annotated[
        list[str] | None,
        typer.Option(
            "--needs",
            help="What has to serve for /readyz: `scheduler`, `actor`; repeatable. By default "
            "anything.",
            show_default=False,
        ),
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the URL here, as JSON, once it listens.")
    ] = None,
) -> None:
    """Answer /livez, /readyz, /startupz and /metrics until stopped.

    `serve head` and `serve actor` do so themselves with --health-port. This is for machines whose
    Ray node others start, as KubeRay does: run it beside the node, with the variable SANA_VITALS
    naming one folder for both.
    """
    configure_logging("info", service="health")
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    listener = HealthListener(host, port, role="health", needs=needs or ())
    try:
        listener.serves(lambda: True)
        if ready_file is not None:
            ready_file.write_text(f'{{"health": "{listener.url}"}}\n')
        over.wait()
    finally:
        listener.stop()
