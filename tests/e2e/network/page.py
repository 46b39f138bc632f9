"""Serves the browser's page on the service's host: `python -m tests.e2e.network.page HOST`.

Prints its address as a JSON object, and ends with standard input.
"""

from __future__ import annotations

import functools
import http.server
import json
import sys
import threading
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "browser"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        """Says nothing."""


def serve(host: str) -> None:
    """Serves until standard input ends."""
    handler = functools.partial(_Quiet, directory=str(FOLDER))
    with http.server.ThreadingHTTPServer((host, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(json.dumps({"origin": f"http://{host}:{server.server_port}"}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve(sys.argv[1])
