"""Waiting for the clients of a gateway that is about to end."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from gateway import leaving

pytestmark = pytest.mark.unit

METRICS = """# HELP sana_gateway_connections Connections to sessions here, over any wire.
# TYPE sana_gateway_connections gauge
sana_gateway_connections{worker="0"} 2.0
sana_gateway_connections{worker="1"} 3.0
sana_gateway_connections_of_another_kind 40.0
sana_gateway_sessions{status="ready"} 7.0
"""


@pytest.fixture
def port() -> Iterator[int]:
    class Metrics(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(METRICS.encode())

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Metrics)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_connections_of_all_media_workers_count_and_nothing_else() -> None:
    assert leaving.connections(METRICS) == 5
    assert leaving.connections("sana_gateway_connections 4.0\n") == 4
    assert leaving.connections("") == 0


def test_it_ends_when_the_last_client_has_left() -> None:
    counts = iter([2, 1, 0, 5])
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    assert leaving.wait(lambda: next(counts), 60.0, clock=lambda: now[0], sleep=sleep) == 0
    assert slept == [2.0, 2.0]


def test_it_ends_when_its_time_is_over() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    assert leaving.wait(lambda: 3, 5.0, clock=lambda: now[0], sleep=sleep) == 3
    assert now[0] == pytest.approx(5.0)


def test_the_gateway_of_this_machine_is_asked(port: int) -> None:
    assert leaving.ask(f"http://127.0.0.1:{port}/metrics") == 5


def test_a_gateway_that_does_not_answer_has_no_clients(port: int) -> None:
    assert leaving.ask(f"https://127.0.0.1:{port}/metrics") == 0
    leaving.main(["--port=1", "--at-most=60"])
