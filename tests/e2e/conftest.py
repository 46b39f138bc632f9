"""The whole service, started once for all end-to-end tests of a kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack import Stack, serving


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The service as `make demo` runs it: Ray, `painter`, WebRTC, gRPC."""
    with serving("--model", "painter") as running:
        yield running


@pytest.fixture(scope="session")
def simulated() -> Iterator[Stack]:
    """The service with the model that writes a frame marker, without Ray."""
    with serving(
        "--model", "simulated", "--model-option", "chunk_ms=100", "--backend", "in-process"
    ) as running:
        yield running
