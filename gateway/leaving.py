"""Waits until the clients of a gateway have left: `python -m gateway.leaving --port 8080`.

Run before a gateway is told to end (Kubernetes: `preStop`), when no new clients are sent to it
any more: those that it has end their sessions, or come back through another gateway, in their own
time. Reads `/metrics` of the gateway on this machine; one that does not answer has no clients.
"""

from __future__ import annotations

import argparse
import ssl
import time
import urllib.request
from collections.abc import Callable
from typing import Final

CONNECTIONS: Final = "sana_gateway_connections"
"""The metric that counts clients; with media workers there is a sample of each."""
_INTERVAL_S: Final = 2.0
_ANSWER_S: Final = 5.0


def connections(metrics: str) -> int:
    """Returns how many clients there are, of the text of `/metrics`."""
    samples = (line for line in metrics.splitlines() if line.startswith(CONNECTIONS))
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in samples
        if line[len(CONNECTIONS) : len(CONNECTIONS) + 1] in {" ", "{"}
    )


def wait(
    left: Callable[[], int],
    at_most: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Returns when nobody is left, or time is over.

    Args:
        left: Tells how many there are.
        at_most: Seconds.
        clock: Tells the time, in seconds.
        sleep: Waits.

    Returns:
        How many there were at last.
    """
    end = clock() + at_most
    while (count := left()) and clock() < end:
        sleep(min(_INTERVAL_S, max(0.0, end - clock())))
    return count


def ask(url: str) -> int:
    """Returns how many clients the gateway at this URL has; none if it does not answer."""
    # It is this machine's own, whatever name its certificate is made out to.
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_S, context=unverified) as answer:  # noqa: S310 - http or https, see main
            return connections(answer.read().decode(errors="replace"))
    except OSError:
        return 0


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="port of HTTP")
    parser.add_argument("--tls", action="store_true", help="it answers HTTPS")
    parser.add_argument("--notice", type=float, default=0.0, help="seconds to wait first")
    parser.add_argument("--at-most", type=float, default=600.0, help="seconds to wait then")
    chosen = parser.parse_args(arguments)
    # Load balancers notice that this gateway leaves; nobody new comes after that.
    time.sleep(chosen.notice)
    url = f"{'https' if chosen.tls else 'http'}://127.0.0.1:{chosen.port}/metrics"
    wait(lambda: ask(url), chosen.at_most)


if __name__ == "__main__":
    main()
