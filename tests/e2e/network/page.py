"""Serves the browser's page on the service's host: `python -m tests.e2e.network.page HOST`.

Prints its address as a JSON object, and ends with standard input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.e2e.browser.site import served

FOLDER = Path(__file__).resolve().parents[1]


def serve(host: str) -> None:
    """Serves until standard input ends."""
    with served(FOLDER, host) as origin:
        print(json.dumps({"origin": origin}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve(sys.argv[1])
